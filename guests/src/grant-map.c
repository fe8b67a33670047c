/* Exercise 4.4: offer a page, and map an offered page. Both sides are this domain. */
#include "grants.h"

const char guest_name[] = "grant-map";

static char offered[4096] PAGE_ALIGNED;
static char window[4096] PAGE_ALIGNED;

void guest_main(void)
{
    const char text[] = "written through the original mapping";
    grant_handle_t handle;

    /* Grants know domains by number only: DOMID_SELF is GNTST_bad_domain here. */
    domid_t self = own_domid();
    grants_init();
    memcpy(offered, text, sizeof text);

    /* The granting side: an entry of the table names the domain, the frame and the right. */
    grant_access(8, self, virt_to_mfn(offered), 0);
    printf("reference 8: frame %lx offered to domain %u (myself), flags %x\n", virt_to_mfn(offered), self, grants[8].flags);

    /* The mapping side: domain and reference are all it needs to know. */
    int status = grant_map(self, 8, window, 0, &handle);
    if (status) fail("map_grant_ref: status %d", status);
    printf("mapped at %p, handle %u, flags %x\n", (void *)window, handle, grants[8].flags);
    printf("read: %s\n", window);
    if (strcmp(window, text)) fail("another page is mapped");
    memcpy(window, "and back", 9);
    if (strcmp(offered, "and back")) fail("what was written through the mapping is not there");

    /* Revoking too early is not possible: Xen shows in the entry that it is in use. */
    if (grant_end(8)) fail("the entry looked unused while it was mapped");
    printf("cannot be taken back yet, flags %x\n", grants[8].flags);

    status = grant_unmap(handle, window);
    if (status) fail("unmap_grant_ref: status %d", status);
    printf("unmapped, flags %x\n", grants[8].flags);
    if (!grant_end(8)) fail("the entry looks used after the unmapping");
    status = grant_map(self, 8, window, 0, &handle);
    if (status != GNTST_general_error) fail("a revoked grant was mapped: status %d", status);
    pass();
}
