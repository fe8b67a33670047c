#include "grants.h"

static char table[4096] PAGE_ALIGNED;
grant_entry_v1_t *grants = (grant_entry_v1_t *)table;

void grants_init(void)
{
    xen_pfn_t frame = 0;
    struct gnttab_setup_table s = { .dom = DOMID_SELF, .nr_frames = 1 };
    set_xen_guest_handle(s.frame_list, &frame);
    long r = grant_table_op(GNTTABOP_setup_table, &s, 1);
    if (r || s.status) fail("setup_table: %ld, status %d", r, s.status);
    r = update_va_mapping(table, frame * PAGE_SIZE | PTE_RW, UVMF_INVLPG | UVMF_LOCAL);
    if (r) fail("mapping the grant table: %ld", r);
}

/* Frame and domain first; the flags make the entry valid. */
void grant_access(grant_ref_t ref, domid_t dom, u64 mfn, int readonly)
{
    volatile grant_entry_v1_t *g = &grants[ref];
    g->frame = (u32)mfn;
    g->domid = dom;
    barrier();
    g->flags = (u16)(GTF_permit_access | (readonly ? GTF_readonly : 0));
}

/* Xen sets GTF_reading and GTF_writing while it is mapped: only an entry without them may be cleared, in one step. */
int grant_end(grant_ref_t ref)
{
    volatile u16 *flags = &grants[ref].flags;
    u16 was = *flags;
    while (!(was & (GTF_reading | GTF_writing))) {
        if (__atomic_compare_exchange_n(flags, &was, 0, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) return 1;
    }
    return 0;
}

int grant_map(domid_t dom, grant_ref_t ref, void *at, u32 flags, grant_handle_t *handle)
{
    struct gnttab_map_grant_ref m = { .host_addr = (u64)at, .flags = flags | GNTMAP_host_map, .ref = ref, .dom = dom };
    m.status = 1;
    long r = grant_table_op(GNTTABOP_map_grant_ref, &m, 1);
    if (r) return (int)r - 1000;
    *handle = m.handle;
    return m.status;
}

int grant_unmap(grant_handle_t handle, void *at)
{
    struct gnttab_unmap_grant_ref u = { .host_addr = (u64)at, .handle = handle };
    u.status = 1;
    long r = grant_table_op(GNTTABOP_unmap_grant_ref, &u, 1);
    if (r) return (int)r - 1000;
    if (u.status == GNTST_okay && protect(at, PTE_RW)) fail("the page under the mapping would not come back");
    return u.status;
}
