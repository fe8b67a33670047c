/* The rules of scheduling: yield, block, poll, and two vCPUs. Needs vcpus=2. */
#include "guest.h"

const char guest_name[] = "sched";

#define MS 1000000ull
#define SECOND 1000000000ull

/* What the second vCPU is told to do, and what it has done. */
static volatile enum { IDLE, COUNT, ADD, BLOCK, ANSWER, DOWN } command;
static volatile u32 beats, blocks, wakes, ipis[2];
static volatile u32 sum;
static u32 to_0, to_1;

static void got_ipi(u32 port)
{
    (void)port;
    ipis[this_cpu()]++;
}

static void add(void)
{
    for (int i = 0; i < 50000; i++) asm volatile("lock incl %0" : "+m"(sum) : : "cc", "memory");
}

static void second(void)
{
    events_unmask();
    for (;;) {
        beats++;
        switch (command) {
        case ADD:
            add();
            command = IDLE;
            break;
        case BLOCK:
            blocks++;
            sched_op(SCHEDOP_block, 0);
            wakes++;
            command = IDLE;
            break;
        case ANSWER:
            command = IDLE;
            port_send(to_0);
            break;
        case DOWN:
            command = IDLE;
            vcpu_op(VCPUOP_down, 1, 0);
            break;
        default:
            asm volatile("pause");
        }
    }
}

#define WAIT(what) \
    do { \
        u64 end_ = system_time() + 5 * SECOND; \
        while (!(what)) { \
            if (system_time() > end_) return __FILE_NAME__ ":" STRING(__LINE__) ": waited for " #what; \
            asm volatile("pause" ::: "memory"); \
        } \
    } while (0)

RULE(a_yield_returns)
{
    for (int i = 0; i < 100; i++) EXPECT_IS(sched_op(SCHEDOP_yield, 0), 0);
    return 0;
}

static volatile u32 ticks;
static void tick(u32 port)
{
    (void)port;
    ticks++;
}

RULE(a_block_is_ended_by_a_timer)
{
    long port = port_virq(VIRQ_TIMER, 0);
    EXPECT(port > 0);
    vcpu_op(VCPUOP_stop_periodic_timer, 0, 0);
    event_handlers[port] = tick;
    port_unmask((u32)port);
    for (u32 i = 1; i <= 5; i++) {
        u64 due = system_time() + 2 * MS;
        events_mask();
        ticks = 0;
        EXPECT_IS(set_timer_op(due), 0);
        while (!ticks) {
            EXPECT_IS(sched_op(SCHEDOP_block, 0), 0);
            events_mask();
        }
        events_unmask();
        EXPECT(system_time() >= due);
    }
    port_close((u32)port);
    return 0;
}

RULE(a_block_with_something_pending_returns)
{
    u32 a, b;
    EXPECT_IS(port_pair(&a, &b), 0);
    event_handlers[b] = tick;
    ticks = 0;
    port_unmask(b);
    events_mask();
    port_send(a);
    EXPECT_IS(sched_op(SCHEDOP_block, 0), 0);
    EXPECT(ticks > 0);
    port_close(a);
    port_close(b);
    return 0;
}

RULE(an_unknown_operation_is_not_there) { return sched_op(99, 0) == -XEN_ENOSYS ? 0 : "another answer"; }

RULE(a_watchdog_is_set_and_taken_down)
{
    struct sched_watchdog w = { .id = 0, .timeout = 60 };
    long id = sched_op(SCHEDOP_watchdog, &w);
    EXPECT(id > 0);
    w.id = (u32)id;
    EXPECT_IS(sched_op(SCHEDOP_watchdog, &w), 0);
    w.timeout = 0;
    EXPECT_IS(sched_op(SCHEDOP_watchdog, &w), 0);
    w.id = 77;
    EXPECT(sched_op(SCHEDOP_watchdog, &w) < 0);
    return 0;
}

RULE(who_is_up)
{
    EXPECT_IS(vcpu_op(VCPUOP_is_up, 0, 0), 1);
    EXPECT_IS(vcpu_op(VCPUOP_is_up, 1, 0), 0);
    EXPECT_IS(vcpu_op(VCPUOP_is_up, 99, 0), -XEN_ENOENT);
    return 0;
}

RULE(a_vcpu_without_registers_does_not_come_up)
{
    EXPECT_IS(vcpu_op(VCPUOP_up, 1, 0), -XEN_EINVAL);
    return 0;
}

RULE(a_vcpu_is_initialised_once)
{
    EXPECT_IS(init_vcpu1(second), 0);
    EXPECT_IS(init_vcpu1(second), -XEN_EEXIST);
    EXPECT_IS(vcpu_op(VCPUOP_is_up, 1, 0), 0);
    return 0;
}

RULE(the_second_vcpu_runs)
{
    EXPECT_IS(beats, 0);
    EXPECT_IS(vcpu_op(VCPUOP_up, 1, 0), 0);
    EXPECT_IS(vcpu_op(VCPUOP_is_up, 1, 0), 1);
    WAIT(beats > 0);
    return 0;
}

RULE(both_run_without_yielding)
{
    u32 was = beats;
    WAIT(beats > was + 1000);
    return 0;
}

RULE(locked_additions_are_not_lost)
{
    sum = 0;
    command = ADD;
    add();
    WAIT(command == IDLE);
    EXPECT_IS(sum, 100000);
    return 0;
}

RULE(an_ipi_reaches_the_second)
{
    struct evtchn_bind_ipi b = { .vcpu = 1 };
    EXPECT_IS(event_channel_op(EVTCHNOP_bind_ipi, &b), 0);
    to_1 = b.port;
    event_handlers[to_1] = got_ipi;
    port_unmask(to_1);
    EXPECT_IS(port_send(to_1), 0);
    WAIT(ipis[1] == 1);
    EXPECT_IS(ipis[0], 0);
    return 0;
}

RULE(and_one_comes_back)
{
    struct evtchn_bind_ipi b = { .vcpu = 0 };
    EXPECT_IS(event_channel_op(EVTCHNOP_bind_ipi, &b), 0);
    to_0 = b.port;
    event_handlers[to_0] = got_ipi;
    port_unmask(to_0);
    command = ANSWER;
    WAIT(ipis[0] == 1);
    return 0;
}

RULE(an_ipi_wakes_a_blocked_vcpu)
{
    struct vcpu_runstate_info r;
    u32 was = wakes, got = ipis[1];
    command = BLOCK;
    WAIT(blocks == was + 1);
    u64 end = system_time() + SECOND;
    do {
        EXPECT_IS(vcpu_op(VCPUOP_get_runstate_info, 1, &r), 0);
        EXPECT(system_time() < end);
    } while (r.state != RUNSTATE_blocked);
    sleep_ns(5 * MS);
    EXPECT_IS(wakes, was);
    EXPECT_IS(port_send(to_1), 0);
    WAIT(wakes == was + 1);
    EXPECT_IS(ipis[1], got + 1);
    return 0;
}

RULE(a_poll_is_ended_by_the_other_vcpu)
{
    port_mask(to_0);
    clear_bit(to_0, shared_info->evtchn_pending);
    u64 t0 = system_time();
    struct sched_poll p = { .nr_ports = 1, .timeout = t0 + 5 * SECOND };
    set_xen_guest_handle(p.ports, &to_0);
    command = ANSWER;
    EXPECT_IS(sched_op(SCHEDOP_poll, &p), 0);
    EXPECT(system_time() - t0 < 4 * SECOND);
    EXPECT_IS(test_bit(to_0, shared_info->evtchn_pending), 1);
    clear_bit(to_0, shared_info->evtchn_pending);
    port_unmask(to_0);
    return 0;
}

RULE(a_port_can_move_to_the_second)
{
    u32 a, b, got = ipis[1];
    EXPECT_IS(port_pair(&a, &b), 0);
    clear_bit(b, shared_info->evtchn_pending);
    event_handlers[b] = got_ipi;
    struct evtchn_bind_vcpu v = { .port = b, .vcpu = 1 };
    EXPECT_IS(event_channel_op(EVTCHNOP_bind_vcpu, &v), 0);
    port_unmask(b);
    EXPECT_IS(port_send(a), 0);
    WAIT(ipis[1] == got + 1);
    port_close(a);
    port_close(b);
    return 0;
}

RULE(a_vcpu_goes_down_and_up)
{
    command = DOWN;
    WAIT(vcpu_op(VCPUOP_is_up, 1, 0) == 0);
    sleep_ns(2 * MS);
    u32 was = beats;
    sleep_ns(5 * MS);
    EXPECT_IS(beats, was);
    EXPECT_IS(vcpu_op(VCPUOP_up, 1, 0), 0);
    WAIT(beats > was);
    return 0;
}

static volatile u32 nmis;
static void nmi(struct regs *r)
{
    (void)r;
    nmis++;
}
RULE(an_nmi_needs_a_handler_and_arrives)
{
    handlers[2] = nmi;
    EXPECT_IS(vcpu_op(VCPUOP_send_nmi, 0, 0), 0);
    EXPECT_IS(nmis, 1);
    EXPECT_IS(vcpu_op(VCPUOP_send_nmi, 0, 0), 0);
    EXPECT_IS(nmis, 2);
    return 0;
}

void guest_main(void)
{
    init_events();
    if (vcpu_op(VCPUOP_is_up, 1, 0) < 0) fail("this guest needs two vCPUs (vcpus=2)");
#define R(name) { #name, name }
    RUN_RULES(R(a_yield_returns), R(a_block_is_ended_by_a_timer), R(a_block_with_something_pending_returns),
              R(an_unknown_operation_is_not_there), R(a_watchdog_is_set_and_taken_down), R(who_is_up),
              R(a_vcpu_without_registers_does_not_come_up), R(a_vcpu_is_initialised_once), R(the_second_vcpu_runs),
              R(both_run_without_yielding), R(locked_additions_are_not_lost), R(an_ipi_reaches_the_second), R(and_one_comes_back),
              R(an_ipi_wakes_a_blocked_vcpu), R(a_poll_is_ended_by_the_other_vcpu), R(a_port_can_move_to_the_second),
              R(a_vcpu_goes_down_and_up), R(an_nmi_needs_a_handler_and_arrives));
}
