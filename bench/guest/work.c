/*
 * Small user programs for the bench in one static binary without a C library: `work NAME N`. Prints one line with a result that does not depend
 * on where it runs, so that both sides can be compared with each other and with the host.
 *
 *   getppid N     system calls            pingpong N    bytes there and back between two processes
 *   fault N       pages of anonymous memory touched for the first time
 *   sse N, x87 N  products of two 64 x 64 matrices of doubles
 *   text N, lines N   N bytes of words, N numbers in no order: input for awk and sort
 *   NAME N        a kernel of kernels.c
 */
typedef unsigned long u64;
typedef unsigned int u32;
struct kernel { const char *name; u64 (*run)(u64); };
extern const struct kernel kernels[];

/* --- the system --- */

enum { SYS_read = 0, SYS_write = 1, SYS_mmap = 9, SYS_munmap = 11, SYS_pipe = 22, SYS_fork = 57, SYS_exit = 60, SYS_wait4 = 61, SYS_getppid = 110, SYS_clock_gettime = 228 };

static inline long sys(long n, long a, long b, long c, long d, long e, long f) {
  register long r10 asm("r10") = d, r8 asm("r8") = e, r9 asm("r9") = f;
  long r;
  asm volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
  return r;
}
static void put(const char *s, u64 n) {
  while (n > 0) {
    long r = sys(SYS_write, 1, (long)s, (long)n, 0, 0, 0);
    if (r <= 0) sys(SYS_exit, 2, 0, 0, 0, 0, 0);
    s += r;
    n -= (u64)r;
  }
}
static char *digits(char *end, u64 n) {
  do *--end = (char)('0' + n % 10); while ((n /= 10) != 0);
  return end;
}
static void print(u64 n) {
  char text[24];
  text[23] = '\n';
  char *p = digits(text + 23, n);
  put(p, (u64)(text + 24 - p));
}
static void die(const char *why) {
  u64 n = 0;
  while (why[n]) n++;
  sys(SYS_write, 2, (long)why, (long)n, 0, 0, 0);
  sys(SYS_exit, 1, 0, 0, 0, 0, 0);
}
static int same(const char *a, const char *b) {
  while (*a && *a == *b) a++, b++;
  return *a == *b;
}
void *memcpy(void *d, const void *s, u64 n) {
  char *a = d;
  const char *b = s;
  while (n--) *a++ = *b++;
  return d;
}
void *memset(void *d, int c, u64 n) {
  char *a = d;
  while (n--) *a++ = (char)c;
  return d;
}

/* --- works --- */

static u64 getppid_calls(u64 n) {
  long first = sys(SYS_getppid, 0, 0, 0, 0, 0, 0);
  for (u64 i = 1; i < n; i++) if (sys(SYS_getppid, 0, 0, 0, 0, 0, 0) != first) die("getppid\n");
  return n;
}
static u64 pingpong(u64 n) {
  int there[2], back[2];
  if (sys(SYS_pipe, (long)there, 0, 0, 0, 0, 0) || sys(SYS_pipe, (long)back, 0, 0, 0, 0, 0)) die("pipe\n");
  long child = sys(SYS_fork, 0, 0, 0, 0, 0, 0);
  char c = 0;
  for (u64 i = 0; i < n; i++) {
    if (child == 0) {
      if (sys(SYS_read, there[0], (long)&c, 1, 0, 0, 0) != 1) die("read\n");
      c++;
      if (sys(SYS_write, back[1], (long)&c, 1, 0, 0, 0) != 1) die("write\n");
    } else {
      if (sys(SYS_write, there[1], (long)&c, 1, 0, 0, 0) != 1) die("write\n");
      if (sys(SYS_read, back[0], (long)&c, 1, 0, 0, 0) != 1) die("read\n");
    }
  }
  if (child == 0) sys(SYS_exit, 0, 0, 0, 0, 0, 0);
  sys(SYS_wait4, child, 0, 0, 0, 0, 0);
  return (unsigned char)c;
}
static u64 clock_ns(void) {
  long t[2];
  sys(SYS_clock_gettime, 1, (long)t, 0, 0, 0, 0);
  return (u64)t[0] * 1000000000ul + (u64)t[1];
}
/* What the touches alone took by the guest's clock goes to standard error. */
static u64 fault(u64 pages) {
  const u64 chunk = 1024;
  u64 ns = 0;
  for (u64 done = 0; done < pages; done += chunk) {
    char *p = (char *)sys(SYS_mmap, 0, (long)(chunk * 4096), 3, 0x22, -1, 0);
    if ((u64)p > ~4096ul) die("mmap\n");
    u64 start = clock_ns();
    for (u64 i = 0; i < chunk; i++) p[i * 4096] = 1;
    ns += clock_ns() - start;
    sys(SYS_munmap, (long)p, (long)(chunk * 4096), 0, 0, 0, 0);
  }
  char d[24];
  char *text = digits(d + 24, ns);
  sys(SYS_write, 2, (long)text, d + 24 - text, 0, 0, 0);
  return pages;
}

#define ORDER 64
static double a[ORDER][ORDER] __attribute__((aligned(64))), b[ORDER][ORDER] __attribute__((aligned(64))), c[ORDER][ORDER] __attribute__((aligned(64)));
static void fill(void) {
  for (int i = 0; i < ORDER; i++) for (int j = 0; j < ORDER; j++) { a[i][j] = (i * 7 + j * 3) % 11 - 5; b[i][j] = (i * 5 + j) % 13 - 6; }
}
/* Small whole numbers: exact in any precision, so that SSE2 and x87 give the same. */
static u64 checksum(void) {
  u64 s = 0;
  for (int i = 0; i < ORDER; i++) for (int j = 0; j < ORDER; j++) s = s * 31 + (u64)(long)c[i][j];
  return s;
}
typedef double pair __attribute__((vector_size(16)));
static u64 sse(u64 n) {
  fill();
  for (u64 k = 0; k < n; k++) {
    for (int i = 0; i < ORDER; i++)
      for (int j = 0; j < ORDER; j += 2) {
        pair t = {0, 0};
        for (int l = 0; l < ORDER; l++) t += (pair){a[i][l], a[i][l]} * *(pair *)&b[l][j];
        *(pair *)&c[i][j] = t;
      }
    asm volatile("" ::: "memory");
  }
  return checksum();
}
/* c[i][j] = the product of row i and column j, on the x87 stack. */
static void x87_cell(const double *row, const double *column, double *to) {
  long l = ORDER;
  asm volatile("fldz\n1: fldl (%0)\n fmull (%1)\n faddp\n addq $8, %0\n addq %4, %1\n decq %2\n jnz 1b\n fstpl (%3)"
               : "+r"(row), "+r"(column), "+r"(l) : "r"(to), "i"(ORDER * 8) : "memory", "cc", "st");
}
static u64 x87(u64 n) {
  fill();
  for (u64 k = 0; k < n; k++)
    for (int i = 0; i < ORDER; i++) for (int j = 0; j < ORDER; j++) x87_cell(a[i], &b[0][j], &c[i][j]);
  return checksum();
}

static u64 state = 88172645463325252UL;
static u64 number(void) {
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}
static char buffer[65536];
/* Lines of five columns: words and numbers. */
static void text(u64 bytes) {
  static const char *const words[8] = {"domain", "event", "grant", "ring", "frame", "page", "vcpu", "store"};
  u64 at = 0, done = 0;
  for (; done + at < bytes;) {
    if (at > sizeof buffer - 256) { put(buffer, at); done += at; at = 0; }
    for (int i = 0; i < 5; i++) {
      u64 r = number();
      char d[24];
      if (i & 1) for (char *p = digits(d + 24, r % 100000); p < d + 24;) buffer[at++] = *p++;
      else for (const char *p = words[r & 7]; *p;) buffer[at++] = *p++;
      buffer[at++] = i < 4 ? ' ' : '\n';
    }
  }
  put(buffer, at);
}
static void lines(u64 n) {
  u64 at = 0;
  for (u64 i = 0; i < n; i++) {
    char d[24];
    if (at > sizeof buffer - 32) { put(buffer, at); at = 0; }
    for (char *p = digits(d + 24, number() % 100000000); p < d + 24;) buffer[at++] = *p++;
    buffer[at++] = '\n';
  }
  put(buffer, at);
}

void begin(long *stack) {
  if (stack[0] != 3) die("work NAME N\n");
  const char *name = (const char *)stack[2];
  u64 n = 0;
  for (const char *p = (const char *)stack[3]; *p >= '0' && *p <= '9'; p++) n = n * 10 + (u64)(*p - '0');
  static const struct kernel works[] = {{"getppid", getppid_calls}, {"pingpong", pingpong}, {"fault", fault}, {"sse", sse}, {"x87", x87}, {0, 0}};
  if (same(name, "text")) text(n);
  else if (same(name, "lines")) lines(n);
  else {
    const struct kernel *w = works;
    while (w->name && !same(w->name, name)) w++;
    if (!w->name) for (w = kernels; w->name && !same(w->name, name);) w++;
    if (!w->name) die("no such work\n");
    print(w->run(n));
  }
  sys(SYS_exit, 0, 0, 0, 0, 0, 0);
}
asm(".globl _start\n_start: xorl %ebp, %ebp\n movq %rsp, %rdi\n andq $-16, %rsp\n call begin\n hlt\n");
