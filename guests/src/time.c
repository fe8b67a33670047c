/*
 * Exercise 3.4, gettimeofday, and the rules of time: the version protocol, the clock that only grows, the wall clock, the
 * runstate area, the periodic timer.
 */
#include "guest.h"

const char guest_name[] = "time";

#define SECOND 1000000000ull
#define MS 1000000ull

/* The wall clock at system time 0, by its own version protocol. */
static void wall_base(u64 *sec, u64 *nsec)
{
    volatile shared_info_t *s = shared_info;
    u32 version;
    do {
        version = s->wc_version & ~1u;
        asm volatile("lfence" ::: "memory");
        *sec = (u64)s->wc_sec_hi << 32 | s->wc_sec;
        *nsec = s->wc_nsec;
        asm volatile("lfence" ::: "memory");
    } while (s->wc_version != version);
}

/* The exercise. The book keeps the nanoseconds in 32 bits, which are full after 4.3 seconds; 64 are needed. */
static void gettimeofday(u64 *sec, u64 *usec)
{
    u64 nsec;
    wall_base(sec, &nsec);
    nsec += system_time();
    *sec += nsec / SECOND;
    *usec = nsec % SECOND / 1000;
}

RULE(the_version_is_even_outside_an_update)
{
    EXPECT((vcpu_info(0)->time.version & 1) == 0);
    EXPECT((shared_info->wc_version & 1) == 0);
    EXPECT(vcpu_info(0)->time.version != 0);
    EXPECT(shared_info->wc_version != 0);
    return 0;
}

RULE(the_scale_is_usable)
{
    volatile vcpu_time_info_t *t = &vcpu_info(0)->time;
    EXPECT(t->tsc_to_system_mul != 0);
    EXPECT(t->tsc_shift > -32 && t->tsc_shift < 32);
    EXPECT(t->tsc_timestamp <= rdtsc());
    return 0;
}

RULE(system_time_never_goes_back)
{
    u64 last = system_time();
    for (int i = 0; i < 20000; i++) {
        u64 now = system_time();
        EXPECT(now >= last);
        last = now;
    }
    return 0;
}

RULE(system_time_advances_at_the_rate_of_the_tsc)
{
    u64 t0 = system_time(), c0 = rdtsc();
    while (system_time() < t0 + 5 * MS) { }
    u64 t = system_time() - t0, c = tsc_to_ns(&vcpu_info(0)->time, rdtsc() - c0);
    u64 apart = t > c ? t - c : c - t;
    EXPECT(apart < MS);
    return 0;
}

RULE(the_wall_clock_is_of_this_century)
{
    u64 sec, usec;
    gettimeofday(&sec, &usec);
    EXPECT(sec > 946684800ull);   /* 2000-01-01 */
    EXPECT(sec < 4102444800ull);  /* 2100-01-01 */
    EXPECT(usec < 1000000);
    return 0;
}

RULE(the_wall_clock_runs_with_the_system_time)
{
    u64 s0, u0, s1, u1, t0 = system_time();
    gettimeofday(&s0, &u0);
    sleep_ns(20 * MS);
    gettimeofday(&s1, &u1);
    u64 wall = (s1 * 1000000 + u1) - (s0 * 1000000 + u0), system = (system_time() - t0) / 1000;
    EXPECT(wall >= 19000);
    EXPECT(wall <= system + 1000);
    return 0;
}

RULE(a_sleep_lasts_as_long_as_asked)
{
    u64 t0 = system_time();
    sleep_ns(10 * MS);
    EXPECT(system_time() - t0 >= 10 * MS);
    return 0;
}

static struct vcpu_runstate_info runstate;

RULE(the_runstate_area_is_kept)
{
    struct vcpu_register_runstate_memory_area area = { .addr.v = &runstate };
    EXPECT_IS(vcpu_op(VCPUOP_register_runstate_memory_area, 0, &area), 0);
    volatile struct vcpu_runstate_info *r = &runstate;
    EXPECT_IS(r->state, RUNSTATE_running);
    u64 blocked = r->time[RUNSTATE_blocked];
    sleep_ns(20 * MS);
    EXPECT_IS(r->state, RUNSTATE_running);
    EXPECT(r->time[RUNSTATE_blocked] >= blocked + 15 * MS);
    EXPECT(r->state_entry_time <= system_time());
    return 0;
}

RULE(the_runstate_hypercall_agrees_with_the_area)
{
    struct vcpu_runstate_info now;
    EXPECT_IS(vcpu_op(VCPUOP_get_runstate_info, 0, &now), 0);
    EXPECT_IS(now.state, RUNSTATE_running);
    EXPECT(now.time[RUNSTATE_blocked] >= runstate.time[RUNSTATE_blocked]);
    u64 sum = now.time[0] + now.time[1] + now.time[2] + now.time[3];
    EXPECT(sum <= system_time());
    return 0;
}

static volatile unsigned ticks;
static void tick(u32 port)
{
    (void)port;
    ticks++;
}

RULE(the_periodic_timer_ticks_until_it_is_stopped)
{
    long port = port_virq(VIRQ_TIMER, 0);
    EXPECT(port > 0);
    event_handlers[port] = tick;
    port_unmask((u32)port);
    /* A periodic timer may be on from the start (100 Hz). */
    vcpu_op(VCPUOP_stop_periodic_timer, 0, 0);
    struct vcpu_set_periodic_timer p = { .period_ns = 2 * MS };
    EXPECT_IS(vcpu_op(VCPUOP_set_periodic_timer, 0, &p), 0);
    ticks = 0;
    u64 t0 = system_time();
    while (ticks < 5 && system_time() < t0 + SECOND) sched_op(SCHEDOP_yield, 0);
    EXPECT(ticks >= 5);
    EXPECT(system_time() - t0 >= 7 * MS);
    EXPECT_IS(vcpu_op(VCPUOP_stop_periodic_timer, 0, 0), 0);
    sleep_ns(5 * MS);
    unsigned after = ticks;
    sleep_ns(20 * MS);
    /* What sleep_ns waits for is a timer too, but not VIRQ_TIMER. */
    EXPECT_IS(ticks, after);
    port_close((u32)port);
    return 0;
}

RULE(a_period_below_a_millisecond_is_refused)
{
    struct vcpu_set_periodic_timer p = { .period_ns = MS - 1 };
    EXPECT_IS(vcpu_op(VCPUOP_set_periodic_timer, 0, &p), -XEN_EINVAL);
    return 0;
}

RULE(the_time_can_be_had_in_an_area_of_the_guest)
{
    static volatile vcpu_time_info_t area;
    struct vcpu_register_time_memory_area a = { .addr.v = (vcpu_time_info_t *)&area };
    EXPECT_IS(vcpu_op(VCPUOP_register_vcpu_time_memory_area, 0, &a), 0);
    EXPECT(area.tsc_to_system_mul == vcpu_info(0)->time.tsc_to_system_mul);
    EXPECT((area.version & 1) == 0);
    return 0;
}

void guest_main(void)
{
    init_events();
    u64 sec, usec;
    gettimeofday(&sec, &usec);
    printf("The time is %lu.%06lu\n", sec, usec);
    RUN_RULES({ "the version is even outside an update", the_version_is_even_outside_an_update },
              { "the scale is usable", the_scale_is_usable },
              { "system time never goes back", system_time_never_goes_back },
              { "system time advances at the rate of the TSC", system_time_advances_at_the_rate_of_the_tsc },
              { "the wall clock is of this century", the_wall_clock_is_of_this_century },
              { "the wall clock runs with the system time", the_wall_clock_runs_with_the_system_time },
              { "a sleep lasts as long as asked", a_sleep_lasts_as_long_as_asked },
              { "the runstate area is kept", the_runstate_area_is_kept },
              { "the runstate hypercall agrees with the area", the_runstate_hypercall_agrees_with_the_area },
              { "the periodic timer ticks until it is stopped", the_periodic_timer_ticks_until_it_is_stopped },
              { "a period below a millisecond is refused", a_period_below_a_millisecond_is_refused },
              { "the time can be had in an area of the guest", the_time_can_be_had_in_an_area_of_the_guest });
}
