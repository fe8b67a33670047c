/*
 * Exercise 10.5: the front end of a device type of our own. One domain writes messages to a page; any number of others read them, through
 * read-only grants. The back end tells who is who (its node `role`) and introduces; then they are on their own.
 *
 * The page: a header, then 63 slots of 64 bytes. The writer fills a slot, then counts `head` up: message n is in slot n % 63. A reader keeps its own
 * place; one that is too slow finds a slot overwritten (its number is another) and knows how much it has lost.
 */
#include "grants.h"
#include "xenstore.h"

const char guest_name[] = "broadcast";

#define SECOND 1000000000ull
#define MAGIC 0x54534342u
#define SLOTS 63
#define MESSAGES 200
#define MAX_READERS 8
#define FIRST_REF 16

struct slot {
    volatile u32 number, length;
    volatile char text[56];
};
struct page {
    volatile u32 magic, version, slots, head;
    volatile u32 end; /* the writer has said all */
    u32 pad[11];
    struct slot slot[SLOTS];
};
_Static_assert(sizeof(struct page) == 4096, "a page");

static char area[4096] PAGE_ALIGNED;
static struct page *page = (struct page *)area;
static char front[] = "device/broadcast/0";
static char back[128];
static volatile u32 kicks;

static void kicked(u32 port)
{
    (void)port;
    kicks++;
}

static void path_in(char *to, size_t size, const char *directory, const char *name) { snprintf(to, size, "%s/%s", directory, name); }
static u64 back_number(const char *name, u64 other)
{
    char path[192];
    path_in(path, sizeof path, back, name);
    return xenstore_number(path, other);
}
static void set_state(const char *state)
{
    char path[64];
    path_in(path, sizeof path, front, "state");
    if (!xenstore_write(path, state)) fail("cannot write the state");
}

/* --- the writer ------------------------------------------------------------------------------------------------------------ */

static struct { domid_t domid; u32 port; } readers[MAX_READERS];
static int reader_count;

/* Grant the page to whoever is on the back end's list and was not served yet. */
static void serve_new_readers(void)
{
    char path[192], names[256], value[16], node[64];
    path_in(path, sizeof path, back, "readers");
    int n = xenstore_list(path, names, sizeof names);
    const char *name = names;
    for (int i = 0; i < n; i++, name += strlen(name) + 1) {
        u64 domid = 0;
        for (const char *c = name; *c >= '0' && *c <= '9'; c++) domid = domid * 10 + (u64)(*c - '0');
        int known = 0;
        for (int k = 0; k < reader_count; k++) known |= readers[k].domid == domid;
        if (known || reader_count == MAX_READERS) continue;
        struct evtchn_alloc_unbound alloc = { .dom = DOMID_SELF, .remote_dom = (domid_t)domid };
        long r = event_channel_op(EVTCHNOP_alloc_unbound, &alloc);
        if (r) fail("alloc_unbound for domain %lu: %ld", domid, r);
        event_handlers[alloc.port] = kicked;
        port_unmask(alloc.port);
        u32 ref = FIRST_REF + (u32)reader_count;
        grant_access(ref, (domid_t)domid, virt_to_mfn(page), 1);
        readers[reader_count].domid = (domid_t)domid;
        readers[reader_count++].port = alloc.port;
        snprintf(node, sizeof node, "%s/reader-%lu/page-ref", front, domid);
        snprintf(value, sizeof value, "%u", ref);
        xenstore_write(node, value);
        snprintf(node, sizeof node, "%s/reader-%lu/event-channel", front, domid);
        snprintf(value, sizeof value, "%u", alloc.port);
        xenstore_write(node, value);
        printf("writer: domain %lu may read: reference %u, port %u\n", domid, ref, alloc.port);
    }
}

static void say(u32 number)
{
    struct slot *s = &page->slot[number % SLOTS];
    char text[56];
    int length = snprintf(text, sizeof text, "message %u", number);
    s->number = 0xffffffff;
    barrier();
    memcpy((char *)s->text, text, (size_t)length);
    s->length = (u32)length;
    barrier();
    s->number = number;
    barrier();
    page->head = number + 1;
}

static void write_messages(u64 wanted, u64 end)
{
    page->version = 1;
    page->slots = SLOTS;
    barrier();
    page->magic = MAGIC;
    grants_init();
    set_state("3");
    while ((u64)reader_count < wanted) {
        serve_new_readers();
        if (system_time() > end) fail("writer: %d of %lu readers came", reader_count, wanted);
        sleep_ns(2000000);
    }
    set_state("4");
    for (u32 i = 0; i < MESSAGES; i++) {
        say(i);
        for (int k = 0; k < reader_count; k++) port_send(readers[k].port);
        /* Slow enough for everybody who listens. */
        if (i % 16 == 15) sleep_ns(20000000);
    }
    page->end = 1;
    for (int k = 0; k < reader_count; k++) port_send(readers[k].port);
    printf("writer: %u messages to %d readers\n", MESSAGES, reader_count);
    /* A grant is taken back only when the reader has let go. */
    for (int k = 0; k < reader_count; k++)
        while (!grant_end(FIRST_REF + (u32)k)) {
            if (system_time() > end) fail("writer: domain %u never unmapped the page", readers[k].domid);
            sleep_ns(2000000);
        }
    printf("writer: the page is its own again\n");
    set_state("6");
}

/* --- a reader -------------------------------------------------------------------------------------------------------------- */

static void read_messages(u64 end)
{
    set_state("3");
    u64 ref;
    while ((ref = back_number("page-ref", ~0ull)) == ~0ull) {
        if (system_time() > end) fail("reader: nobody writes");
        sleep_ns(2000000);
    }
    domid_t writer = (domid_t)back_number("writer-id", 0xffff);
    grant_handle_t handle;
    /* Asking for more than was granted is refused. */
    int status = grant_map(writer, (grant_ref_t)ref, page, 0, &handle);
    if (status == GNTST_okay) fail("reader: the page can be mapped writable");
    status = grant_map(writer, (grant_ref_t)ref, page, GNTMAP_readonly, &handle);
    if (status != GNTST_okay) fail("reader: map_grant_ref: status %d", status);
    if (page->magic != MAGIC || page->slots != SLOTS) fail("reader: another page: %x", page->magic);
    if (try_write((void *)&page->head, 0) != 14) fail("reader: the page can be written");
    struct evtchn_bind_interdomain bind = { .remote_dom = writer, .remote_port = (u32)back_number("event-channel", 0) };
    long r = event_channel_op(EVTCHNOP_bind_interdomain, &bind);
    if (r) fail("reader: bind_interdomain: %ld", r);
    event_handlers[bind.local_port] = kicked;
    port_unmask(bind.local_port);
    set_state("4");
    printf("reader: reads the page of domain %u, reference %lu\n", writer, ref);

    u32 next = 0, heard = 0, lost = 0;
    for (;;) {
        u32 head = page->head, over = page->end;
        barrier();
        if (next == head) {
            if (over) break;
            if (system_time() > end) fail("reader: the writer fell silent at %u", next);
            struct sched_poll poll = { .nr_ports = 1, .timeout = system_time() + 50000000 };
            set_xen_guest_handle(poll.ports, &bind.local_port);
            sched_op(SCHEDOP_poll, &poll);
            continue;
        }
        if (head - next > SLOTS) {
            lost += head - next - SLOTS;
            next = head - SLOTS;
        }
        struct slot copy = page->slot[next % SLOTS];
        barrier();
        if (copy.number != next || page->slot[next % SLOTS].number != next) {
            lost++;
            next++;
            continue;
        }
        char want[56];
        int length = snprintf(want, sizeof want, "message %u", next);
        if (copy.length != (u32)length || strncmp((const char *)copy.text, want, (size_t)length)) fail("reader: message %u is torn", next);
        heard++;
        next++;
    }
    printf("reader: %u messages, %u lost, %u events\n", heard, lost, kicks);
    if (heard + lost != MESSAGES || heard == 0) fail("reader: %u and %u are not %u", heard, lost, MESSAGES);
    port_close(bind.local_port);
    status = grant_unmap(handle, page);
    if (status) fail("reader: unmap_grant_ref: status %d", status);
    set_state("6");
}

void guest_main(void)
{
    char path[192], role[16];
    init_traps();
    init_events();
    xenstore_init();
    u64 end = system_time() + option("seconds", 60) * SECOND;
    /* The device may be plugged in later. */
    snprintf(path, sizeof path, "%s/backend", front);
    while (xenstore_read(path, back, sizeof back) <= 0) {
        if (system_time() > end) fail("no broadcast device came");
        sleep_ns(5000000);
    }
    while (back_number("state", 0) != 2) {
        if (system_time() > end) fail("the back end is not ready");
        sleep_ns(2000000);
    }
    snprintf(path, sizeof path, "%s/role", back);
    if (xenstore_read(path, role, sizeof role) <= 0) fail("no role");
    if (!strcmp(role, "writer")) write_messages(option("readers", 2), end);
    else if (!strcmp(role, "reader")) read_messages(end);
    else fail("a role of another kind: %s", role);
    pass();
}
