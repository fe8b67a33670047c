#include "xenstore.h"
#include <xen/io/xs_wire.h>

static u32 next_request;

static struct xenstore_domain_interface *ring(void) { return mfn_to_virt(start_info->store_mfn); }

static void ignore(u32 port) { (void)port; }

void xenstore_init(void)
{
    event_handlers[start_info->store_evtchn] = ignore;
    port_unmask(start_info->store_evtchn);
}

/* Wait for the other side to move; it kicks, and a timer helps where a kick came before we looked. */
static void wait_for_store(void)
{
    evtchn_port_t port = start_info->store_evtchn;
    struct sched_poll poll = { .nr_ports = 1, .timeout = system_time() + 5000000 };
    set_xen_guest_handle(poll.ports, &port);
    sched_op(SCHEDOP_poll, &poll);
}

static void put(const void *data, size_t length)
{
    volatile struct xenstore_domain_interface *r = ring();
    const char *from = data;
    while (length > 0) {
        u32 prod = r->req_prod;
        barrier();
        if (prod - r->req_cons == XENSTORE_RING_SIZE) {
            port_send(start_info->store_evtchn);
            wait_for_store();
            continue;
        }
        r->req[MASK_XENSTORE_IDX(prod)] = *from++;
        length--;
        barrier();
        r->req_prod = prod + 1;
    }
}

static void get(void *data, size_t length)
{
    volatile struct xenstore_domain_interface *r = ring();
    char *to = data;
    while (length > 0) {
        u32 cons = r->rsp_cons;
        if (cons == r->rsp_prod) {
            wait_for_store();
            continue;
        }
        barrier();
        char c = r->rsp[MASK_XENSTORE_IDX(cons)];
        if (to) *to++ = c;
        length--;
        barrier();
        r->rsp_cons = cons + 1;
    }
}

/* One request and its answer: the answer's length, or −1 for an error or one that does not fit. */
static int talk(u32 type, const char *path, const char *value, char *to, size_t size)
{
    u32 length = (u32)strlen(path) + 1 + (value ? (u32)strlen(value) : 0);
    struct xsd_sockmsg message = { .type = type, .req_id = ++next_request, .tx_id = 0, .len = length };
    put(&message, sizeof message);
    put(path, strlen(path) + 1);
    if (value) put(value, strlen(value));
    port_send(start_info->store_evtchn);
    get(&message, sizeof message);
    int fits = message.type == type && message.len < size;
    get(fits ? to : 0, message.len);
    port_send(start_info->store_evtchn);
    if (!fits) return -1;
    to[message.len] = 0;
    return (int)message.len;
}

int xenstore_read(const char *path, char *to, size_t size) { return talk(XS_READ, path, 0, to, size); }

u64 xenstore_number(const char *path, u64 other)
{
    char text[24];
    if (xenstore_read(path, text, sizeof text) <= 0) return other;
    u64 n = 0;
    for (const char *c = text; *c; c++) {
        if (*c < '0' || *c > '9') return other;
        n = n * 10 + (u64)(*c - '0');
    }
    return n;
}

int xenstore_write(const char *path, const char *value)
{
    char answer[8];
    return talk(XS_WRITE, path, value, answer, sizeof answer) >= 0;
}

int xenstore_remove(const char *path)
{
    char answer[8];
    return talk(XS_RM, path, 0, answer, sizeof answer) >= 0;
}

int xenstore_list(const char *path, char *to, size_t size)
{
    int length = talk(XS_DIRECTORY, path, 0, to, size);
    int n = 0;
    for (int i = 0; i < length; i++) n += to[i] == 0;
    return length < 0 ? -1 : n;
}
