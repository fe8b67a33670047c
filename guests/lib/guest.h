/*
 * The runtime that our guest kernels share: hypercalls, text, memory, traps, events, time, verdicts.
 * One vCPU, one address space and no allocator worth the name: a guest here is a page or two of C.
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#define __XEN_INTERFACE_VERSION__ 0x00040e00
#include <xen/xen.h>
#include <xen/errno.h>
#include <xen/callback.h>
#include <xen/event_channel.h>
#include <xen/features.h>
#include <xen/grant_table.h>
#include <xen/memory.h>
#include <xen/physdev.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/version.h>
#include <xen/io/console.h>

typedef uint64_t u64;
typedef int64_t s64;
typedef uint32_t u32;
typedef uint16_t u16;
typedef uint8_t u8;

#define PAGE_SIZE 4096ul
#define PAGE_MASK (~(PAGE_SIZE - 1))
#define PAGE_ALIGNED __attribute__((aligned(4096)))

/* Page-table entry bits. */
#define PTE_P 0x001ul
#define PTE_W 0x002ul
#define PTE_U 0x004ul
#define PTE_A 0x020ul
#define PTE_D 0x040ul
#define PTE_FRAME 0x000ffffffffff000ul
#define PTE_NX (1ul << 63)
#define PTE_RW (PTE_P | PTE_W | PTE_U | PTE_A | PTE_D)
#define PTE_RO (PTE_P | PTE_U | PTE_A)

/* --- start.S --------------------------------------------------------------------------------------------------------------- */

extern start_info_t *start_info;
extern char hypercall_page[4096];
extern char virt_base[];  /* where pfn 0 is mapped (linker script) */
extern char image_end[];

void event_entry(void);
void failsafe_entry(void);
void syscall_entry(void);
extern void *const trap_entries[32];
extern void *const trap_entry_80;

/* --- hypercalls ------------------------------------------------------------------------------------------------------------ */

/* Through the hypercall page: `nr` must be a constant. */
static inline __attribute__((always_inline)) long hypercall(unsigned nr, u64 a1, u64 a2, u64 a3, u64 a4, u64 a5)
{
    long ret;
    register u64 r10 asm("r10") = a4;
    register u64 r8 asm("r8") = a5;
    asm volatile("call hypercall_page + %c[slot]"
                 : "=a"(ret), "+D"(a1), "+S"(a2), "+d"(a3), "+r"(r10), "+r"(r8)
                 : [slot] "i"(nr * 32)
                 : "rcx", "r11", "r9", "memory");
    return ret;
}

/* By the bare instruction, the number in rax: what Linux has done since it builds its own stubs. */
static inline long hypercall_raw(u64 nr, u64 a1, u64 a2, u64 a3, u64 a4, u64 a5)
{
    long ret = (long)nr;
    register u64 r10 asm("r10") = a4;
    register u64 r8 asm("r8") = a5;
    asm volatile("syscall"
                 : "+a"(ret), "+D"(a1), "+S"(a2), "+d"(a3), "+r"(r10), "+r"(r8)
                 :
                 : "rcx", "r11", "r9", "memory");
    return ret;
}

#define HC(name, a1, a2, a3, a4, a5) \
    hypercall(__HYPERVISOR_##name, (u64)(a1), (u64)(a2), (u64)(a3), (u64)(a4), (u64)(a5))
#define xen_version(cmd, arg) HC(xen_version, cmd, arg, 0, 0, 0)
#define console_io(cmd, n, p) HC(console_io, cmd, n, p, 0, 0)
#define sched_op(cmd, arg) HC(sched_op, cmd, arg, 0, 0, 0)
#define event_channel_op(cmd, arg) HC(event_channel_op, cmd, arg, 0, 0, 0)
#define grant_table_op(cmd, arg, n) HC(grant_table_op, cmd, arg, n, 0, 0)
#define memory_op(cmd, arg) HC(memory_op, cmd, arg, 0, 0, 0)
#define mmu_update(req, n, done, dom) HC(mmu_update, req, n, done, dom, 0)
#define mmuext_op(op, n, done, dom) HC(mmuext_op, op, n, done, dom, 0)
#define update_va_mapping(va, pte, flags) HC(update_va_mapping, va, pte, flags, 0, 0)
#define set_trap_table(t) HC(set_trap_table, t, 0, 0, 0, 0)
#define stack_switch(ss, sp) HC(stack_switch, ss, sp, 0, 0, 0)
#define vcpu_op(cmd, id, arg) HC(vcpu_op, cmd, id, arg, 0, 0)
#define set_timer_op(t) HC(set_timer_op, t, 0, 0, 0, 0)
#define vm_assist(cmd, type) HC(vm_assist, cmd, type, 0, 0, 0)
#define callback_op(cmd, arg) HC(callback_op, cmd, arg, 0, 0, 0)

/* --- text ------------------------------------------------------------------------------------------------------------------ */

/* Where text goes: console_io unless a guest sets another. */
extern void (*console_out)(const char *text, size_t length);
void console_io_out(const char *text, size_t length);
int printf(const char *format, ...) __attribute__((format(printf, 1, 2)));
int snprintf(char *to, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
int vsnprintf(char *to, size_t size, const char *format, va_list args);
void *memset(void *to, int c, size_t n);
void *memcpy(void *to, const void *from, size_t n);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);

/* The value of `name=` on the command line as a number, or as text; `other` / 0 if it is not there. */
u64 option(const char *name, u64 other);
int option_is(const char *name, const char *value);

/* --- the end --------------------------------------------------------------------------------------------------------------- */

extern const char guest_name[];
void shutdown(unsigned reason) __attribute__((noreturn));
void pass(void) __attribute__((noreturn));
void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* Each rule is a function that returns 0 where the rule holds, and why not where it does not. */
#define STRING_(x) #x
#define STRING(x) STRING_(x)
#define RULE(name) static const char *name(void)
#define EXPECT(what) \
    do { \
        if (!(what)) return __FILE_NAME__ ":" STRING(__LINE__) ": " #what; \
    } while (0)
/* As EXPECT(expr == value), and the reason says what there was instead. */
#define EXPECT_IS(expr, value) \
    do { \
        long is_ = (long)(expr), want_ = (long)(value); \
        if (is_ != want_) return mismatch(__FILE_NAME__ ":" STRING(__LINE__) ": " #expr, is_, want_); \
    } while (0)
const char *mismatch(const char *what, long is, long want);

struct rule {
    const char *name;
    const char *(*check)(void);
};
/* Check every rule, print `ok N name` or `not ok N name: why`, end with the verdict. */
void run_rules(const struct rule *rules, size_t n) __attribute__((noreturn));
#define RUN_RULES(...) \
    do { \
        static const struct rule rules_[] = { __VA_ARGS__ }; \
        run_rules(rules_, sizeof rules_ / sizeof rules_[0]); \
    } while (0)

/* --- memory ---------------------------------------------------------------------------------------------------------------- */

#define m2p ((const volatile u64 *)MACH2PHYS_VIRT_START)
static inline u64 *p2m(void) { return (u64 *)start_info->mfn_list; }
static inline u64 virt_to_pfn(const volatile void *p) { return ((u64)p - (u64)virt_base) / PAGE_SIZE; }
static inline u64 virt_to_mfn(const volatile void *p) { return p2m()[virt_to_pfn(p)]; }
static inline void *pfn_to_virt(u64 pfn) { return virt_base + pfn * PAGE_SIZE; }
static inline void *mfn_to_virt(u64 mfn) { return pfn_to_virt(m2p[mfn]); }

/* The machine frame of the page table of `level` (1 … 4) that translates `va`; the tables of the boot are all in the initial mapping. */
u64 table_of(u64 va, int level);
static inline unsigned table_index(u64 va, int level) { return (va >> (12 + 9 * (level - 1))) & 511; }
/* The entry for `va` in its L1: read it here, never write it. */
static inline const volatile u64 *pte_of(u64 va)
{
    return (const volatile u64 *)mfn_to_virt(table_of(va, 1)) + table_index(va, 1);
}
static inline u64 pte_machine(u64 va) { return table_of(va, 1) * PAGE_SIZE + 8 * table_index(va, 1); }

/* Give a page of ours other rights (PTE_RW, PTE_RO, 0: none) at its own address. */
long protect(void *page, u64 bits);
/* Fresh zeroed pages out of the boot mapping's padding (at least 100 of them). */
void *alloc_page(void);

/* Map shared_info (over a page of the image) and hence find vcpu_info. */
extern shared_info_t *shared_info;
void map_shared_info(void);
static inline vcpu_info_t *vcpu_info(unsigned cpu) { return (vcpu_info_t *)&shared_info->vcpu_info[cpu]; }

/* --- vCPUs --------------------------------------------------------------------------------------------------------------- */

/* 0 or 1, by the stack that is in use. */
unsigned this_cpu(void);
/* VCPUOP_initialise for vCPU 1: it will run `main` on a stack of its own, with our traps and callbacks, events masked. */
long init_vcpu1(void (*main)(void));

/* --- traps ----------------------------------------------------------------------------------------------------------------- */

/* What the entry code has on the stack. `vector`: 0 … 31, 0x80, or one of the next three. */
#define VECTOR_EVENT 256
#define VECTOR_FAILSAFE 257
#define VECTOR_SYSCALL 258
struct regs {
    u64 r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
    u64 vector, error;
    u64 rip, cs, rflags, rsp, ss;
};
typedef void trap_handler(struct regs *r);
/* Handlers by vector; a trap without one is the end: FAIL, with registers. */
extern trap_handler *handlers[VECTOR_SYSCALL + 1];
/* Register the trap table and the callbacks; traps 3, 4 and 0x80 are open to user mode. */
void init_traps(void);
extern char kernel_stack[];
extern char kernel_stack_top[];

/* Run one instruction that may fault: `tried.vector` is −1 if it did not. */
struct tried {
    long vector;
    u64 error, cr2, rip;
};
extern volatile struct tried tried;
extern volatile u64 try_fixup;
#define TRY(instruction, outputs, ...) \
    do { \
        tried.vector = -1; \
        asm volatile("movq $9f, try_fixup\n\t" instruction "\n9:\n\tmovq $0, try_fixup" : outputs : __VA_ARGS__ : "memory", "cc"); \
    } while (0)
#define NOTHING
#define COMMA ,
static inline long try_write(volatile void *p, u8 value)
{
    TRY("movb %1, (%0)", NOTHING, "r"(p), "q"(value));
    return tried.vector;
}
static inline long try_read(const volatile void *p)
{
    u8 value;
    TRY("movb (%1), %0", "=&q"(value), "r"(p));
    return tried.vector;
}
void print_regs(const struct regs *r);

/* --- events ---------------------------------------------------------------------------------------------------------------- */

/* Handlers by port, called by the upcall with events masked; each port's pending bit is already cleared. */
typedef void event_handler(u32 port);
extern event_handler *event_handlers[4096];
/* Map shared_info if need be, set the upcall, unmask. */
void init_events(void);
static inline void events_mask(void)
{
    vcpu_info(this_cpu())->evtchn_upcall_mask = 1;
    asm volatile("" ::: "memory");
}
/* Unmask, and take what has come meanwhile. */
void events_unmask(void);
static inline int test_bit(unsigned n, const volatile unsigned long *bits) { return bits[n / 64] >> (n % 64) & 1; }
static inline void set_bit(unsigned n, volatile unsigned long *bits)
{
    asm volatile("lock btsq %1, %0" : "+m"(bits[n / 64]) : "r"((u64)n % 64) : "cc", "memory");
}
static inline void clear_bit(unsigned n, volatile unsigned long *bits)
{
    asm volatile("lock btrq %1, %0" : "+m"(bits[n / 64]) : "r"((u64)n % 64) : "cc", "memory");
}
static inline int test_and_clear_bit(unsigned n, volatile unsigned long *bits)
{
    u8 was;
    asm volatile("lock btrq %2, %0; setc %1" : "+m"(bits[n / 64]), "=q"(was) : "r"((u64)n % 64) : "cc", "memory");
    return was;
}
static inline void barrier(void) { asm volatile("mfence" ::: "memory"); }
/* Let an event port through (two-level ABI), with the hypercall if it is pending. */
void port_unmask(u32 port);
static inline void port_mask(u32 port) { set_bit(port, shared_info->evtchn_mask); }
long port_send(u32 port);
long port_close(u32 port);
/* A loopback: two ports of this domain bound to each other. Returns 0 or the error. */
long port_pair(u32 *a, u32 *b);
long port_virq(u32 virq, u32 vcpu);
/* Our own number: nobody tells a guest without XenStore, but EVTCHNOP_status of a port offered to DOMID_SELF shows it. */
domid_t own_domid(void);

/* --- time ------------------------------------------------------------------------------------------------------------------ */

static inline u64 rdtsc(void)
{
    u32 lo, hi;
    asm volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return (u64)hi << 32 | lo;
}
/* Nanoseconds since the host's start, by vcpu_time_info's version protocol. */
u64 system_time(void);
u64 tsc_to_ns(const volatile vcpu_time_info_t *t, u64 ticks);
/* Sleep by SCHEDOP_poll with no port: wakes at the timeout. */
void sleep_ns(u64 ns);

void guest_main(void) __attribute__((noreturn));

#endif
