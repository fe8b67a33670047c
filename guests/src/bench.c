/*
 * What things cost, in nanoseconds of system time: `bench NAME NS`, one line each.
 * Every loop runs once unmeasured, so that what is measured is translated code, on a host that is warm too.
 * With `role=a peer=N` and `role=b peer=N` two of them send each other events instead.
 */
#include "user.h"

const char guest_name[] = "bench";

static u64 started;
static void report(const char *name, u64 n)
{
    u64 tenths = (system_time() - started) * 10 / n;
    printf("bench %s %lu.%lu\n", name, tenths / 10, tenths % 10);
}

/* Run `loop` twice, the first time unmeasured. */
#define BENCH(name, n, loop) \
    do { \
        loop(n); \
        started = system_time(); \
        loop(n); \
        report(name, n); \
    } while (0)

static void empty(u64 n)
{
    for (u64 i = 0; i < n; i++) asm volatile("");
}
static void clock_read(u64 n)
{
    for (u64 i = 0; i < n; i++) system_time();
}
static void hypercall_page_call(u64 n)
{
    for (u64 i = 0; i < n; i++) xen_version(XENVER_version, 0);
}
static void hypercall_bare(u64 n)
{
    for (u64 i = 0; i < n; i++) hypercall_raw(__HYPERVISOR_xen_version, XENVER_version, 0, 0, 0, 0);
}

/* --- events --- */

static u32 from, to;
static volatile u64 received;
static void receive(u32 port)
{
    (void)port;
    received++;
}
static void event_to_self(u64 n)
{
    received = 0;
    for (u64 i = 0; i < n; i++) port_send(from);
    if (received != n) fail("%lu events of %lu", received, n);
}

/* Two domains: an event is sent, its sender blocks, the upcall wakes the other, which sends one back. */
static void wait_received(u64 n)
{
    for (;;) {
        events_mask();
        if (received >= n) break;
        sched_op(SCHEDOP_block, 0);
    }
    events_unmask();
}
static void there_and_back(u64 n)
{
    u64 before = received;
    for (u64 i = 1; i <= n; i++) {
        port_send(from);
        wait_received(before + i);
    }
}
#define TRIPS 20000
static void first_domain(domid_t peer)
{
    struct evtchn_alloc_unbound alloc = { .dom = DOMID_SELF, .remote_dom = peer };
    if (event_channel_op(EVTCHNOP_alloc_unbound, &alloc)) fail("alloc_unbound");
    from = alloc.port;
    event_handlers[from] = receive;
    port_unmask(from);
    wait_received(1);
    there_and_back(TRIPS);
    started = system_time();
    there_and_back(TRIPS);
    report("event-between-domains", 2 * TRIPS);
}
static void second_domain(domid_t peer)
{
    struct evtchn_bind_interdomain bind = { .remote_dom = peer };
    u64 end = system_time() + 20000000000ul;
    /* The peer's port is one of its first. */
    do {
        bind.remote_port = bind.remote_port % 31 + 1;
        if (system_time() > end) fail("domain %u offers no port", peer);
        if (bind.remote_port == 31) sleep_ns(1000000);
    } while (event_channel_op(EVTCHNOP_bind_interdomain, &bind));
    from = bind.local_port;
    clear_bit(from, shared_info->evtchn_pending);
    event_handlers[from] = receive;
    port_unmask(from);
    port_send(from);
    for (u64 i = 1; i <= 2 * TRIPS; i++) {
        wait_received(i);
        port_send(from);
    }
}

/* --- system calls --- */

asm(".pushsection .rodata\n"
    "user_start:\n"
    "user_loop: movl $1, %eax; syscall; decq %rdi; jnz user_loop\n"
    "xorl %eax, %eax; syscall\n"
    "user_end:\n"
    ".popsection\n"
    /* The shortest kernel: number 1 returns at once, anything else goes the long way. */
    "quick_syscall:\n"
    "    cmpl $1, %eax\n"
    "    jne syscall_entry\n"
    "    popq %rcx\n"
    "    popq %r11\n"
    "    pushq $0x100\n" /* VGCF_in_syscall */
    "    jmp hypercall_page + 23 * 32\n");
extern const char user_start[], user_end[];
void quick_syscall(void);

static void last_syscall(struct regs *r) { leave_user(r->rax); }
static void system_call(u64 n) { enter_user(USER_CODE, USER_STACK_TOP, n); }

/* --- memory --- */

#define WINDOW 128
static char *window; /* a stretch of addresses with an L1 and nothing in it */
static char filler[4096] PAGE_ALIGNED;
static u64 filler_pte;

static void map_on_demand(struct regs *r)
{
    u64 va = vcpu_info(0)->arch.cr2;
    if (va < (u64)window || va >= (u64)window + WINDOW * PAGE_SIZE) {
        print_regs(r);
        fail("page fault at %lx", va);
    }
    update_va_mapping(va & PAGE_MASK, filler_pte, UVMF_INVLPG | UVMF_LOCAL);
}

static void page_fault(u64 n)
{
    static struct mmu_update clear[WINDOW];
    u64 at = table_of((u64)window, 1) * PAGE_SIZE, spent = 0;
    for (u64 done = 0; done < n; done += WINDOW) {
        u64 t = system_time();
        for (int i = 0; i < WINDOW; i++) *(volatile char *)(window + (u64)i * PAGE_SIZE) = 1;
        spent += system_time() - t;
        for (int i = 0; i < WINDOW; i++) clear[i] = (struct mmu_update){ .ptr = at + 8 * (u64)i };
        if (mmu_update(clear, WINDOW, 0, DOMID_SELF)) fail("mmu_update");
        struct mmuext_op flush = { .cmd = MMUEXT_TLB_FLUSH_LOCAL };
        mmuext_op(&flush, 1, 0, DOMID_SELF);
    }
    started = system_time() - spent; /* without the clearing */
}

static void mmu_updates(u64 n)
{
    static struct mmu_update u[WINDOW];
    for (int i = 0; i < WINDOW; i++) u[i] = (struct mmu_update){ .ptr = pte_machine((u64)filler), .val = filler_pte };
    for (u64 done = 0; done < n; done += WINDOW) mmu_update(u, WINDOW, 0, DOMID_SELF);
}

static u64 root, root2;
static void context_switch(u64 n)
{
    for (u64 i = 0; i < n; i++) {
        struct mmuext_op op = { .cmd = MMUEXT_NEW_BASEPTR, .arg1.mfn = i & 1 ? root : root2 };
        mmuext_op(&op, 1, 0, DOMID_SELF);
    }
}

static void breakpoint(struct regs *r) { (void)r; }
static void trap_and_back(u64 n)
{
    for (u64 i = 0; i < n; i++) asm volatile("int3" ::: "memory");
}

static void prepare(void)
{
    if (port_pair(&from, &to)) fail("no ports");
    clear_bit(to, shared_info->evtchn_pending);
    event_handlers[to] = receive;
    port_unmask(to);

    user_init(user_start, user_end);
    struct callback_register c = { .type = CALLBACKTYPE_syscall, .address = (u64)quick_syscall };
    callback_op(CALLBACKOP_register, &c);
    handlers[VECTOR_SYSCALL] = last_syscall;

    filler_pte = virt_to_mfn(filler) * PAGE_SIZE | PTE_RW;
    handlers[3] = breakpoint;
    handlers[14] = map_on_demand;
    window = virt_base + 511 * 0x200000ul;
    u64 *l1 = alloc_page();
    protect(l1, PTE_RO);
    struct mmu_update u = {
        .ptr = table_of((u64)virt_base, 2) * PAGE_SIZE + 511 * 8, .val = virt_to_mfn(l1) * PAGE_SIZE | PTE_RW
    };
    if (mmu_update(&u, 1, 0, DOMID_SELF)) fail("no page table for the window");

    void *copy = alloc_page();
    root = table_of(0, 4);
    root2 = virt_to_mfn(copy);
    memcpy(copy, mfn_to_virt(root), PAGE_SIZE);
    protect(copy, PTE_RO);
    struct mmuext_op pin = { .cmd = MMUEXT_PIN_L4_TABLE, .arg1.mfn = root2 };
    if (mmuext_op(&pin, 1, 0, DOMID_SELF)) fail("the second root is refused");
}

void guest_main(void)
{
    init_events();
    domid_t peer = (domid_t)option("peer", 0);
    if (option_is("role", "a") || option_is("role", "b")) {
        if (option_is("role", "a")) first_domain(peer);
        else second_domain(peer);
        pass();
    }
    prepare();
    BENCH("empty-loop", 10000000, empty);
    BENCH("clock-read", 1000000, clock_read);
    BENCH("hypercall", 200000, hypercall_page_call);
    BENCH("hypercall-bare", 200000, hypercall_bare);
    BENCH("trap", 100000, trap_and_back);
    BENCH("event-to-self", 50000, event_to_self);
    BENCH("system-call", 100000, system_call);
    BENCH("page-fault", 12800, page_fault);
    BENCH("mmu-update", 128000, mmu_updates);
    BENCH("context-switch", 20000, context_switch);
    pass();
}
