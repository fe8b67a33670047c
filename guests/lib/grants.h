/* Grants, version 1: the table at a fixed place, and the four things one does with it. */
#ifndef GRANTS_H
#define GRANTS_H
#include "guest.h"

extern grant_entry_v1_t *grants;

/* Have the table's first frame and map it. Ends the guest where that fails. */
void grants_init(void);
/* Let `dom` have our frame. */
void grant_access(grant_ref_t ref, domid_t dom, u64 mfn, int readonly);
/* Take it back; 0: it is in use, and stays. */
int grant_end(grant_ref_t ref);
/* Map a foreign page over `at`, a page of ours (which is out of sight until grant_unmap). Returns GNTST_*. */
int grant_map(domid_t dom, grant_ref_t ref, void *at, u32 flags, grant_handle_t *handle);
/* Unmap, and have the page of ours back. */
int grant_unmap(grant_handle_t handle, void *at);
#endif
