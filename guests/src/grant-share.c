/*
 * Exercise 4.5: two domains share a page. `role=a peer=N ref=R`: offers a page and waits for domain N; `role=b peer=N ref=R`: maps it.
 * They find each other by the command line alone. The event channel's number is in the page unless b has `port=`.
 */
#include "grants.h"

const char guest_name[] = "grant-share";

#define MAGIC 0x58656e6fu
#define SECOND 1000000000ull
#define ROUNDS 5

struct page {
    volatile u32 magic, port, request, answer;
    volatile char text[64];
};

static char area[4096] PAGE_ALIGNED;
static struct page *shared = (struct page *)area;
static volatile u32 kicks;

static void kicked(u32 port)
{
    (void)port;
    kicks++;
}

/* Wait until `*word` is `value`, woken by the peer's events, looking every 10 ms in any case. */
static int await(volatile u32 *word, u32 value, u32 port, u64 end)
{
    while (*word != value) {
        u64 now = system_time();
        if (now >= end) return 0;
        struct sched_poll poll = { .nr_ports = 1, .timeout = now + 10000000 };
        set_xen_guest_handle(poll.ports, &port);
        sched_op(SCHEDOP_poll, &poll);
    }
    return 1;
}

static void role_a(domid_t peer, grant_ref_t ref, u64 end)
{
    struct evtchn_alloc_unbound alloc = { .dom = DOMID_SELF, .remote_dom = peer };
    long r = event_channel_op(EVTCHNOP_alloc_unbound, &alloc);
    if (r) fail("alloc_unbound: %ld", r);
    event_handlers[alloc.port] = kicked;
    port_unmask(alloc.port);

    const char text[] = "a page of domain A";
    memcpy((char *)shared->text, text, sizeof text);
    shared->port = alloc.port;
    barrier();
    shared->magic = MAGIC;
    grants_init();
    grant_access(ref, peer, virt_to_mfn(shared), 0);
    printf("a: frame %lx offered to domain %u as reference %u, port %u\n", virt_to_mfn(shared), peer, ref, alloc.port);

    for (u32 i = 1; i <= ROUNDS; i++) {
        if (!await(&shared->request, i, alloc.port, end)) fail("a: no request %u from domain %u", i, peer);
        shared->answer = i;
        barrier();
        r = port_send(alloc.port);
        if (r) fail("a: send: %ld", r);
    }
    printf("a: answered %u requests, %u events\n", ROUNDS, kicks);
    if (kicks == 0) fail("a: no event came");
    /* Not before the peer has let go. */
    while (!grant_end(ref)) {
        if (system_time() >= end) fail("a: domain %u never unmapped the page", peer);
        sleep_ns(1000000);
    }
    printf("a: page taken back: %s\n", (const char *)shared->text);
}

static void role_b(domid_t peer, grant_ref_t ref, u64 end)
{
    grant_handle_t handle;
    int status;
    while ((status = grant_map(peer, ref, shared, 0, &handle)) != GNTST_okay) {
        /* No such domain yet, or nothing offered yet. */
        if (status != GNTST_bad_domain && status != GNTST_bad_gntref && status != GNTST_general_error) fail("b: map_grant_ref: status %d", status);
        if (system_time() >= end) fail("b: domain %u offers nothing: status %d", peer, status);
        sleep_ns(5000000);
    }
    if (shared->magic != MAGIC) fail("b: another page: %x", shared->magic);
    printf("b: mapped: %s\n", (const char *)shared->text);

    struct evtchn_bind_interdomain bind = { .remote_dom = peer, .remote_port = (u32)option("port", shared->port) };
    long r = event_channel_op(EVTCHNOP_bind_interdomain, &bind);
    if (r) fail("b: bind_interdomain to port %u: %ld", bind.remote_port, r);
    event_handlers[bind.local_port] = kicked;
    port_unmask(bind.local_port);
    for (u32 i = 1; i <= ROUNDS; i++) {
        shared->request = i;
        barrier();
        r = port_send(bind.local_port);
        if (r) fail("b: send: %ld", r);
        if (!await(&shared->answer, i, bind.local_port, end)) fail("b: no answer %u from domain %u", i, peer);
    }
    const char text[] = "with greetings from domain B";
    memcpy((char *)shared->text, text, sizeof text);
    port_close(bind.local_port);
    status = grant_unmap(handle, shared);
    if (status) fail("b: unmap_grant_ref: status %d", status);
    printf("b: %u answers, %u events, page unmapped\n", ROUNDS, kicks);
}

void guest_main(void)
{
    domid_t peer = (domid_t)option("peer", 0xffff);
    grant_ref_t ref = (grant_ref_t)option("ref", 8);
    init_events();
    u64 end = system_time() + 20 * SECOND;
    if (peer == 0xffff) fail("the command line must have peer=DOMID");
    if (option_is("role", "a")) role_a(peer, ref, end);
    else if (option_is("role", "b")) role_b(peer, ref, end);
    else fail("the command line must have role=a or role=b");
    pass();
}
