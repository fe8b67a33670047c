#include "console.h"

struct xencons_interface *pv_console(void) { return mfn_to_virt(start_info->console.domU.mfn); }

/*
 * The producer's side: bytes first, then the index that shows them, then the kick. Indices only grow and wrap at 2^32; they are
 * reduced to the ring's size where they are used.
 */
void pv_console_write(const char *text, size_t length)
{
    volatile struct xencons_interface *c = pv_console();
    u32 port = start_info->console.domU.evtchn;
    while (length > 0) {
        u32 prod = c->out_prod;
        u32 room = sizeof c->out - (prod - c->out_cons);
        barrier();
        if (room == 0) {
            port_send(port);
            sched_op(SCHEDOP_yield, 0);
            continue;
        }
        for (; room > 0 && length > 0; room--, length--) c->out[MASK_XENCONS_IDX(prod++, c->out)] = *text++;
        barrier();
        c->out_prod = prod;
        port_send(port);
    }
}

/* The consumer's side: the producer's index first, then the bytes, then our index, then the kick. */
size_t pv_console_read(char *to, size_t size)
{
    volatile struct xencons_interface *c = pv_console();
    u32 cons = c->in_cons, prod = c->in_prod;
    size_t n = 0;
    barrier();
    while (cons != prod && n < size) to[n++] = c->in[MASK_XENCONS_IDX(cons++, c->in)];
    if (n > 0) {
        barrier();
        c->in_cons = cons;
        port_send(start_info->console.domU.evtchn);
    }
    return n;
}

int pv_console_drain(void)
{
    volatile struct xencons_interface *c = pv_console();
    for (int i = 0; i < 1000; i++) {
        if (c->out_cons == c->out_prod) return 1;
        sleep_ns(1000000);
    }
    return 0;
}
