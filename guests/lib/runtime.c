/* Memory, traps, events, time. */
#include "guest.h"

start_info_t *start_info;

/* --- memory --- */

u64 table_of(u64 va, int level)
{
    u64 mfn = virt_to_mfn((void *)start_info->pt_base);
    for (int l = 4; l > level; l--) mfn = (((u64 *)mfn_to_virt(mfn))[table_index(va, l)] & PTE_FRAME) / PAGE_SIZE;
    return mfn;
}

long protect(void *page, u64 bits)
{
    u64 pte = bits ? virt_to_mfn(page) * PAGE_SIZE | bits : 0;
    return update_va_mapping(page, pte, UVMF_INVLPG | UVMF_LOCAL);
}

void *alloc_page(void)
{
    static char *next, *end;
    if (!next) {
        /* After the page tables comes the boot stack, then the padding: 512 KiB at least. */
        next = (char *)start_info->pt_base + (start_info->nr_pt_frames + 1) * PAGE_SIZE;
        end = next + 512 * 1024;
    }
    if (next + PAGE_SIZE > end) fail("out of pages");
    char *page = next;
    next += PAGE_SIZE;
    return memset(page, 0, PAGE_SIZE);
}

static char shared_info_page[4096] PAGE_ALIGNED;
shared_info_t *shared_info;

void map_shared_info(void)
{
    if (shared_info) return;
    long r = update_va_mapping(shared_info_page, start_info->shared_info | PTE_RW, UVMF_INVLPG | UVMF_LOCAL);
    if (r) fail("mapping shared_info: %ld", r);
    shared_info = (shared_info_t *)shared_info_page;
}

/* --- traps --- */

trap_handler *handlers[VECTOR_SYSCALL + 1];
volatile struct tried tried = { .vector = -1 };
volatile u64 try_fixup;

void print_regs(const struct regs *r)
{
    printf("vector %lu error %lx cr2 %lx\n", r->vector, r->error, shared_info ? vcpu_info(0)->arch.cr2 : 0);
    printf("rip %lx cs %lx rflags %lx rsp %lx ss %lx\n", r->rip, r->cs, r->rflags, r->rsp, r->ss);
    printf("rax %lx rbx %lx rcx %lx rdx %lx rsi %lx rdi %lx\n", r->rax, r->rbx, r->rcx, r->rdx, r->rsi, r->rdi);
}

void trap_dispatch(struct regs *r)
{
    if (r->vector < 32 && try_fixup) {
        tried.vector = (long)r->vector;
        tried.error = r->error;
        tried.cr2 = r->vector == 14 && shared_info ? vcpu_info(0)->arch.cr2 : 0;
        tried.rip = r->rip;
        r->rip = try_fixup;
        try_fixup = 0;
    } else if (handlers[r->vector]) {
        handlers[r->vector](r);
    } else {
        console_out = console_io_out;
        print_regs(r);
        fail("unexpected trap %lu at %lx", r->vector, r->rip);
    }
}

static trap_info_t table[24];

void init_traps(void)
{
    int n = 0;
    for (unsigned v = 0; v < 22; v++)
        table[n++] = (trap_info_t){ (u8)v, v == 3 || v == 4 ? 3 : 0, FLAT_KERNEL_CS, (unsigned long)trap_entries[v] };
    table[n++] = (trap_info_t){ 0x80, 3, FLAT_KERNEL_CS, (unsigned long)trap_entry_80 };
    long r = set_trap_table(table);
    if (r) fail("set_trap_table: %ld", r);

    static const struct { u16 type; void (*entry)(void); } callbacks[] = {
        { CALLBACKTYPE_event, event_entry },
        { CALLBACKTYPE_failsafe, failsafe_entry },
        { CALLBACKTYPE_syscall, syscall_entry },
    };
    for (int i = 0; i < 3; i++) {
        struct callback_register c = {
            .type = callbacks[i].type,
            .flags = i == 2 ? 0 : CALLBACKF_mask_events,
            .address = (unsigned long)callbacks[i].entry,
        };
        r = callback_op(CALLBACKOP_register, &c);
        if (r) fail("callback_op type %u: %ld", c.type, r);
    }
    map_shared_info();
}

/* --- vCPUs --- */

static char stack1[16384] __attribute__((aligned(16)));

unsigned this_cpu(void)
{
    char *here = __builtin_frame_address(0);
    return here >= stack1 && here < stack1 + sizeof stack1;
}

long init_vcpu1(void (*main)(void))
{
    static struct vcpu_guest_context c;
    memset(&c, 0, sizeof c);
    c.flags = VGCF_in_kernel;
    c.user_regs.rip = (u64)main;
    c.user_regs.rsp = (u64)stack1 + sizeof stack1 - 8; /* as after a call */
    c.user_regs.rflags = 0x202;
    c.user_regs.cs = FLAT_KERNEL_CS;
    c.user_regs.ss = FLAT_KERNEL_SS;
    c.kernel_ss = FLAT_KERNEL_SS;
    c.kernel_sp = (u64)stack1 + sizeof stack1;
    for (const trap_info_t *t = table; t->address; t++) c.trap_ctxt[t->vector] = *t;
    c.ctrlreg[3] = xen_pfn_to_cr3(table_of(0, 4));
    c.event_callback_eip = (u64)event_entry;
    c.failsafe_callback_eip = (u64)failsafe_entry;
    c.syscall_callback_eip = (u64)syscall_entry;
    return vcpu_op(VCPUOP_initialise, 1, &c);
}

/* --- events --- */

event_handler *event_handlers[4096];

/* The upcall, two-level: take what is pending and not masked, in the order of the bits. */
static void upcall(struct regs *r)
{
    (void)r;
    vcpu_info_t *info = vcpu_info(this_cpu());
    while (info->evtchn_upcall_pending) {
        info->evtchn_upcall_pending = 0;
        u64 words;
        asm volatile("xchgq %0, %1" : "=r"(words), "+m"(info->evtchn_pending_sel) : "0"(0ul) : "memory");
        for (; words; words &= words - 1) {
            unsigned w = (unsigned)__builtin_ctzl(words);
            u64 bits;
            while ((bits = ((volatile unsigned long *)shared_info->evtchn_pending)[w] &
                           ~((volatile unsigned long *)shared_info->evtchn_mask)[w])) {
                u32 port = w * 64 + (u32)__builtin_ctzl(bits);
                clear_bit(port, shared_info->evtchn_pending);
                if (event_handlers[port]) event_handlers[port](port);
            }
        }
    }
}

void events_unmask(void)
{
    vcpu_info_t *info = vcpu_info(this_cpu());
    ((volatile vcpu_info_t *)info)->evtchn_upcall_mask = 0;
    barrier();
    /* Xen looks before it next enters the guest: any hypercall will do. */
    if (((volatile vcpu_info_t *)info)->evtchn_upcall_pending) xen_version(XENVER_version, 0);
}

void init_events(void)
{
    init_traps();
    if (!handlers[VECTOR_EVENT]) handlers[VECTOR_EVENT] = upcall;
    for (unsigned p = 0; p < 4096; p++) port_mask(p);
    events_unmask();
}

void port_unmask(u32 port)
{
    struct evtchn_unmask u = { .port = port };
    event_channel_op(EVTCHNOP_unmask, &u);
}

long port_send(u32 port)
{
    struct evtchn_send s = { .port = port };
    return event_channel_op(EVTCHNOP_send, &s);
}

long port_close(u32 port)
{
    struct evtchn_close c = { .port = port };
    return event_channel_op(EVTCHNOP_close, &c);
}

long port_pair(u32 *a, u32 *b)
{
    struct evtchn_alloc_unbound alloc = { .dom = DOMID_SELF, .remote_dom = DOMID_SELF };
    long r = event_channel_op(EVTCHNOP_alloc_unbound, &alloc);
    if (r) return r;
    struct evtchn_bind_interdomain bind = { .remote_dom = DOMID_SELF, .remote_port = alloc.port };
    r = event_channel_op(EVTCHNOP_bind_interdomain, &bind);
    *a = alloc.port;
    *b = bind.local_port;
    return r;
}

long port_virq(u32 virq, u32 vcpu)
{
    struct evtchn_bind_virq b = { .virq = virq, .vcpu = vcpu };
    long r = event_channel_op(EVTCHNOP_bind_virq, &b);
    return r ? r : (long)b.port;
}

domid_t own_domid(void)
{
    struct evtchn_alloc_unbound alloc = { .dom = DOMID_SELF, .remote_dom = DOMID_SELF };
    if (event_channel_op(EVTCHNOP_alloc_unbound, &alloc)) fail("alloc_unbound");
    struct evtchn_status status = { .dom = DOMID_SELF, .port = alloc.port };
    if (event_channel_op(EVTCHNOP_status, &status) || status.status != EVTCHNSTAT_unbound) fail("evtchn_status");
    port_close(alloc.port);
    return status.u.unbound.dom;
}

/* --- time --- */

u64 tsc_to_ns(const volatile vcpu_time_info_t *t, u64 ticks)
{
    ticks = t->tsc_shift < 0 ? ticks >> -t->tsc_shift : ticks << t->tsc_shift;
    return (u64)((unsigned __int128)ticks * t->tsc_to_system_mul >> 32);
}

u64 system_time(void)
{
    const volatile vcpu_time_info_t *t = &vcpu_info(this_cpu())->time;
    u32 version;
    u64 now;
    do {
        version = t->version & ~1u;
        asm volatile("lfence" ::: "memory");
        now = t->system_time + tsc_to_ns(t, rdtsc() - t->tsc_timestamp);
        asm volatile("lfence" ::: "memory");
    } while (t->version != version);
    return now;
}

void sleep_ns(u64 ns)
{
    u64 end = system_time() + ns;
    while (system_time() < end) {
        struct sched_poll poll = { .nr_ports = 0, .timeout = end };
        if (sched_op(SCHEDOP_poll, &poll)) sched_op(SCHEDOP_yield, 0);
    }
}
