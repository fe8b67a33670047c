/**
 * GNTTABOP_set_version: change the format of the table. Nothing but the first eight entries (the toolstack's) may be in use, and only these survive.
 */
import { EAGAIN, EBUSY, EFAULT, EINVAL, ENOSYS, ERANGE } from "../../abi/errno.js";
import {
  GNTTAB_NR_RESERVED_ENTRIES,
  GTF_permit_access,
  GTF_reading,
  GTF_transitive,
  GTF_type_mask,
  GTF_writing,
  grant_entry_v1,
  grant_entry_v2,
} from "../../abi/grant_table.js";
import type { Va } from "../../machine/cpu/api.js";
import type { Call } from "../hypercalls/call.js";
import { view } from "../memory/util.js";
import type { GrantTable } from "./grant-table.js";

const IN_USE = GTF_reading | GTF_writing;

export function setVersion(call: Call, at: Va): number {
  const raw = call.guest.copyFrom(at, 4);
  if (raw === null) return -EFAULT;
  const gt = call.domain.grants;
  const rc = change(gt, view(raw).getUint32(0, true));
  return call.guest.write32(at, gt.version) ? rc : -EFAULT;
}

function change(gt: GrantTable, version: number): number {
  if (version !== 1 && version !== 2) return -EINVAL;
  if (version > gt.maxVersion) return -ENOSYS;
  if (version === gt.version) return 0;
  for (let ref = GNTTAB_NR_RESERVED_ENTRIES; ref < gt.entries; ref++) if (gt.pin[ref] !== 0) return -EBUSY;
  const mem = gt.ft.mem;
  const kept: { flags: number; domid: number; frame: number }[] = [];
  if (gt.version === 1) {
    const rc = gt.populateStatus();
    if (rc !== 0) return rc;
    for (let ref = 0; ref < GNTTAB_NR_RESERVED_ENTRIES; ref++) {
      const e = gt.entryAt(ref);
      kept.push({ flags: mem.r16(e), domid: mem.r16(e + 2), frame: mem.r32(e + grant_entry_v1.frame) });
    }
  } else {
    if (gt.v2Ops !== 0) return -EAGAIN;
    for (let ref = 0; ref < GNTTAB_NR_RESERVED_ENTRIES; ref++) {
      const e = gt.entryAt(ref);
      const type = mem.r16(e) & GTF_type_mask;
      // A frame beyond 32 bits, or a grant of a grant, has no form in version 1.
      if (
        type === GTF_transitive ||
        (type === GTF_permit_access && mem.r32(e + grant_entry_v2.full_page_frame + 4) !== 0)
      )
        return -ERANGE;
    }
    for (let ref = 0; ref < GNTTAB_NR_RESERVED_ENTRIES; ref++) {
      const e = gt.entryAt(ref);
      const flags = mem.r16(e);
      kept.push(
        (flags & GTF_type_mask) === GTF_permit_access
          ? {
              flags: flags | mem.r16(gt.statusAt(ref)),
              domid: mem.r16(e + 2),
              frame: mem.r32(e + grant_entry_v2.full_page_frame),
            }
          : { flags: 0, domid: 0, frame: 0 },
      );
    }
    if (!gt.statusUnused) return -EBUSY;
    gt.dropStatus();
  }
  for (const f of gt.frames) mem.zeroFrame(f);
  gt.version = version;
  kept.forEach((k, ref) => {
    const e = gt.entryAt(ref);
    if (version === 1) {
      mem.w32(e + grant_entry_v1.frame, k.frame);
      mem.w16(e + 2, k.domid);
      mem.w16(e, k.flags);
    } else {
      mem.w16(gt.statusAt(ref), k.flags & IN_USE);
      mem.w64(e + grant_entry_v2.full_page_frame, k.frame, 0);
      mem.w16(e + 2, k.domid);
      mem.w16(e, k.flags & ~IN_USE);
    }
  });
  return 0;
}
