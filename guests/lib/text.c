/* Text: formatting, output, the command line. */
#include "guest.h"

void *memset(void *to, int c, size_t n)
{
    void *d = to;
    asm volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
    return to;
}

void *memcpy(void *to, const void *from, size_t n)
{
    void *d = to;
    asm volatile("rep movsb" : "+D"(d), "+S"(from), "+c"(n) : : "memory");
    return to;
}

size_t strlen(const char *s)
{
    size_t n = 0;
    while (s[n]) n++;
    return n;
}

int strncmp(const char *a, const char *b, size_t n)
{
    for (; n > 0; a++, b++, n--)
        if (*a != *b || *a == 0) return (u8)*a - (u8)*b;
    return 0;
}

int strcmp(const char *a, const char *b) { return strncmp(a, b, ~0ul); }

struct out {
    char *to;
    size_t size, n;
};

static void put(struct out *o, char c)
{
    if (o->n + 1 < o->size) o->to[o->n] = c;
    o->n++;
}

static void put_number(struct out *o, u64 v, unsigned base, int negative, int width, char fill)
{
    char digits[24];
    int n = 0;
    do digits[n++] = "0123456789abcdef"[v % base];
    while (v /= base);
    if (negative) digits[n++] = '-';
    for (int i = n; i < width; i++) put(o, fill);
    while (n > 0) put(o, digits[--n]);
}

/* %d %u %x %ld %lu %lx %p %s %c %%, with a width, zero-filled if it starts with 0. */
int vsnprintf(char *to, size_t size, const char *f, va_list args)
{
    struct out o = { to, size, 0 };
    for (; *f; f++) {
        if (*f != '%') {
            put(&o, *f);
            continue;
        }
        char fill = *++f == '0' ? '0' : ' ';
        int width = 0, wide = 0;
        for (; *f >= '0' && *f <= '9'; f++) width = width * 10 + *f - '0';
        for (; *f == 'l' || *f == 'z'; f++) wide = 1;
        switch (*f) {
        case 'd': {
            s64 v = wide ? va_arg(args, s64) : va_arg(args, int);
            put_number(&o, v < 0 ? -(u64)v : (u64)v, 10, v < 0, width, fill);
            break;
        }
        case 'u':
        case 'x':
            put_number(&o, wide ? va_arg(args, u64) : va_arg(args, u32), *f == 'x' ? 16 : 10, 0, width, fill);
            break;
        case 'p':
            put(&o, '0');
            put(&o, 'x');
            put_number(&o, va_arg(args, u64), 16, 0, width, '0');
            break;
        case 's':
            for (const char *s = va_arg(args, const char *); *s; s++, width--) put(&o, *s);
            for (; width > 0; width--) put(&o, ' ');
            break;
        case 'c':
            put(&o, (char)va_arg(args, int));
            break;
        default:
            put(&o, *f);
        }
    }
    if (size > 0) to[o.n < size ? o.n : size - 1] = 0;
    return (int)o.n;
}

int snprintf(char *to, size_t size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(to, size, format, args);
    va_end(args);
    return n;
}

void console_io_out(const char *text, size_t length) { console_io(CONSOLEIO_write, length, text); }
void (*console_out)(const char *text, size_t length) = console_io_out;

int printf(const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    console_out(line, n < (int)sizeof line ? (size_t)n : sizeof line - 1);
    return n;
}

static const char *find(const char *name)
{
    size_t n = strlen(name);
    const char *s = (const char *)start_info->cmd_line;
    while (*s) {
        while (*s == ' ') s++;
        if (!strncmp(s, name, n) && s[n] == '=') return s + n + 1;
        while (*s && *s != ' ') s++;
    }
    return 0;
}

u64 option(const char *name, u64 other)
{
    const char *s = find(name);
    if (!s || *s < '0' || *s > '9') return other;
    u64 v = 0;
    for (; *s >= '0' && *s <= '9'; s++) v = v * 10 + (u64)(*s - '0');
    return v;
}

int option_is(const char *name, const char *value)
{
    const char *s = find(name);
    size_t n = strlen(value);
    return s && !strncmp(s, value, n) && (s[n] == 0 || s[n] == ' ');
}

/* --- the end --- */

void shutdown(unsigned reason)
{
    struct sched_shutdown s = { .reason = reason };
    for (;;) sched_op(SCHEDOP_shutdown, &s);
}

void pass(void)
{
    printf("PASS: %s\n", guest_name);
    shutdown(SHUTDOWN_poweroff);
}

void fail(const char *format, ...)
{
    char why[256];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    printf("FAIL: %s: %s\n", guest_name, why);
    shutdown(SHUTDOWN_crash);
}

const char *mismatch(const char *what, long is, long want)
{
    static char text[256];
    if (is > -4096 && is < 4096) snprintf(text, sizeof text, "%s is %ld, not %ld", what, is, want);
    else snprintf(text, sizeof text, "%s is 0x%lx, not 0x%lx", what, is, want);
    return text;
}

void run_rules(const struct rule *rules, size_t n)
{
    static char first[256];
    printf("1..%zu\n", n);
    for (size_t i = 0; i < n; i++) {
        const char *why = rules[i].check();
        if (!why) printf("ok %zu %s\n", i + 1, rules[i].name);
        else {
            printf("not ok %zu %s: %s\n", i + 1, rules[i].name, why);
            if (!first[0]) snprintf(first, sizeof first, "%s: %s", rules[i].name, why);
        }
    }
    if (first[0]) fail("%s", first);
    pass();
}
