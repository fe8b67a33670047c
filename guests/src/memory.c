/* The rules of memory: who may map what, page types and pins, the M2P, writable page tables, the balloon, address spaces. */
#include "guest.h"

const char guest_name[] = "memory";

static char page_a[4096] PAGE_ALIGNED;
static char page_b[4096] PAGE_ALIGNED;

/* Reads and writes that the compiler does not move: the same byte has several addresses here. */
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

static long map(void *va, u64 mfn, u64 bits) { return update_va_mapping(va, mfn * PAGE_SIZE | bits, UVMF_INVLPG | UVMF_LOCAL); }
static long ext(unsigned cmd, u64 mfn)
{
    struct mmuext_op op = { .cmd = cmd, .arg1.mfn = mfn };
    return mmuext_op(&op, 1, 0, DOMID_SELF);
}
static long pin(int level, u64 mfn)
{
    static const unsigned cmd[] = { 0, MMUEXT_PIN_L1_TABLE, MMUEXT_PIN_L2_TABLE, MMUEXT_PIN_L3_TABLE, MMUEXT_PIN_L4_TABLE };
    return ext(cmd[level], mfn);
}
static long unpin(u64 mfn) { return ext(MMUEXT_UNPIN_TABLE, mfn); }
static long update(u64 at, u64 value)
{
    struct mmu_update u = { .ptr = at, .val = value };
    return mmu_update(&u, 1, 0, DOMID_SELF);
}

/* --- frames and their numbers --- */

RULE(the_m2p_inverts_the_p2m)
{
    for (u64 pfn = 0; pfn < start_info->nr_pages; pfn++) EXPECT_IS(m2p[p2m()[pfn]], pfn);
    return 0;
}

RULE(the_m2p_is_where_xen_says)
{
    struct xen_machphys_mapping where;
    EXPECT_IS(memory_op(XENMEM_machphys_mapping, &where), 0);
    EXPECT_IS(where.v_start, MACH2PHYS_VIRT_START);
    u64 top = (u64)memory_op(XENMEM_maximum_ram_page, 0);
    for (u64 pfn = 0; pfn < start_info->nr_pages; pfn++) EXPECT(p2m()[pfn] <= top);
    return 0;
}

RULE(the_m2p_can_be_updated_for_a_frame_of_ours)
{
    u64 mfn = virt_to_mfn(page_a), pfn = virt_to_pfn(page_a);
    EXPECT_IS(update(mfn * PAGE_SIZE | MMU_MACHPHYS_UPDATE, 0x77), 0);
    EXPECT_IS(m2p[mfn], 0x77);
    EXPECT_IS(update(mfn * PAGE_SIZE | MMU_MACHPHYS_UPDATE, pfn), 0);
    EXPECT_IS(m2p[mfn], pfn);
    return 0;
}

RULE(the_reservation_is_what_start_info_says)
{
    domid_t self = DOMID_SELF;
    EXPECT_IS(memory_op(XENMEM_current_reservation, &self), start_info->nr_pages);
    EXPECT(memory_op(XENMEM_maximum_reservation, &self) >= (long)start_info->nr_pages);
    return 0;
}

/* --- refusals --- */

RULE(a_page_table_may_not_be_mapped_writable)
{
    u64 was = *pte_of((u64)page_a);
    for (int level = 1; level <= 4; level++) {
        EXPECT(map(page_a, table_of((u64)page_a, level), PTE_RW) < 0);
        EXPECT_IS(*pte_of((u64)page_a) & PTE_FRAME, was & PTE_FRAME);
    }
    return 0;
}

RULE(a_page_table_may_be_mapped_read_only)
{
    u64 l1 = table_of((u64)page_a, 1);
    EXPECT_IS(map(page_a, l1, PTE_RO), 0);
    EXPECT_IS(((u64 *)page_a)[table_index((u64)page_a, 1)] & PTE_FRAME, l1 * PAGE_SIZE);
    EXPECT_IS(protect(page_a, PTE_RW), 0);
    return 0;
}

RULE(a_frame_of_xen_may_not_be_mapped)
{
    EXPECT(map(page_a, 1, PTE_RW) < 0);
    EXPECT(map(page_a, 1, PTE_RO) < 0);
    return 0;
}

RULE(a_frame_that_does_not_exist_may_not_be_mapped)
{
    EXPECT(map(page_a, 0x3ffffffffful, PTE_RW) < 0);
    return 0;
}

RULE(xens_addresses_may_not_be_mapped)
{
    EXPECT(update_va_mapping(HYPERVISOR_VIRT_START, virt_to_mfn(page_a) * PAGE_SIZE | PTE_RW, 0) < 0);
    EXPECT(update_va_mapping(HYPERVISOR_VIRT_END - PAGE_SIZE, virt_to_mfn(page_a) * PAGE_SIZE | PTE_RW, 0) < 0);
    return 0;
}

RULE(xens_slots_of_the_root_may_not_be_written)
{
    u64 root = table_of(0, 4);
    for (unsigned slot = 256; slot < 272; slot++) EXPECT(update(root * PAGE_SIZE + slot * 8, 0) < 0);
    EXPECT_IS(m2p[virt_to_mfn(page_a)], virt_to_pfn(page_a));
    return 0;
}

RULE(what_is_not_pinned_cannot_be_unpinned)
{
    EXPECT(unpin(virt_to_mfn(page_a)) < 0);
    EXPECT(unpin(table_of((u64)page_a, 1)) < 0);
    return 0;
}

RULE(a_writable_page_cannot_become_a_page_table)
{
    for (int level = 1; level <= 4; level++) EXPECT(pin(level, virt_to_mfn(page_a)) < 0);
    EXPECT_IS(try_write(page_a, 1), -1);
    return 0;
}

RULE(mmu_update_stops_at_the_first_refusal)
{
    u64 at = pte_machine((u64)page_b), good = virt_to_mfn(page_b) * PAGE_SIZE | PTE_RW;
    struct mmu_update u[3] = { { .ptr = at, .val = good }, { .ptr = at, .val = 1 * PAGE_SIZE | PTE_RW }, { .ptr = at, .val = 0 } };
    int done = -1;
    EXPECT(mmu_update(u, 3, &done, DOMID_SELF) < 0);
    EXPECT_IS(done, 1);
    EXPECT_IS(*pte_of((u64)page_b) & PTE_FRAME, good & PTE_FRAME);
    return 0;
}

RULE(nobody_elses_tables_may_be_updated)
{
    struct mmu_update u = { .ptr = pte_machine((u64)page_b), .val = 0 };
    EXPECT(mmu_update(&u, 1, 0, 0x7abc) < 0);
    EXPECT(mmu_update(&u, 1, 0, 0) < 0);
    EXPECT(update(1 * PAGE_SIZE, 0) < 0);
    return 0;
}

/* --- updates of mappings --- */

RULE(update_va_mapping_changes_what_is_seen)
{
    poke(&page_a[0], 'a');
    poke(&page_b[0], 'b');
    EXPECT_IS(map(page_a, virt_to_mfn(page_b), PTE_RW), 0);
    EXPECT_IS(peek(page_a), 'b');
    EXPECT_IS(protect(page_a, PTE_RW), 0);
    EXPECT_IS(peek(page_a), 'a');
    return 0;
}

RULE(mmu_update_and_invlpg_change_what_is_seen)
{
    EXPECT_IS(update(pte_machine((u64)page_a), virt_to_mfn(page_b) * PAGE_SIZE | PTE_RW), 0);
    struct mmuext_op flush = { .cmd = MMUEXT_INVLPG_LOCAL, .arg1.linear_addr = (u64)page_a };
    EXPECT_IS(mmuext_op(&flush, 1, 0, DOMID_SELF), 0);
    EXPECT_IS(peek(page_a), 'b');
    EXPECT_IS(update(pte_machine((u64)page_a), virt_to_mfn(page_a) * PAGE_SIZE | PTE_RW), 0);
    struct mmuext_op all = { .cmd = MMUEXT_TLB_FLUSH_LOCAL };
    EXPECT_IS(mmuext_op(&all, 1, 0, DOMID_SELF), 0);
    EXPECT_IS(peek(page_a), 'a');
    return 0;
}

RULE(the_processor_sets_accessed_and_dirty)
{
    EXPECT_IS(protect(page_a, PTE_P | PTE_W | PTE_U), 0);
    EXPECT_IS(*pte_of((u64)page_a) & (PTE_A | PTE_D), 0);
    peek(page_a);
    EXPECT_IS(*pte_of((u64)page_a) & (PTE_A | PTE_D), PTE_A);
    poke(page_a, 'a');
    EXPECT_IS(*pte_of((u64)page_a) & (PTE_A | PTE_D), PTE_A | PTE_D);
    return 0;
}

RULE(an_update_can_preserve_accessed_and_dirty)
{
    poke(page_a, 'a');
    EXPECT_IS(update(pte_machine((u64)page_a) | MMU_PT_UPDATE_PRESERVE_AD, virt_to_mfn(page_a) * PAGE_SIZE | PTE_P | PTE_W | PTE_U), 0);
    EXPECT_IS(*pte_of((u64)page_a) & (PTE_A | PTE_D), PTE_A | PTE_D);
    return 0;
}

RULE(an_unmapped_page_faults)
{
    EXPECT_IS(protect(page_a, 0), 0);
    EXPECT_IS(try_read(page_a), 14);
    EXPECT_IS(tried.error, 0);
    EXPECT_IS(protect(page_a, PTE_RW), 0);
    EXPECT_IS(try_read(page_a), -1);
    return 0;
}

RULE(clear_page_and_copy_page)
{
    poke(&page_a[100], 'x');
    struct mmuext_op copy = { .cmd = MMUEXT_COPY_PAGE, .arg1.mfn = virt_to_mfn(page_b), .arg2.src_mfn = virt_to_mfn(page_a) };
    EXPECT_IS(mmuext_op(&copy, 1, 0, DOMID_SELF), 0);
    EXPECT_IS(peek(&page_b[100]), 'x');
    EXPECT_IS(ext(MMUEXT_CLEAR_PAGE, virt_to_mfn(page_b)), 0);
    EXPECT_IS(peek(&page_b[100]), 0);
    EXPECT(ext(MMUEXT_CLEAR_PAGE, table_of((u64)page_a, 1)) < 0);
    return 0;
}

/* --- page types and pins --- */

RULE(an_l1_is_pinned_and_unpinned)
{
    void *l1 = alloc_page();
    u64 mfn = virt_to_mfn(l1);
    ((u64 *)l1)[5] = virt_to_mfn(page_a) * PAGE_SIZE | PTE_RW;
    EXPECT_IS(protect(l1, PTE_RO), 0);
    EXPECT_IS(pin(1, mfn), 0);
    EXPECT(pin(1, mfn) < 0);                  /* once is enough */
    EXPECT(pin(2, mfn) < 0);                  /* one type at a time */
    EXPECT(protect(l1, PTE_RW) < 0);          /* typed: not writable */
    EXPECT_IS(unpin(mfn), 0);
    EXPECT(unpin(mfn) < 0);
    EXPECT_IS(protect(l1, PTE_RW), 0);        /* its type is free again */
    EXPECT_IS(try_write(l1, 0), -1);
    return 0;
}

RULE(an_l1_with_a_foreign_frame_is_refused)
{
    u64 *l1 = alloc_page();
    l1[0] = virt_to_mfn(page_a) * PAGE_SIZE | PTE_RW;
    l1[1] = 1 * PAGE_SIZE | PTE_RW;
    EXPECT_IS(protect(l1, PTE_RO), 0);
    EXPECT(pin(1, virt_to_mfn(l1)) < 0);
    EXPECT_IS(protect(l1, PTE_RW), 0);        /* and has no type */
    l1[1] = 0;
    EXPECT_IS(protect(l1, PTE_RO), 0);
    EXPECT_IS(pin(1, virt_to_mfn(l1)), 0);
    EXPECT_IS(unpin(virt_to_mfn(l1)), 0);
    return 0;
}

RULE(an_l1_with_a_writable_page_table_is_refused)
{
    u64 *l1 = alloc_page();
    l1[0] = table_of((u64)page_a, 1) * PAGE_SIZE | PTE_RW;
    EXPECT_IS(protect(l1, PTE_RO), 0);
    EXPECT(pin(1, virt_to_mfn(l1)) < 0);
    return 0;
}

RULE(a_superpage_is_refused)
{
    u64 *l2 = alloc_page();
    l2[0] = (virt_to_mfn(page_a) * PAGE_SIZE & ~0x1ffffful) | PTE_RW | 0x80;
    EXPECT_IS(protect(l2, PTE_RO), 0);
    EXPECT(pin(2, virt_to_mfn(l2)) < 0);
    return 0;
}

/* Copies of the live tables, each one level up: the copy of an L3 holds the same L2s as the original. */
RULE(copies_of_every_level_can_be_pinned)
{
    for (int level = 1; level <= 4; level++) {
        u64 *copy = alloc_page();
        memcpy(copy, mfn_to_virt(table_of((u64)copy, level)), PAGE_SIZE);
        /* In its copy, the L1 must not map itself writable. */
        if (level == 1) copy[table_index((u64)copy, 1)] &= ~PTE_W;
        EXPECT_IS(protect(copy, PTE_RO), 0);
        EXPECT_IS(pin(level, virt_to_mfn(copy)), 0);
        EXPECT(protect(copy, PTE_RW) < 0);
        EXPECT_IS(unpin(virt_to_mfn(copy)), 0);
        EXPECT_IS(protect(copy, PTE_RW), 0);
    }
    return 0;
}

RULE(an_l1_in_use_keeps_its_type_after_the_unpin)
{
    u64 *l1 = alloc_page();
    u64 l2 = table_of((u64)virt_base, 2), mfn = virt_to_mfn(l1);
    unsigned slot = 511; /* of the L2: 1 GiB − 2 MiB from virt_base */
    char *va = virt_base + slot * 0x200000ul;
    l1[3] = virt_to_mfn(page_a) * PAGE_SIZE | PTE_RW;
    EXPECT_IS(protect(l1, PTE_RO), 0);
    EXPECT_IS(pin(1, mfn), 0);
    EXPECT_IS(update(l2 * PAGE_SIZE + slot * 8, mfn * PAGE_SIZE | PTE_RW), 0);
    poke(&page_a[7], 'y');
    EXPECT_IS(peek((va + 3 * PAGE_SIZE + 7)), 'y');
    EXPECT_IS(unpin(mfn), 0);
    EXPECT(protect(l1, PTE_RW) < 0);
    EXPECT_IS(peek((va + 3 * PAGE_SIZE + 7)), 'y');
    EXPECT_IS(update(l2 * PAGE_SIZE + slot * 8, 0), 0);
    EXPECT_IS(protect(l1, PTE_RW), 0);
    return 0;
}

RULE(a_data_page_does_not_go_into_an_l2)
{
    u64 l2 = table_of((u64)virt_base, 2);
    EXPECT(update(l2 * PAGE_SIZE + 510 * 8, virt_to_mfn(page_a) * PAGE_SIZE | PTE_RW) < 0);
    EXPECT_IS(((u64 *)mfn_to_virt(l2))[510], 0);
    return 0;
}

RULE(the_running_root_can_be_unpinned_and_stays)
{
    u64 root = table_of(0, 4);
    EXPECT_IS(unpin(root), 0);
    EXPECT(map(page_b, root, PTE_RW) < 0);
    EXPECT_IS(pin(4, root), 0);
    return 0;
}

/* --- address spaces --- */

RULE(a_copied_root_can_be_loaded)
{
    u64 old = table_of(0, 4);
    void *copy = alloc_page();
    u64 mfn = virt_to_mfn(copy);
    memcpy(copy, mfn_to_virt(old), PAGE_SIZE);
    EXPECT_IS(protect(copy, PTE_RO), 0);
    EXPECT_IS(pin(4, mfn), 0);
    EXPECT_IS(ext(MMUEXT_NEW_BASEPTR, mfn), 0);
    EXPECT_IS(try_read(page_a), -1);
    EXPECT_IS(m2p[mfn], virt_to_pfn(copy));
    u64 cr3 = 0;
    TRY("movq %%cr3, %0", "=r"(cr3), "a"(0));
    EXPECT_IS(cr3, mfn * PAGE_SIZE);
    EXPECT_IS(ext(MMUEXT_NEW_BASEPTR, old), 0);
    EXPECT_IS(unpin(mfn), 0);
    EXPECT_IS(protect(copy, PTE_RW), 0);
    return 0;
}

RULE(only_a_root_can_be_loaded)
{
    EXPECT(ext(MMUEXT_NEW_BASEPTR, virt_to_mfn(page_a)) < 0);
    EXPECT(ext(MMUEXT_NEW_BASEPTR, table_of((u64)page_a, 3)) < 0);
    EXPECT(ext(MMUEXT_NEW_BASEPTR, 1) < 0);
    EXPECT(ext(MMUEXT_NEW_USER_BASEPTR, virt_to_mfn(page_a)) < 0);
    return 0;
}

/* --- writable page tables --- */

RULE(page_tables_are_read_only_without_the_assist)
{
    EXPECT_IS(vm_assist(VMASST_CMD_disable, VMASST_TYPE_writable_pagetables), 0);
    volatile u64 *pte = (volatile u64 *)pte_of((u64)page_a);
    TRY("movq %1, (%0)", NOTHING, "r"(pte), "r"(0ul));
    EXPECT_IS(tried.vector, 14);
    EXPECT_IS(tried.error, 3);
    EXPECT(*pte != 0);
    return 0;
}

RULE(with_the_assist_they_can_be_written_like_memory)
{
    volatile u64 *pte = (volatile u64 *)pte_of((u64)page_a);
    u64 was = *pte, other = virt_to_mfn(page_b) * PAGE_SIZE | PTE_RW;
    poke(&page_b[9], 'w');
    EXPECT_IS(vm_assist(VMASST_CMD_enable, VMASST_TYPE_writable_pagetables), 0);
    TRY("movq %1, (%0)", NOTHING, "r"(pte), "r"(other));
    EXPECT_IS(tried.vector, -1);
    struct mmuext_op flush = { .cmd = MMUEXT_INVLPG_LOCAL, .arg1.linear_addr = (u64)page_a };
    EXPECT_IS(mmuext_op(&flush, 1, 0, DOMID_SELF), 0);
    EXPECT_IS(peek(&page_a[9]), 'w');
    u64 swapped = was;
    TRY("xchgq %0, (%1)", "+r"(swapped), "r"(pte));
    EXPECT_IS(swapped & PTE_FRAME, other & PTE_FRAME);
    EXPECT_IS(tried.vector, -1);
    EXPECT_IS(mmuext_op(&flush, 1, 0, DOMID_SELF), 0);
    EXPECT_IS(*pte & PTE_FRAME, was & PTE_FRAME);
    return 0;
}

RULE(but_only_what_is_valid)
{
    volatile u64 *pte = (volatile u64 *)pte_of((u64)page_a);
    u64 was = *pte;
    TRY("movq %1, (%0)", NOTHING, "r"(pte), "r"(1 * PAGE_SIZE | PTE_RW));
    EXPECT_IS(tried.vector, 14);
    EXPECT_IS(*pte, was);
    /* And only in an L1. */
    volatile u64 *l2 = (volatile u64 *)mfn_to_virt(table_of((u64)page_a, 2)) + 509;
    TRY("movq %1, (%0)", NOTHING, "r"(l2), "r"(0ul));
    EXPECT_IS(tried.vector, 14);
    EXPECT_IS(vm_assist(VMASST_CMD_disable, VMASST_TYPE_writable_pagetables), 0);
    return 0;
}

/* --- the balloon --- */

static long reservation(unsigned cmd, xen_pfn_t *frames, u64 n)
{
    struct xen_memory_reservation r = { .nr_extents = n, .domid = DOMID_SELF };
    set_xen_guest_handle(r.extent_start, frames);
    return memory_op(cmd, &r);
}

RULE(a_page_given_back_is_no_longer_ours)
{
    char *page = alloc_page();
    domid_t self = DOMID_SELF;
    xen_pfn_t frame = virt_to_mfn(page);
    u64 pfn = virt_to_pfn(page), old = frame;
    long before = memory_op(XENMEM_current_reservation, &self);
    EXPECT_IS(protect(page, 0), 0);
    EXPECT_IS(reservation(XENMEM_decrease_reservation, &frame, 1), 1);
    EXPECT_IS(memory_op(XENMEM_current_reservation, &self), before - 1);
    EXPECT(map(page, old, PTE_RW) < 0);

    /* populate_physmap takes the pfn and puts the new mfn in its place; the M2P is Xen's to write. */
    frame = pfn;
    EXPECT_IS(reservation(XENMEM_populate_physmap, &frame, 1), 1);
    EXPECT_IS(memory_op(XENMEM_current_reservation, &self), before);
    EXPECT_IS(m2p[frame], pfn);
    p2m()[pfn] = frame;
    EXPECT_IS(protect(page, PTE_RW), 0);
    EXPECT_IS(try_write(page, 1), -1);
    return 0;
}

RULE(increase_reservation_gives_a_frame)
{
    char *page = alloc_page();
    xen_pfn_t frame = virt_to_mfn(page);
    u64 pfn = virt_to_pfn(page);
    EXPECT_IS(protect(page, 0), 0);
    EXPECT_IS(reservation(XENMEM_decrease_reservation, &frame, 1), 1);
    frame = 0;
    EXPECT_IS(reservation(XENMEM_increase_reservation, &frame, 1), 1);
    EXPECT(frame != 0);
    EXPECT_IS(update((u64)frame * PAGE_SIZE | MMU_MACHPHYS_UPDATE, pfn), 0);
    p2m()[pfn] = frame;
    EXPECT_IS(protect(page, PTE_RW), 0);
    for (unsigned i = 0; i < PAGE_SIZE; i++) EXPECT_IS(page[i], 0); /* nobody's secrets in it */
    return 0;
}

RULE(the_reservation_has_a_maximum)
{
    static xen_pfn_t many[64];
    domid_t self = DOMID_SELF;
    long room = memory_op(XENMEM_maximum_reservation, &self) - memory_op(XENMEM_current_reservation, &self);
    if (room >= 64) return 0; /* maxmem is far above memory: nothing to see */
    EXPECT_IS(reservation(XENMEM_increase_reservation, many, 64), room);
    for (long i = 0; i < room; i++) EXPECT_IS(reservation(XENMEM_decrease_reservation, &many[i], 1), 1);
    return 0;
}

RULE(a_foreign_frame_cannot_be_given_back)
{
    xen_pfn_t frame = 1;
    EXPECT_IS(reservation(XENMEM_decrease_reservation, &frame, 1), 0);
    return 0;
}

RULE(exchange_swaps_a_frame)
{
    char *page = alloc_page();
    u64 pfn = virt_to_pfn(page);
    xen_pfn_t in = virt_to_mfn(page), out = pfn, old = in;
    EXPECT_IS(protect(page, 0), 0);
    struct xen_memory_exchange x = {
        .in = { .nr_extents = 1, .domid = DOMID_SELF },
        .out = { .nr_extents = 1, .domid = DOMID_SELF },
    };
    set_xen_guest_handle(x.in.extent_start, &in);
    set_xen_guest_handle(x.out.extent_start, &out);
    EXPECT_IS(memory_op(XENMEM_exchange, &x), 0);
    EXPECT_IS(x.nr_exchanged, 1);
    EXPECT_IS(m2p[out], pfn);
    if (out != old) EXPECT(map(page, old, PTE_RW) < 0);
    p2m()[pfn] = out;
    EXPECT_IS(protect(page, PTE_RW), 0);
    EXPECT_IS(try_write(page, 1), -1);
    return 0;
}

/* --- segments --- */

#define FLAT_DATA_DESCRIPTOR 0x00cff3000000fffful
#define BASED_DATA_DESCRIPTOR(base) (0x00cff3000000fffful | ((u64)(base) & 0xffffff) << 16 | ((u64)(base) >> 24 & 0xff) << 56)

RULE(a_gdt_of_our_own)
{
    u64 *gdt = alloc_page();
    xen_pfn_t frame = virt_to_mfn(gdt);
    gdt[4] = FLAT_DATA_DESCRIPTOR;
    EXPECT(HC(set_gdt, &frame, 512, 0, 0, 0) < 0);   /* it is mapped writable */
    EXPECT_IS(protect(gdt, PTE_RO), 0);
    EXPECT_IS(HC(set_gdt, &frame, 512, 0, 0, 0), 0);
    EXPECT(protect(gdt, PTE_RW) < 0);
    TRY("movw %w0, %%ds", NOTHING, "r"(4 * 8 + 3));
    EXPECT_IS(tried.vector, -1);
    TRY("movw %w0, %%ds", NOTHING, "r"(5 * 8 + 3));
    EXPECT_IS(tried.vector, 13);
    EXPECT_IS(tried.error, 5 * 8);
    EXPECT_IS(HC(update_descriptor, frame * PAGE_SIZE + 5 * 8, FLAT_DATA_DESCRIPTOR, 0, 0, 0), 0);
    TRY("movw %w0, %%ds", NOTHING, "r"(5 * 8 + 3));
    EXPECT_IS(tried.vector, -1);
    asm volatile("movw %w0, %%ds" : : "r"(0));
    EXPECT_IS(HC(set_gdt, 0, 0, 0, 0, 0), 0);
    EXPECT_IS(protect(gdt, PTE_RW), 0);
    return 0;
}

RULE(a_task_state_segment_is_no_descriptor_for_guests)
{
    u64 *gdt = alloc_page();
    EXPECT(HC(update_descriptor, virt_to_mfn(gdt) * PAGE_SIZE + 8, 0x0000890000000067ul, 0, 0, 0) < 0);
    gdt[1] = 0x0000890000000067ul;
    xen_pfn_t frame = virt_to_mfn(gdt);
    EXPECT_IS(protect(gdt, PTE_RO), 0);
    EXPECT(HC(set_gdt, &frame, 512, 0, 0, 0) < 0);
    return 0;
}

RULE(an_ldt_of_our_own)
{
    u64 *ldt = alloc_page();
    static u64 cell = 0x1d7;
    ldt[2] = FLAT_DATA_DESCRIPTOR;
    EXPECT_IS(protect(ldt, PTE_RO), 0);
    struct mmuext_op set = { .cmd = MMUEXT_SET_LDT, .arg1.linear_addr = (u64)ldt, .arg2.nr_ents = 512 };
    EXPECT_IS(mmuext_op(&set, 1, 0, DOMID_SELF), 0);
    TRY("movw %w0, %%fs", NOTHING, "r"(2 * 8 + 4 + 3));
    EXPECT_IS(tried.vector, -1);
    EXPECT(protect(ldt, PTE_RW) < 0);
    EXPECT_IS(HC(set_segment_base, SEGBASE_FS, &cell, 0, 0, 0), 0);
    u64 seen;
    asm volatile("movq %%fs:0, %0\n\tmovw %w1, %%fs" : "=&r"(seen) : "r"(0) : "memory");
    EXPECT_IS(seen, 0x1d7);
    set.arg2.nr_ents = 0;
    EXPECT_IS(mmuext_op(&set, 1, 0, DOMID_SELF), 0);
    TRY("movw %w0, %%fs", NOTHING, "r"(2 * 8 + 4 + 3));
    EXPECT_IS(tried.vector, 13);
    EXPECT_IS(protect(ldt, PTE_RW), 0);
    return 0;
}

void guest_main(void)
{
    init_events();
#define R(name) { #name, name }
    RUN_RULES(R(the_m2p_inverts_the_p2m), R(the_m2p_is_where_xen_says), R(the_m2p_can_be_updated_for_a_frame_of_ours),
              R(the_reservation_is_what_start_info_says), R(a_page_table_may_not_be_mapped_writable),
              R(a_page_table_may_be_mapped_read_only), R(a_frame_of_xen_may_not_be_mapped),
              R(a_frame_that_does_not_exist_may_not_be_mapped), R(xens_addresses_may_not_be_mapped),
              R(xens_slots_of_the_root_may_not_be_written), R(what_is_not_pinned_cannot_be_unpinned),
              R(a_writable_page_cannot_become_a_page_table), R(mmu_update_stops_at_the_first_refusal),
              R(nobody_elses_tables_may_be_updated), R(update_va_mapping_changes_what_is_seen),
              R(mmu_update_and_invlpg_change_what_is_seen), R(the_processor_sets_accessed_and_dirty),
              R(an_update_can_preserve_accessed_and_dirty), R(an_unmapped_page_faults), R(clear_page_and_copy_page),
              R(an_l1_is_pinned_and_unpinned), R(an_l1_with_a_foreign_frame_is_refused),
              R(an_l1_with_a_writable_page_table_is_refused), R(a_superpage_is_refused), R(copies_of_every_level_can_be_pinned),
              R(an_l1_in_use_keeps_its_type_after_the_unpin), R(a_data_page_does_not_go_into_an_l2),
              R(the_running_root_can_be_unpinned_and_stays), R(a_copied_root_can_be_loaded), R(only_a_root_can_be_loaded),
              R(page_tables_are_read_only_without_the_assist), R(with_the_assist_they_can_be_written_like_memory),
              R(but_only_what_is_valid), R(a_page_given_back_is_no_longer_ours), R(increase_reservation_gives_a_frame),
              R(the_reservation_has_a_maximum), R(a_foreign_frame_cannot_be_given_back), R(exchange_swaps_a_frame), R(a_gdt_of_our_own),
              R(a_task_state_segment_is_no_descriptor_for_guests), R(an_ldt_of_our_own));
}
