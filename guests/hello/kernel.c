/* Exercise 2.8, the simplest kernel: say something, and end. */
#define __XEN_INTERFACE_VERSION__ 0x00040e00
#include <stdint.h>
#include <xen/xen.h>
#include <xen/sched.h>

#ifdef LEGACY
#define NAME "hello-legacy"
#else
#define NAME "hello"
#endif

extern char hypercall_page[];

/* A hypercall as a call into the hypercall page: 32 bytes a number. */
static long call3(long number, long a1, long a2, const void *a3)
{
    long ret;
    asm volatile("call *%[entry]"
                 : "=a"(ret), "+D"(a1), "+S"(a2), "+d"(a3)
                 : [entry] "b"(hypercall_page + number * 32)
                 : "rcx", "r8", "r9", "r10", "r11", "memory");
    return ret;
}

/* The same without the page: number in rax, `syscall`. */
static long raw3(long number, long a1, long a2, const void *a3)
{
    asm volatile("syscall"
                 : "+a"(number), "+D"(a1), "+S"(a2), "+d"(a3)
                 :
                 : "rcx", "r8", "r9", "r10", "r11", "memory");
    return number;
}

#define WRITE(call, text) call(__HYPERVISOR_console_io, CONSOLEIO_write, sizeof(text) - 1, text)

void kernel(const start_info_t *info)
{
    struct sched_shutdown off = { .reason = SHUTDOWN_poweroff };
    if (info->magic[0] != 'x' || info->nr_pages == 0) off.reason = SHUTDOWN_crash;
    WRITE(call3, "Hello world!\n");
    WRITE(raw3, "Hello again, by a bare syscall.\n");
    if (off.reason == SHUTDOWN_poweroff) WRITE(call3, "PASS: " NAME "\n");
    else WRITE(call3, "FAIL: " NAME ": start_info has no magic\n");
    call3(__HYPERVISOR_sched_op, SCHEDOP_shutdown, (long)&off, 0);
    for (;;) { }
}
