/* The rules of event channels: the same ones twice, first with the two-level bitmaps, then with the FIFO queues. */
#include "guest.h"

const char guest_name[] = "events";

#define MS 1000000ull

static volatile u32 count[1024];
static u32 order[64];
static volatile u32 taken;

static void note(u32 port)
{
    count[port]++;
    order[taken++ % 64] = port;
}

/* --- the FIFO ABI: an array of words, one a port; a control block a vCPU with 16 queue heads --- */

static int fifo;
static volatile event_word_t words[1024] PAGE_ALIGNED;
static volatile struct evtchn_fifo_control_block control PAGE_ALIGNED;
static u32 heads[EVTCHN_FIFO_MAX_QUEUES];

static u32 word_bit(u32 port, unsigned bit) { return words[port] >> bit & 1; }

/* Take the first of a queue: its word is unlinked and its successor becomes the head; 0 ends the queue. */
static void consume(unsigned queue, u32 *ready)
{
    u32 port = heads[queue] ? heads[queue] : control.head[queue];
    u32 was = words[port], now;
    do now = was & ~(1u << EVTCHN_FIFO_LINKED | EVTCHN_FIFO_LINK_MASK);
    while (!__atomic_compare_exchange_n(&words[port], &was, now, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    heads[queue] = was & EVTCHN_FIFO_LINK_MASK;
    if (!heads[queue]) *ready &= ~(1u << queue);
    if ((now >> EVTCHN_FIFO_PENDING & 1) && !(now >> EVTCHN_FIFO_MASKED & 1)) {
        __atomic_and_fetch(&words[port], ~(1u << EVTCHN_FIFO_PENDING), __ATOMIC_SEQ_CST);
        if (event_handlers[port]) event_handlers[port](port);
    }
}

static void fifo_upcall(struct regs *r)
{
    volatile vcpu_info_t *info = vcpu_info(0);
    (void)r;
    while (info->evtchn_upcall_pending) {
        info->evtchn_upcall_pending = 0;
        barrier();
        u32 ready = __atomic_exchange_n(&control.ready, 0, __ATOMIC_SEQ_CST);
        while (ready) {
            consume((unsigned)__builtin_ctz(ready), &ready);
            ready |= __atomic_exchange_n(&control.ready, 0, __ATOMIC_SEQ_CST);
        }
    }
}

/* --- what differs --- */

static int pending(u32 port) { return fifo ? (int)word_bit(port, EVTCHN_FIFO_PENDING) : test_bit(port, shared_info->evtchn_pending); }
static int masked(u32 port) { return fifo ? (int)word_bit(port, EVTCHN_FIFO_MASKED) : test_bit(port, shared_info->evtchn_mask); }
static void mask(u32 port)
{
    if (fifo) __atomic_or_fetch(&words[port], 1u << EVTCHN_FIFO_MASKED, __ATOMIC_SEQ_CST);
    else port_mask(port);
}
static void clear(u32 port)
{
    if (fifo) __atomic_and_fetch(&words[port], ~(1u << EVTCHN_FIFO_PENDING), __ATOMIC_SEQ_CST);
    else clear_bit(port, shared_info->evtchn_pending);
}
static void listen(u32 port)
{
    clear(port); /* a new binding is pending: its peer may have sent before */
    count[port] = 0;
    event_handlers[port] = note;
    port_unmask(port);
}
static long status(u32 port, struct evtchn_status *s)
{
    *s = (struct evtchn_status){ .dom = DOMID_SELF, .port = port };
    return event_channel_op(EVTCHNOP_status, s);
}

/* --- the rules --- */

RULE(a_send_arrives_at_the_other_end)
{
    u32 a, b;
    EXPECT_IS(port_pair(&a, &b), 0);
    listen(a);
    listen(b);
    EXPECT_IS(port_send(a), 0);
    EXPECT_IS(count[a], 0);
    EXPECT_IS(count[b], 1);
    EXPECT_IS(port_send(b), 0);
    EXPECT_IS(count[a], 1);
    EXPECT_IS(count[b], 1);
    EXPECT_IS(port_close(a), 0);
    EXPECT_IS(port_close(b), 0);
    return 0;
}

RULE(a_new_binding_is_pending)
{
    struct evtchn_alloc_unbound alloc = { .dom = DOMID_SELF, .remote_dom = DOMID_SELF };
    EXPECT_IS(event_channel_op(EVTCHNOP_alloc_unbound, &alloc), 0);
    struct evtchn_bind_interdomain bind = { .remote_dom = DOMID_SELF, .remote_port = alloc.port };
    events_mask();
    EXPECT_IS(event_channel_op(EVTCHNOP_bind_interdomain, &bind), 0);
    int is = pending(bind.local_port);
    clear(bind.local_port);
    events_unmask();
    EXPECT_IS(is, 1);
    EXPECT_IS(pending(alloc.port), 0);
    port_close(alloc.port);
    port_close(bind.local_port);
    return 0;
}

RULE(a_masked_port_stays_pending)
{
    u32 a, b;
    EXPECT_IS(port_pair(&a, &b), 0);
    listen(b);
    mask(b);
    EXPECT_IS(port_send(a), 0);
    EXPECT_IS(count[b], 0);
    EXPECT_IS(pending(b), 1);
    port_unmask(b);
    EXPECT_IS(masked(b), 0);
    EXPECT_IS(count[b], 1);
    EXPECT_IS(pending(b), 0);
    port_close(a);
    port_close(b);
    return 0;
}

RULE(the_upcall_mask_holds_all_back)
{
    u32 a, b;
    EXPECT_IS(port_pair(&a, &b), 0);
    listen(b);
    events_mask();
    EXPECT_IS(port_send(a), 0);
    int early = (int)count[b], up = vcpu_info(0)->evtchn_upcall_pending;
    events_unmask();
    EXPECT_IS(early, 0);
    EXPECT(up != 0);
    EXPECT_IS(count[b], 1);
    EXPECT_IS(vcpu_info(0)->evtchn_upcall_pending, 0);
    port_close(a);
    port_close(b);
    return 0;
}

RULE(sends_before_the_delivery_are_one)
{
    u32 a, b;
    EXPECT_IS(port_pair(&a, &b), 0);
    listen(b);
    events_mask();
    for (int i = 0; i < 5; i++) port_send(a);
    events_unmask();
    EXPECT_IS(count[b], 1);
    port_close(a);
    port_close(b);
    return 0;
}

RULE(many_ports_at_once)
{
    u32 a[20], b[20];
    events_mask();
    for (int i = 0; i < 20; i++) {
        EXPECT_IS(port_pair(&a[i], &b[i]), 0);
        listen(b[i]);
        port_send(a[i]);
    }
    events_unmask();
    for (int i = 0; i < 20; i++) {
        EXPECT_IS(count[b[i]], 1);
        port_close(a[i]);
        port_close(b[i]);
    }
    return 0;
}

static volatile int inside;
static void look(u32 port)
{
    (void)port;
    inside = vcpu_info(0)->evtchn_upcall_mask;
}
RULE(events_are_masked_inside_the_upcall)
{
    u32 a, b;
    EXPECT_IS(port_pair(&a, &b), 0);
    listen(b);
    event_handlers[b] = look;
    inside = -1;
    port_send(a);
    EXPECT_IS(inside, 1);
    EXPECT_IS(vcpu_info(0)->evtchn_upcall_mask, 0);
    port_close(a);
    port_close(b);
    return 0;
}

RULE(the_status_shows_what_a_port_is)
{
    struct evtchn_status s;
    struct evtchn_alloc_unbound alloc = { .dom = DOMID_SELF, .remote_dom = DOMID_SELF };
    EXPECT_IS(event_channel_op(EVTCHNOP_alloc_unbound, &alloc), 0);
    EXPECT_IS(status(alloc.port, &s), 0);
    EXPECT_IS(s.status, EVTCHNSTAT_unbound);
    EXPECT_IS(s.u.unbound.dom, own_domid());
    struct evtchn_bind_interdomain bind = { .remote_dom = DOMID_SELF, .remote_port = alloc.port };
    EXPECT_IS(event_channel_op(EVTCHNOP_bind_interdomain, &bind), 0);
    EXPECT_IS(status(alloc.port, &s), 0);
    EXPECT_IS(s.status, EVTCHNSTAT_interdomain);
    EXPECT_IS(s.u.interdomain.port, bind.local_port);
    EXPECT_IS(port_close(bind.local_port), 0);
    EXPECT_IS(status(bind.local_port, &s), 0);
    EXPECT_IS(s.status, EVTCHNSTAT_closed);
    EXPECT_IS(status(alloc.port, &s), 0);
    EXPECT_IS(s.status, EVTCHNSTAT_unbound); /* the other end waits again */
    EXPECT_IS(port_close(alloc.port), 0);
    EXPECT_IS(status(alloc.port, &s), 0);
    EXPECT_IS(s.status, EVTCHNSTAT_closed);
    return 0;
}

RULE(a_send_to_nobody_is_dropped)
{
    struct evtchn_alloc_unbound alloc = { .dom = DOMID_SELF, .remote_dom = DOMID_SELF };
    EXPECT_IS(event_channel_op(EVTCHNOP_alloc_unbound, &alloc), 0);
    EXPECT_IS(port_send(alloc.port), 0);
    port_close(alloc.port);
    return 0;
}

RULE(a_closed_port_refuses)
{
    u32 a, b;
    EXPECT_IS(port_pair(&a, &b), 0);
    EXPECT_IS(port_close(a), 0);
    EXPECT_IS(port_close(b), 0);
    EXPECT_IS(port_send(a), -XEN_EINVAL);
    EXPECT_IS(port_close(a), -XEN_EINVAL);
    EXPECT_IS(port_send(0x7fffffff), -XEN_EINVAL);
    return 0;
}

RULE(a_close_forgets_what_was_pending)
{
    u32 a, b;
    EXPECT_IS(port_pair(&a, &b), 0);
    listen(b);
    mask(b);
    port_send(a);
    EXPECT_IS(pending(b), 1);
    port_close(b);
    EXPECT_IS(pending(b), 0);
    port_close(a);
    return 0;
}

RULE(others_ports_are_not_ours_to_bind)
{
    struct evtchn_bind_interdomain bind = { .remote_dom = 0, .remote_port = 1 };
    EXPECT(event_channel_op(EVTCHNOP_bind_interdomain, &bind) < 0);
    bind.remote_dom = 0x7abc;
    EXPECT_IS(event_channel_op(EVTCHNOP_bind_interdomain, &bind), -XEN_ESRCH);
    struct evtchn_alloc_unbound alloc = { .dom = 0, .remote_dom = DOMID_SELF };
    EXPECT(event_channel_op(EVTCHNOP_alloc_unbound, &alloc) < 0);
    return 0;
}

RULE(an_ipi_to_oneself)
{
    struct evtchn_bind_ipi ipi = { .vcpu = 0 };
    struct evtchn_status s;
    EXPECT_IS(event_channel_op(EVTCHNOP_bind_ipi, &ipi), 0);
    listen(ipi.port);
    EXPECT_IS(port_send(ipi.port), 0);
    EXPECT_IS(count[ipi.port], 1);
    EXPECT_IS(status(ipi.port, &s), 0);
    EXPECT_IS(s.status, EVTCHNSTAT_ipi);
    port_close(ipi.port);
    ipi.vcpu = 999;
    EXPECT_IS(event_channel_op(EVTCHNOP_bind_ipi, &ipi), -XEN_ENOENT);
    return 0;
}

/* One port for the timer, whatever became of the rule before. */
static long timer_port(void)
{
    static u32 open;
    if (open) port_close(open);
    long port = port_virq(VIRQ_TIMER, 0);
    open = port > 0 ? (u32)port : 0;
    return port;
}

RULE(a_timer_by_set_timer_op)
{
    long port = timer_port();
    EXPECT(port > 0);
    EXPECT_IS(port_virq(VIRQ_TIMER, 0), -XEN_EEXIST);
    vcpu_op(VCPUOP_stop_periodic_timer, 0, 0);
    listen((u32)port);
    u64 due = system_time() + 5 * MS;
    EXPECT_IS(set_timer_op(due), 0);
    u32 early = count[port];
    if (system_time() < due) EXPECT_IS(early, 0);
    while (!count[port] && system_time() < due + 1000 * MS) { }
    u64 now = system_time();
    EXPECT_IS(count[port], 1);
    EXPECT(now >= due);
    /* A time in the past is now; 0 stops it. */
    EXPECT_IS(set_timer_op(now - MS), 0);
    while (count[port] < 2 && system_time() < now + 1000 * MS) { }
    EXPECT_IS(count[port], 2);
    EXPECT_IS(set_timer_op(system_time() + 50 * MS), 0);
    EXPECT_IS(set_timer_op(0), 0);
    sleep_ns(60 * MS);
    EXPECT_IS(count[port], 2);
    return 0;
}

RULE(a_single_shot_timer)
{
    long port = timer_port();
    EXPECT(port > 0);
    vcpu_op(VCPUOP_stop_periodic_timer, 0, 0);
    listen((u32)port);
    struct vcpu_set_singleshot_timer t = { .timeout_abs_ns = system_time() + 5 * MS };
    EXPECT_IS(vcpu_op(VCPUOP_set_singleshot_timer, 0, &t), 0);
    u64 end = system_time() + 1000 * MS;
    while (!count[port] && system_time() < end) { }
    EXPECT_IS(count[port], 1);
    EXPECT(system_time() >= t.timeout_abs_ns);
    t.flags = VCPU_SSHOTTMR_future;
    t.timeout_abs_ns = system_time() - MS;
    long r = vcpu_op(VCPUOP_set_singleshot_timer, 0, &t);
    if (r) EXPECT_IS(r, -XEN_ETIME);
    t.timeout_abs_ns = system_time() + 50 * MS;
    EXPECT_IS(vcpu_op(VCPUOP_set_singleshot_timer, 0, &t), 0);
    EXPECT_IS(vcpu_op(VCPUOP_stop_singleshot_timer, 0, 0), 0);
    u32 before = count[port];
    sleep_ns(60 * MS);
    EXPECT_IS(count[port], before);
    return 0;
}

RULE(a_block_ends_with_an_event)
{
    long port = timer_port();
    EXPECT(port > 0);
    listen((u32)port);
    u64 due = system_time() + 5 * MS;
    events_mask();
    EXPECT_IS(set_timer_op(due), 0);
    EXPECT_IS(sched_op(SCHEDOP_block, 0), 0);
    EXPECT_IS(vcpu_info(0)->evtchn_upcall_mask, 0); /* blocking unmasks */
    EXPECT_IS(count[port], 1);
    EXPECT(system_time() >= due);
    return 0;
}

static long poll(u32 *ports, u32 n, u64 timeout)
{
    struct sched_poll p = { .nr_ports = n, .timeout = timeout };
    set_xen_guest_handle(p.ports, ports);
    return sched_op(SCHEDOP_poll, &p);
}

RULE(a_poll_finds_what_is_pending)
{
    u32 a, b;
    EXPECT_IS(port_pair(&a, &b), 0);
    mask(b);
    clear(b);
    port_send(a);
    EXPECT_IS(pending(b), 1);
    u64 t0 = system_time();
    EXPECT_IS(poll(&b, 1, t0 + 2000 * MS), 0);
    EXPECT(system_time() - t0 < 1000 * MS);
    EXPECT_IS(pending(b), 1); /* and does not take it */
    port_close(a);
    port_close(b);
    return 0;
}

RULE(a_poll_ends_at_its_time)
{
    u32 a, b;
    EXPECT_IS(port_pair(&a, &b), 0);
    mask(b);
    clear(b);
    u64 due = system_time() + 5 * MS;
    EXPECT_IS(poll(&b, 1, due), 0);
    EXPECT(system_time() >= due);
    EXPECT_IS(pending(b), 0);
    port_close(a);
    port_close(b);
    return 0;
}

RULE(a_poll_of_a_bad_port_is_refused)
{
    u32 bad = 0x7fffffff;
    EXPECT_IS(poll(&bad, 1, system_time() + MS), -XEN_EINVAL);
    return 0;
}

RULE(bind_vcpu_wants_a_vcpu)
{
    u32 a, b;
    EXPECT_IS(port_pair(&a, &b), 0);
    struct evtchn_bind_vcpu v = { .port = a, .vcpu = 0 };
    EXPECT_IS(event_channel_op(EVTCHNOP_bind_vcpu, &v), 0);
    v.vcpu = 999;
    EXPECT_IS(event_channel_op(EVTCHNOP_bind_vcpu, &v), -XEN_ENOENT);
    port_close(a);
    port_close(b);
    return 0;
}

/* --- two-level only --- */

RULE(two_level_sets_port_selector_and_upcall)
{
    u32 a, b;
    EXPECT_IS(port_pair(&a, &b), 0);
    listen(b);
    events_mask();
    port_send(a);
    int selected = vcpu_info(0)->evtchn_pending_sel >> (b / 64) & 1, p = pending(b);
    events_unmask();
    EXPECT_IS(p, 1);
    EXPECT_IS(selected, 1);
    EXPECT_IS(vcpu_info(0)->evtchn_pending_sel >> (b / 64) & 1, 0);
    port_close(a);
    port_close(b);
    return 0;
}

/* --- FIFO only --- */

RULE(the_fifo_can_be_switched_on)
{
    struct evtchn_init_control init = { .control_gfn = virt_to_mfn(&control), .offset = 0, .vcpu = 0 };
    /* What is pending in the bitmaps moves over, so that the first upcall may come at once: the handler is changed before. */
    handlers[VECTOR_EVENT] = fifo_upcall;
    fifo = 1;
    EXPECT_IS(event_channel_op(EVTCHNOP_init_control, &init), 0);
    EXPECT_IS(init.link_bits, EVTCHN_FIFO_LINK_BITS);
    struct evtchn_expand_array more = { .array_gfn = virt_to_mfn(words) };
    EXPECT_IS(event_channel_op(EVTCHNOP_expand_array, &more), 0);
    return 0;
}

RULE(priorities_order_the_delivery)
{
    u32 a[3], b[3];
    static const u32 priority[3] = { EVTCHN_FIFO_PRIORITY_MIN, EVTCHN_FIFO_PRIORITY_DEFAULT, EVTCHN_FIFO_PRIORITY_MAX };
    for (int i = 0; i < 3; i++) {
        EXPECT_IS(port_pair(&a[i], &b[i]), 0);
        listen(b[i]);
        struct evtchn_set_priority p = { .port = b[i], .priority = priority[i] };
        EXPECT_IS(event_channel_op(EVTCHNOP_set_priority, &p), 0);
    }
    events_mask();
    taken = 0;
    for (int i = 0; i < 3; i++) port_send(a[i]);
    events_unmask();
    EXPECT_IS(taken, 3);
    EXPECT_IS(order[0], b[2]);
    EXPECT_IS(order[1], b[1]);
    EXPECT_IS(order[2], b[0]);
    struct evtchn_set_priority p = { .port = b[0], .priority = 16 };
    EXPECT_IS(event_channel_op(EVTCHNOP_set_priority, &p), -XEN_EINVAL);
    for (int i = 0; i < 3; i++) {
        port_close(a[i]);
        port_close(b[i]);
    }
    return 0;
}

RULE(first_come_first_served)
{
    u32 a[8], b[8];
    for (int i = 0; i < 8; i++) {
        EXPECT_IS(port_pair(&a[i], &b[i]), 0);
        listen(b[i]);
    }
    events_mask();
    taken = 0;
    static const int sequence[8] = { 5, 2, 7, 0, 3, 6, 1, 4 };
    for (int i = 0; i < 8; i++) port_send(a[sequence[i]]);
    events_unmask();
    EXPECT_IS(taken, 8);
    for (int i = 0; i < 8; i++) EXPECT_IS(order[i], b[sequence[i]]);
    for (int i = 0; i < 8; i++) {
        port_close(a[i]);
        port_close(b[i]);
    }
    return 0;
}

RULE(the_fifo_ends_with_a_reset)
{
    struct evtchn_reset reset = { .dom = DOMID_SELF };
    EXPECT_IS(event_channel_op(EVTCHNOP_reset, &reset), 0);
    fifo = 0;
    vcpu_info(0)->evtchn_upcall_pending = 0;
    struct evtchn_status s;
    EXPECT_IS(status(start_info->console.domU.evtchn, &s), 0);
    EXPECT_IS(s.status, EVTCHNSTAT_closed);
    return 0;
}

#define R(name) { #name, name }
#define BOTH                                                                                                                      \
    R(a_send_arrives_at_the_other_end), R(a_new_binding_is_pending), R(a_masked_port_stays_pending), R(the_upcall_mask_holds_all_back),                        \
        R(sends_before_the_delivery_are_one), R(many_ports_at_once), R(events_are_masked_inside_the_upcall),                      \
        R(the_status_shows_what_a_port_is), R(a_send_to_nobody_is_dropped), R(a_closed_port_refuses),                             \
        R(a_close_forgets_what_was_pending), R(others_ports_are_not_ours_to_bind), R(an_ipi_to_oneself),                          \
        R(a_timer_by_set_timer_op), R(a_single_shot_timer), R(a_block_ends_with_an_event), R(a_poll_finds_what_is_pending),       \
        R(a_poll_ends_at_its_time), R(a_poll_of_a_bad_port_is_refused), R(bind_vcpu_wants_a_vcpu)

void guest_main(void)
{
    init_events();
    RUN_RULES(BOTH, R(two_level_sets_port_selector_and_upcall), R(the_fifo_can_be_switched_on), BOTH, R(priorities_order_the_delivery),
              R(first_come_first_served), R(the_fifo_ends_with_a_reset));
}
