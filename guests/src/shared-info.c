/* Exercise 5.8: map the shared info page, three ways, and read it. */
#include "guest.h"

const char guest_name[] = "shared-info";

static char by_va[4096] PAGE_ALIGNED;
static char by_mmu[4096] PAGE_ALIGNED;

RULE(update_va_mapping_maps_it)
{
    EXPECT_IS(update_va_mapping(by_va, start_info->shared_info | PTE_RW, UVMF_INVLPG), 0);
    EXPECT((*pte_of((u64)by_va) & PTE_FRAME) == start_info->shared_info);
    return 0;
}

RULE(mmu_update_maps_it_a_second_time)
{
    struct mmu_update u = { .ptr = pte_machine((u64)by_mmu) | MMU_NORMAL_PT_UPDATE, .val = start_info->shared_info | PTE_RW };
    int done = 0;
    EXPECT_IS(mmu_update(&u, 1, &done, DOMID_SELF), 0);
    EXPECT_IS(done, 1);
    struct mmuext_op flush = { .cmd = MMUEXT_INVLPG_LOCAL, .arg1.linear_addr = (u64)by_mmu };
    EXPECT_IS(mmuext_op(&flush, 1, 0, DOMID_SELF), 0);
    return 0;
}

RULE(both_mappings_are_one_page)
{
    shared_info_t *a = (shared_info_t *)by_va, *b = (shared_info_t *)by_mmu;
    a->evtchn_mask[0] = 0x1234;
    barrier();
    EXPECT(b->evtchn_mask[0] == 0x1234);
    b->evtchn_mask[0] = ~0ul;
    barrier();
    EXPECT(a->evtchn_mask[0] == ~0ul);
    return 0;
}

RULE(its_frame_is_not_one_of_the_guests_pages)
{
    u64 mfn = start_info->shared_info / PAGE_SIZE;
    for (u64 pfn = 0; pfn < start_info->nr_pages; pfn++) EXPECT(p2m()[pfn] != mfn);
    return 0;
}

RULE(vcpu_info_starts_with_events_masked)
{
    vcpu_info_t *v = (vcpu_info_t *)&((shared_info_t *)by_va)->vcpu_info[0];
    EXPECT_IS(v->evtchn_upcall_mask, 1);
    return 0;
}

RULE(it_has_a_wall_clock)
{
    EXPECT(((shared_info_t *)by_va)->wc_sec != 0);
    return 0;
}

RULE(a_registered_vcpu_info_takes_over)
{
    static struct vcpu_info mine __attribute__((aligned(64)));
    struct vcpu_register_vcpu_info r = { .mfn = virt_to_mfn(&mine), .offset = (u32)((u64)&mine & 4095) };
    EXPECT_IS(vcpu_op(VCPUOP_register_vcpu_info, 0, &r), 0);
    EXPECT_IS(mine.evtchn_upcall_mask, 1);
    EXPECT(mine.time.tsc_to_system_mul != 0);
    /* Only once. */
    EXPECT_IS(vcpu_op(VCPUOP_register_vcpu_info, 0, &r), -XEN_EINVAL);
    return 0;
}

void guest_main(void)
{
    printf("shared_info is machine frame %lx\n", start_info->shared_info / PAGE_SIZE);
    RUN_RULES({ "update_va_mapping maps it", update_va_mapping_maps_it },
              { "mmu_update maps it a second time", mmu_update_maps_it_a_second_time },
              { "both mappings are one page", both_mappings_are_one_page },
              { "its frame is not one of the guest's pages", its_frame_is_not_one_of_the_guests_pages },
              { "vcpu_info starts with events masked", vcpu_info_starts_with_events_masked },
              { "it has a wall clock", it_has_a_wall_clock },
              { "a registered vcpu_info takes over", a_registered_vcpu_info_takes_over });
}
