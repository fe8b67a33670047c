/* The rules of grants. Granter and grantee are this domain; `grant-share` has two. */
#include "grants.h"

const char guest_name[] = "grants";

static char page[4096] PAGE_ALIGNED;   /* what is granted */
static char window[4096] PAGE_ALIGNED; /* where it is mapped */
static char window2[4096] PAGE_ALIGNED;
static char other[4096] PAGE_ALIGNED;
static domid_t self;

#define REF 20

static char peek(const volatile void *p)
{
    barrier();
    return *(const volatile char *)p;
}
static void poke(volatile void *p, char c)
{
    *(volatile char *)p = c;
    barrier();
}
static unsigned flags(grant_ref_t ref) { return ((volatile grant_entry_v1_t *)grants)[ref].flags; }

RULE(the_table_has_a_size)
{
    struct gnttab_query_size q = { .dom = DOMID_SELF };
    EXPECT_IS(grant_table_op(GNTTABOP_query_size, &q, 1), 0);
    EXPECT_IS(q.status, GNTST_okay);
    EXPECT(q.nr_frames >= 1);
    EXPECT(q.max_nr_frames >= q.nr_frames);
    return 0;
}

RULE(more_frames_than_the_maximum_are_refused)
{
    static xen_pfn_t frames[4];
    struct gnttab_setup_table s = { .dom = DOMID_SELF, .nr_frames = 100000 };
    set_xen_guest_handle(s.frame_list, frames);
    EXPECT_IS(grant_table_op(GNTTABOP_setup_table, &s, 1), 0);
    EXPECT(s.status < 0);
    return 0;
}

RULE(a_grant_is_mapped_for_writing)
{
    grant_handle_t h;
    grant_access(REF, self, virt_to_mfn(page), 0);
    EXPECT_IS(grant_map(self, REF, window, 0, &h), GNTST_okay);
    EXPECT_IS(flags(REF), GTF_permit_access | GTF_reading | GTF_writing);
    poke(page, 'p');
    EXPECT_IS(peek(window), 'p');
    poke(window, 'w');
    EXPECT_IS(peek(page), 'w');
    EXPECT_IS(grant_unmap(h, window), GNTST_okay);
    EXPECT_IS(flags(REF), GTF_permit_access);
    EXPECT_IS(grant_end(REF), 1);
    return 0;
}

RULE(the_unmapped_window_is_empty)
{
    grant_handle_t h;
    grant_access(REF, self, virt_to_mfn(page), 0);
    EXPECT_IS(grant_map(self, REF, window, 0, &h), GNTST_okay);
    struct gnttab_unmap_grant_ref u = { .host_addr = (u64)window, .handle = h };
    EXPECT_IS(grant_table_op(GNTTABOP_unmap_grant_ref, &u, 1), 0);
    EXPECT_IS(u.status, GNTST_okay);
    EXPECT_IS(try_read(window), 14);
    EXPECT_IS(protect(window, PTE_RW), 0);
    EXPECT_IS(grant_end(REF), 1);
    return 0;
}

RULE(a_grant_is_mapped_for_reading)
{
    grant_handle_t h;
    grant_access(REF, self, virt_to_mfn(page), 1);
    EXPECT_IS(grant_map(self, REF, window, GNTMAP_readonly, &h), GNTST_okay);
    EXPECT_IS(flags(REF), GTF_permit_access | GTF_readonly | GTF_reading);
    EXPECT_IS(peek(window), 'w');
    EXPECT_IS(try_write(window, 'x'), 14);
    EXPECT_IS(tried.error, 3);
    EXPECT_IS(peek(page), 'w');
    EXPECT_IS(grant_unmap(h, window), GNTST_okay);
    EXPECT_IS(grant_end(REF), 1);
    return 0;
}

RULE(a_read_only_grant_is_not_mapped_for_writing)
{
    grant_handle_t h;
    grant_access(REF, self, virt_to_mfn(page), 1);
    EXPECT_IS(grant_map(self, REF, window, 0, &h), GNTST_general_error);
    EXPECT_IS(flags(REF), GTF_permit_access | GTF_readonly);
    EXPECT_IS(grant_end(REF), 1);
    return 0;
}

RULE(a_reference_beyond_the_table_is_bad)
{
    grant_handle_t h;
    EXPECT_IS(grant_map(self, 0x7fffffff, window, 0, &h), GNTST_bad_gntref);
    return 0;
}

RULE(an_empty_entry_grants_nothing)
{
    grant_handle_t h;
    EXPECT_IS(grant_map(self, 99, window, 0, &h), GNTST_general_error);
    EXPECT_IS(flags(99), 0);
    return 0;
}

RULE(a_domain_that_is_not_there_is_bad)
{
    grant_handle_t h;
    EXPECT_IS(grant_map(0x7abc, REF, window, 0, &h), GNTST_bad_domain);
    EXPECT_IS(grant_map(DOMID_SELF, REF, window, 0, &h), GNTST_bad_domain);
    return 0;
}

RULE(a_grant_to_somebody_else_is_not_ours)
{
    grant_handle_t h;
    grant_access(REF, 0x7abc, virt_to_mfn(page), 0);
    EXPECT_IS(grant_map(self, REF, window, 0, &h), GNTST_general_error);
    EXPECT_IS(flags(REF), GTF_permit_access);
    EXPECT_IS(grant_end(REF), 1);
    return 0;
}

RULE(what_is_not_ours_cannot_be_granted)
{
    grant_handle_t h;
    grant_access(REF, self, 1, 0);
    EXPECT(grant_map(self, REF, window, 0, &h) < 0);
    EXPECT_IS(flags(REF), GTF_permit_access);
    EXPECT_IS(grant_end(REF), 1);
    return 0;
}

RULE(a_page_table_cannot_be_granted_for_writing)
{
    grant_handle_t h;
    grant_access(REF, self, table_of((u64)page, 1), 0);
    EXPECT(grant_map(self, REF, window, 0, &h) < 0);
    EXPECT_IS(flags(REF), GTF_permit_access);
    EXPECT_IS(grant_end(REF), 1);
    return 0;
}

RULE(two_mappings_are_counted)
{
    grant_handle_t h1, h2;
    grant_access(REF, self, virt_to_mfn(page), 0);
    EXPECT_IS(grant_map(self, REF, window, 0, &h1), GNTST_okay);
    EXPECT_IS(grant_map(self, REF, window2, GNTMAP_readonly, &h2), GNTST_okay);
    EXPECT(h1 != h2);
    EXPECT_IS(grant_unmap(h1, window), GNTST_okay);
    EXPECT_IS(flags(REF), GTF_permit_access | GTF_reading);
    EXPECT_IS(grant_end(REF), 0);
    EXPECT_IS(grant_unmap(h2, window2), GNTST_okay);
    EXPECT_IS(flags(REF), GTF_permit_access);
    EXPECT_IS(grant_end(REF), 1);
    return 0;
}

RULE(a_grant_in_use_cannot_be_taken_back)
{
    grant_handle_t h;
    grant_access(REF, self, virt_to_mfn(page), 0);
    EXPECT_IS(grant_map(self, REF, window, 0, &h), GNTST_okay);
    EXPECT_IS(grant_end(REF), 0);
    EXPECT_IS(grant_unmap(h, window), GNTST_okay);
    EXPECT_IS(grant_end(REF), 1);
    EXPECT_IS(grant_map(self, REF, window, 0, &h), GNTST_general_error);
    return 0;
}

RULE(a_handle_is_good_for_one_unmapping)
{
    grant_handle_t h;
    struct gnttab_unmap_grant_ref u = { .host_addr = (u64)window };
    grant_access(REF, self, virt_to_mfn(page), 0);
    EXPECT_IS(grant_map(self, REF, window, 0, &h), GNTST_okay);
    EXPECT_IS(grant_unmap(h, window), GNTST_okay);
    u.handle = h;
    EXPECT_IS(grant_table_op(GNTTABOP_unmap_grant_ref, &u, 1), 0);
    EXPECT_IS(u.status, GNTST_bad_handle);
    u.handle = 0x7fffffff;
    EXPECT_IS(grant_table_op(GNTTABOP_unmap_grant_ref, &u, 1), 0);
    EXPECT_IS(u.status, GNTST_bad_handle);
    EXPECT_IS(grant_end(REF), 1);
    return 0;
}

RULE(an_unmapping_at_the_wrong_place_is_refused)
{
    grant_handle_t h;
    struct gnttab_unmap_grant_ref u = { .host_addr = (u64)other };
    grant_access(REF, self, virt_to_mfn(page), 0);
    EXPECT_IS(grant_map(self, REF, window, 0, &h), GNTST_okay);
    u.handle = h;
    EXPECT_IS(grant_table_op(GNTTABOP_unmap_grant_ref, &u, 1), 0);
    EXPECT(u.status < 0);
    EXPECT_IS(flags(REF) & GTF_reading, GTF_reading);
    EXPECT_IS(try_read(other), -1);
    EXPECT_IS(grant_unmap(h, window), GNTST_okay);
    EXPECT_IS(grant_end(REF), 1);
    return 0;
}

RULE(a_map_that_asks_for_nothing_is_refused)
{
    struct gnttab_map_grant_ref m = { .host_addr = (u64)window, .ref = REF, .dom = self };
    grant_access(REF, self, virt_to_mfn(page), 0);
    EXPECT_IS(grant_table_op(GNTTABOP_map_grant_ref, &m, 1), 0);
    EXPECT(m.status < 0);
    EXPECT_IS(grant_end(REF), 1);
    return 0;
}

RULE(every_entry_of_a_batch_has_its_own_status)
{
    struct gnttab_map_grant_ref m[2] = {
        { .host_addr = (u64)window, .flags = GNTMAP_host_map, .ref = 99, .dom = self },
        { .host_addr = (u64)window2, .flags = GNTMAP_host_map, .ref = REF, .dom = self },
    };
    grant_access(REF, self, virt_to_mfn(page), 0);
    EXPECT_IS(grant_table_op(GNTTABOP_map_grant_ref, m, 2), 0);
    EXPECT(m[0].status < 0);
    EXPECT_IS(m[1].status, GNTST_okay);
    EXPECT_IS(peek(window2), peek(page));
    EXPECT_IS(grant_unmap(m[1].handle, window2), GNTST_okay);
    EXPECT_IS(grant_end(REF), 1);
    return 0;
}

RULE(a_page_table_entry_can_be_named_instead_of_an_address)
{
    struct gnttab_map_grant_ref m = {
        .host_addr = pte_machine((u64)window), .flags = GNTMAP_host_map | GNTMAP_contains_pte, .ref = REF, .dom = self
    };
    grant_access(REF, self, virt_to_mfn(page), 0);
    EXPECT_IS(grant_table_op(GNTTABOP_map_grant_ref, &m, 1), 0);
    EXPECT_IS(m.status, GNTST_okay);
    struct mmuext_op flush = { .cmd = MMUEXT_INVLPG_LOCAL, .arg1.linear_addr = (u64)window };
    EXPECT_IS(mmuext_op(&flush, 1, 0, DOMID_SELF), 0);
    poke(page, 'e');
    EXPECT_IS(peek(window), 'e');
    struct gnttab_unmap_grant_ref u = { .host_addr = m.host_addr, .handle = m.handle };
    EXPECT_IS(grant_table_op(GNTTABOP_unmap_grant_ref, &u, 1), 0);
    EXPECT_IS(u.status, GNTST_okay);
    EXPECT_IS(protect(window, PTE_RW), 0);
    EXPECT_IS(grant_end(REF), 1);
    return 0;
}

RULE(unmap_and_replace_leaves_another_page_in_place)
{
    grant_handle_t h;
    grant_access(REF, self, virt_to_mfn(page), 0);
    poke(other, 'o');
    EXPECT_IS(grant_map(self, REF, window, 0, &h), GNTST_okay);
    struct gnttab_unmap_and_replace u = { .host_addr = (u64)window, .new_addr = (u64)other, .handle = h };
    EXPECT_IS(grant_table_op(GNTTABOP_unmap_and_replace, &u, 1), 0);
    EXPECT_IS(u.status, GNTST_okay);
    EXPECT_IS(peek(window), 'o');
    EXPECT_IS(try_read(other), 14);
    EXPECT_IS(flags(REF), GTF_permit_access);
    EXPECT_IS(protect(window, PTE_RW), 0);
    EXPECT_IS(protect(other, PTE_RW), 0);
    EXPECT_IS(grant_end(REF), 1);
    return 0;
}

/* --- copies --- */

static int copy_from_grant(grant_ref_t ref, u16 from, void *to, u16 length)
{
    struct gnttab_copy c = {
        .source = { .u.ref = ref, .domid = self, .offset = from },
        .dest = { .u.gmfn = virt_to_mfn(to), .domid = DOMID_SELF, .offset = (u16)((u64)to & 4095) },
        .len = length,
        .flags = GNTCOPY_source_gref,
    };
    long r = grant_table_op(GNTTABOP_copy, &c, 1);
    return r ? (int)r - 1000 : c.status;
}
static int copy_to_grant(const void *from, grant_ref_t ref, u16 to, u16 length)
{
    struct gnttab_copy c = {
        .source = { .u.gmfn = virt_to_mfn(from), .domid = DOMID_SELF, .offset = (u16)((u64)from & 4095) },
        .dest = { .u.ref = ref, .domid = self, .offset = to },
        .len = length,
        .flags = GNTCOPY_dest_gref,
    };
    long r = grant_table_op(GNTTABOP_copy, &c, 1);
    return r ? (int)r - 1000 : c.status;
}

RULE(a_copy_from_a_grant)
{
    grant_access(REF, self, virt_to_mfn(page), 1);
    memcpy(page + 100, "copied", 7);
    EXPECT_IS(copy_from_grant(REF, 100, other + 200, 7), GNTST_okay);
    EXPECT(!strcmp(other + 200, "copied"));
    EXPECT_IS(flags(REF), GTF_permit_access | GTF_readonly);
    EXPECT_IS(grant_end(REF), 1);
    return 0;
}

RULE(a_copy_into_a_grant)
{
    grant_access(REF, self, virt_to_mfn(page), 0);
    memcpy(other, "back", 5);
    EXPECT_IS(copy_to_grant(other, REF, 4000, 5), GNTST_okay);
    EXPECT(!strcmp(page + 4000, "back"));
    EXPECT_IS(flags(REF), GTF_permit_access);
    EXPECT_IS(grant_end(REF), 1);
    return 0;
}

RULE(no_copy_into_a_read_only_grant)
{
    grant_access(REF, self, virt_to_mfn(page), 1);
    poke(page, 'r');
    EXPECT(copy_to_grant(other, REF, 0, 5) < 0);
    EXPECT_IS(peek(page), 'r');
    EXPECT_IS(grant_end(REF), 1);
    return 0;
}

RULE(no_copy_across_the_end_of_a_page)
{
    grant_access(REF, self, virt_to_mfn(page), 0);
    EXPECT_IS(copy_from_grant(REF, 4090, other, 7), GNTST_bad_copy_arg);
    EXPECT_IS(copy_to_grant(other, REF, 4095, 2), GNTST_bad_copy_arg);
    EXPECT_IS(grant_end(REF), 1);
    return 0;
}

RULE(no_copy_without_a_grant)
{
    EXPECT(copy_from_grant(99, 0, other, 4) < 0);
    struct gnttab_copy c = {
        .source = { .u.gmfn = virt_to_mfn(page), .domid = 0 },
        .dest = { .u.gmfn = virt_to_mfn(other), .domid = DOMID_SELF },
        .len = 4,
    };
    EXPECT_IS(grant_table_op(GNTTABOP_copy, &c, 1), 0);
    EXPECT_IS(c.status, GNTST_permission_denied);
    return 0;
}

RULE(entries_can_be_swapped)
{
    grant_access(REF, self, virt_to_mfn(page), 0);
    grant_access(REF + 1, self, virt_to_mfn(other), 1);
    struct gnttab_swap_grant_ref s = { .ref_a = REF, .ref_b = REF + 1 };
    EXPECT_IS(grant_table_op(GNTTABOP_swap_grant_ref, &s, 1), 0);
    EXPECT_IS(s.status, GNTST_okay);
    EXPECT_IS(((volatile grant_entry_v1_t *)grants)[REF].frame, virt_to_mfn(other));
    EXPECT_IS(flags(REF + 1), GTF_permit_access);
    EXPECT_IS(grant_end(REF), 1);
    EXPECT_IS(grant_end(REF + 1), 1);
    return 0;
}

RULE(no_transfer_to_nobody)
{
    struct gnttab_transfer t = { .mfn = virt_to_mfn(other), .domid = 0x7abc, .ref = REF };
    EXPECT_IS(grant_table_op(GNTTABOP_transfer, &t, 1), 0);
    EXPECT(t.status < 0);
    EXPECT_IS(try_write(other, 1), -1);
    return 0;
}

/* --- version 2: 16-byte entries, and the status words in frames of their own --- */

static u64 status_frame[1];
static char status_page[4096] PAGE_ALIGNED;
#define V2 ((volatile grant_entry_v2_t *)grants)
#define STATUS ((volatile grant_status_t *)status_page)

RULE(the_version_cannot_change_while_entries_are_in_use)
{
    grant_handle_t h;
    struct gnttab_set_version v = { .version = 2 };
    grant_access(REF, self, virt_to_mfn(page), 0);
    EXPECT_IS(grant_map(self, REF, window, 0, &h), GNTST_okay);
    EXPECT(grant_table_op(GNTTABOP_set_version, &v, 1) < 0);
    EXPECT_IS(grant_unmap(h, window), GNTST_okay);
    EXPECT_IS(grant_end(REF), 1);
    return 0;
}

RULE(version_2_can_be_chosen)
{
    struct gnttab_set_version v = { .version = 2 };
    EXPECT_IS(grant_table_op(GNTTABOP_set_version, &v, 1), 0);
    struct gnttab_get_version g = { .dom = DOMID_SELF };
    EXPECT_IS(grant_table_op(GNTTABOP_get_version, &g, 1), 0);
    EXPECT_IS(g.version, 2);
    struct gnttab_get_status_frames s = { .nr_frames = 1, .dom = DOMID_SELF };
    set_xen_guest_handle(s.frame_list, status_frame);
    EXPECT_IS(grant_table_op(GNTTABOP_get_status_frames, &s, 1), 0);
    EXPECT_IS(s.status, GNTST_okay);
    EXPECT_IS(update_va_mapping(status_page, status_frame[0] * PAGE_SIZE | PTE_RW, UVMF_INVLPG), 0);
    return 0;
}

static void grant_v2(grant_ref_t ref, u64 mfn, u16 more, u16 offset, u16 length)
{
    V2[ref].full_page.frame = mfn;
    V2[ref].hdr.domid = self;
    if (more & GTF_sub_page) {
        V2[ref].sub_page.page_off = offset;
        V2[ref].sub_page.length = length;
    }
    barrier();
    V2[ref].hdr.flags = (u16)(GTF_permit_access | more);
    barrier();
}

RULE(in_version_2_the_use_shows_in_the_status)
{
    grant_handle_t h;
    grant_v2(REF, virt_to_mfn(page), 0, 0, 0);
    EXPECT_IS(grant_map(self, REF, window, 0, &h), GNTST_okay);
    EXPECT_IS(STATUS[REF], GTF_reading | GTF_writing);
    EXPECT_IS(V2[REF].hdr.flags, GTF_permit_access);
    poke(page, '2');
    EXPECT_IS(peek(window), '2');
    EXPECT_IS(grant_unmap(h, window), GNTST_okay);
    EXPECT_IS(STATUS[REF], 0);
    V2[REF].hdr.flags = 0;
    return 0;
}

RULE(part_of_a_page_can_be_copied_and_not_mapped)
{
    grant_handle_t h;
    grant_v2(REF, virt_to_mfn(page), GTF_sub_page, 64, 64);
    EXPECT(grant_map(self, REF, window, 0, &h) < 0);
    memcpy(page + 64, "part", 5);
    EXPECT_IS(copy_from_grant(REF, 64, other, 5), GNTST_okay);
    EXPECT(!strcmp(other, "part"));
    EXPECT(copy_from_grant(REF, 63, other, 5) < 0);
    EXPECT(copy_from_grant(REF, 124, other, 5) < 0);
    V2[REF].hdr.flags = 0;
    return 0;
}

RULE(and_back_to_version_1)
{
    struct gnttab_set_version v = { .version = 1 };
    EXPECT_IS(protect(status_page, PTE_RW), 0); /* the status frames must not be in use */
    EXPECT_IS(grant_table_op(GNTTABOP_set_version, &v, 1), 0);
    EXPECT_IS(v.version, 1);
    grant_handle_t h;
    grant_access(REF, self, virt_to_mfn(page), 0);
    EXPECT_IS(grant_map(self, REF, window, 0, &h), GNTST_okay);
    EXPECT_IS(grant_unmap(h, window), GNTST_okay);
    EXPECT_IS(grant_end(REF), 1);
    return 0;
}

RULE(a_version_3_is_unknown)
{
    struct gnttab_set_version v = { .version = 3 };
    EXPECT_IS(grant_table_op(GNTTABOP_set_version, &v, 1), -XEN_EINVAL);
    return 0;
}

void guest_main(void)
{
    init_events();
    grants_init();
    self = own_domid();
#define R(name) { #name, name }
    RUN_RULES(R(the_table_has_a_size), R(more_frames_than_the_maximum_are_refused), R(a_grant_is_mapped_for_writing),
              R(the_unmapped_window_is_empty), R(a_grant_is_mapped_for_reading), R(a_read_only_grant_is_not_mapped_for_writing),
              R(a_reference_beyond_the_table_is_bad),
              R(an_empty_entry_grants_nothing), R(a_domain_that_is_not_there_is_bad), R(a_grant_to_somebody_else_is_not_ours),
              R(what_is_not_ours_cannot_be_granted), R(a_page_table_cannot_be_granted_for_writing), R(two_mappings_are_counted),
              R(a_grant_in_use_cannot_be_taken_back), R(a_handle_is_good_for_one_unmapping),
              R(an_unmapping_at_the_wrong_place_is_refused), R(a_map_that_asks_for_nothing_is_refused),
              R(every_entry_of_a_batch_has_its_own_status), R(a_page_table_entry_can_be_named_instead_of_an_address),
              R(unmap_and_replace_leaves_another_page_in_place), R(a_copy_from_a_grant), R(a_copy_into_a_grant),
              R(no_copy_into_a_read_only_grant), R(no_copy_across_the_end_of_a_page), R(no_copy_without_a_grant),
              R(entries_can_be_swapped), R(no_transfer_to_nobody), R(the_version_cannot_change_while_entries_are_in_use),
              R(version_2_can_be_chosen), R(in_version_2_the_use_shows_in_the_status), R(part_of_a_page_can_be_copied_and_not_mapped),
              R(and_back_to_version_1), R(a_version_3_is_unknown));
}
