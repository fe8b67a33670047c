/*
 * A guest that can be saved, restored and migrated: it works on its pages and checks them all the time, says by an event channel's number how it
 * may be asked to suspend itself, does so, and goes on. `rounds=` ends it after so many rounds (0: never), `work=` says how many pages a round writes.
 */
#include "guest.h"

const char guest_name[] = "suspend";

#define PAGES 48
#define WORDS 512

static u64 data[PAGES][WORDS] PAGE_ALIGNED;
/* How often each page was written: what must be in it follows from this. */
static u64 writes[PAGES];
/* Another address for one of the pages, changed all the time, so that page tables are written too. */
static char window[4096] PAGE_ALIGNED;
/* Where the toolstack finds the P2M: a list of lists of frames. */
static u64 frame_list_list[WORDS] PAGE_ALIGNED;
static u64 frame_list[WORDS] PAGE_ALIGNED;

static u32 port;
static volatile int asked;

static u64 expected(unsigned page, unsigned word) { return writes[page] * 0x9e3779b97f4a7c15ul + page * 1000 + word; }

static void check(unsigned page)
{
    for (unsigned w = 0; w < WORDS; w += 37)
        if (data[page][w] != expected(page, w))
            fail("page %u word %u is %lx, not %lx (write %lu)", page, w, data[page][w], expected(page, w), writes[page]);
}

static void rewrite(unsigned page)
{
    writes[page]++;
    for (unsigned w = 0; w < WORDS; w++) data[page][w] = expected(page, w);
}

static void look_through_window(unsigned page)
{
    long r = update_va_mapping(window, virt_to_mfn(data[page]) * PAGE_SIZE | PTE_RW, UVMF_INVLPG | UVMF_LOCAL);
    if (r) fail("mapping page %u: %ld", page, r);
    if (*(volatile u64 *)window != expected(page, 0)) fail("the window shows another page than %u", page);
}

static void on_request(u32 p)
{
    (void)p;
    asked = 1;
}

static void publish_p2m(void)
{
    u64 frames = (start_info->nr_pages + WORDS - 1) / WORDS;
    if (frames > WORDS) fail("too large");
    for (u64 i = 0; i < frames; i++) frame_list[i] = virt_to_mfn(p2m() + i * WORDS);
    frame_list_list[0] = virt_to_mfn(frame_list);
    shared_info->arch.max_pfn = start_info->nr_pages;
    shared_info->arch.pfn_to_mfn_frame_list_list = virt_to_mfn(frame_list_list);
}

static void offer_port(void)
{
    struct evtchn_alloc_unbound alloc = { .dom = DOMID_SELF, .remote_dom = 0 };
    long r = event_channel_op(EVTCHNOP_alloc_unbound, &alloc);
    if (r) fail("alloc_unbound: %ld", r);
    port = alloc.port;
    event_handlers[port] = on_request;
    port_unmask(port);
}

static void suspend(u64 round)
{
    struct sched_shutdown s = { .reason = SHUTDOWN_suspend };
    events_mask();
    asked = 0;
    start_info->store_mfn = m2p[start_info->store_mfn];
    start_info->console.domU.mfn = m2p[start_info->console.domU.mfn];
    /* Nothing but memory of our own may be mapped. */
    long r = update_va_mapping(shared_info, 0, UVMF_INVLPG | UVMF_LOCAL);
    if (r) fail("unmapping shared_info: %ld", r);
    long moved = HC(sched_op, SCHEDOP_shutdown, &s, virt_to_mfn(start_info), 0, 0);
    if (moved != 0 && moved != 1) fail("suspend: %ld", moved);
    r = update_va_mapping(shared_info, start_info->shared_info | PTE_RW, UVMF_INVLPG | UVMF_LOCAL);
    if (r) fail("mapping shared_info: %ld", r);
    if (moved == 1) {
        start_info->store_mfn = p2m()[start_info->store_mfn];
        start_info->console.domU.mfn = p2m()[start_info->console.domU.mfn];
    } else {
        /* Event channels are gone. */
        for (u32 p = 0; p < 4096; p++) port_mask(p);
        offer_port();
    }
    if (m2p[start_info->store_mfn] >= start_info->nr_pages) fail("the XenStore ring is none of our pages");
    publish_p2m();
    events_unmask();
    printf("went on with %ld at round %lu, port %u\n", moved, round, port);
}

void guest_main(void)
{
    u64 rounds = option("rounds", 300);
    u64 work = option("work", 6);
    init_events();
    publish_p2m();
    offer_port();
    printf("port %u\n", port);
    for (u64 round = 0; rounds == 0 || round < rounds; round++) {
        for (u64 i = 0; i < work; i++) rewrite((unsigned)((round * work + i) % PAGES));
        look_through_window((unsigned)(round % PAGES));
        for (unsigned p = 0; p < PAGES; p++)
            if (writes[p]) check(p);
        if (asked) suspend(round);
        if (round % 100 == 99) printf("round %lu\n", round + 1);
        sleep_ns(100000);
    }
    pass();
}
