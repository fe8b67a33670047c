/**
 * HYPERVISOR_mmu_update: a batch of {ptr, val} requests, each a page-table entry to change (checked) or an M2P entry to set.
 * It stops at the first refused request; `*done` counts those before it. A long batch continues by itself (bit 31 of the count).
 */
import { EFAULT, EINVAL, ENOMEM, ENOSYS, EPERM, ESRCH } from "../../abi/errno.js";
import {
  MMU_MACHPHYS_UPDATE,
  MMU_NORMAL_PT_UPDATE,
  MMU_PT_UPDATE_NO_TRANSLATE,
  MMU_PT_UPDATE_PRESERVE_AD,
  mmu_update,
} from "../../abi/xen.js";
import { traceCall, type Call } from "../hypercalls/call.js";
import { word } from "../trace.js";
import type { DomainMemory } from "./domain-memory.js";
import {
  F_VALIDATED,
  OWNER_IO,
  PGT_l1_page_table,
  PGT_l4_page_table,
  PGT_writable_page,
  type FrameTable,
  type PageType,
} from "./frame-table.js";
import { countDone, doneBefore, goOn, onlyResult, requestCount } from "./requests.js";
import { pageOwner } from "./util.js";

const PREEMPT_EVERY = 32;

export function doMmuUpdate(call: Call): number {
  if (onlyResult(call)) return call.lo(3) | 0;
  const count = requestCount(call);
  const before = doneBefore(call);
  const foreign = call.lo(3);
  let i = 0;
  let rc = 0;
  let pt: DomainMemory = call.domain.mm;
  const ptDomain = foreign >>> 16;
  if (ptDomain !== 0) {
    const d = call.xen.domains.get(ptDomain - 1);
    if (d === undefined) rc = -ESRCH;
    else if (d !== call.domain && (d.mm === undefined || d.vcpus.length === 0)) rc = -EINVAL;
    else pt = d.mm;
  }
  const pg = rc === 0 ? pageOwner(call, foreign & 0xffff) : 0;
  // −ESRCH at once; a refused privilege only with the first request, as the requests decide what is asked.
  if (rc === 0 && pg === -ESRCH) rc = pg;
  let flush = false;
  if (rc === 0) {
    const ft = call.xen.frames;
    const allowed = pg > 0 && (pt === call.domain.mm || call.domain.privileged);
    const base = call.va(0);
    const guest = call.guest;
    while (i < count) {
      if (i !== 0 && i % PREEMPT_EVERY === 0 && call.preempt()) {
        finish(call, before + i, flush);
        return goOn(call, i, mmu_update.size);
      }
      const at = base + i * mmu_update.size;
      if (!guest.read64(at + mmu_update.ptr)) {
        rc = -EFAULT;
        break;
      }
      const ptrLo = guest.lo;
      const ptrHi = guest.hi;
      if (!guest.read64(at + mmu_update.val)) {
        rc = -EFAULT;
        break;
      }
      const { lo, hi } = guest;
      const cmd = ptrLo & 7;
      const ma = ptrHi * 4294967296 + ((ptrLo & ~7) >>> 0);
      if (cmd === MMU_NORMAL_PT_UPDATE || cmd === MMU_PT_UPDATE_PRESERVE_AD || cmd === MMU_PT_UPDATE_NO_TRANSLATE) {
        if (!allowed) rc = -EPERM;
        else {
          const level = updateEntry(ft, pt, pg, ma, lo, hi, cmd === MMU_PT_UPDATE_PRESERVE_AD);
          if (level < 0) rc = level;
          else if (level > PGT_l1_page_table) flush = true;
        }
      } else if (cmd === MMU_MACHPHYS_UPDATE) {
        if (pt !== call.domain.mm) rc = -EPERM;
        else if (pg < 0 || pg === OWNER_IO) rc = pg < 0 ? -EPERM : -EINVAL;
        else rc = machphys(call, pg, ma, lo, hi);
      } else rc = -ENOSYS;
      if (call.xen.trace.on) {
        const name = cmd === MMU_MACHPHYS_UPDATE ? "machphys_update" : "pt_update";
        traceCall(call, "pagetable", name, { ptr: ma, val: word(lo, hi) }, rc);
      }
      if (rc !== 0) break;
      i++;
    }
  }
  finish(call, before + i, flush);
  return rc;
}

/** Upper-level changes flush at once: linear page tables read through them. */
function finish(call: Call, done: number, flush: boolean): void {
  if (flush) call.xen.frames.flushTlb();
  countDone(call, done);
}

/** One entry: the level changed (1–4; 0 for data in a page that is no table), or a negative errno. */
export function updateEntry(
  ft: FrameTable,
  pt: DomainMemory,
  pg: number,
  ma: number,
  lo: number,
  hi: number,
  keepAd: boolean,
): number {
  const mfn = Math.floor(ma / 4096);
  if (!ft.getPage(mfn, pt.id)) return -EINVAL;
  const type = ft.type[mfn] as PageType;
  let rc = -EINVAL;
  if ((ft.tcount[mfn] as number) > 0 && ((ft.flags[mfn] as number) & F_VALIDATED) !== 0) {
    if (type === PGT_l1_page_table) {
      rc = ft.types.modL1(ma, lo, hi, keepAd, pt.id, pg);
      if (rc === 0) rc = 1;
    } else if (type > PGT_l1_page_table && type <= PGT_l4_page_table) {
      if (pg === pt.id) rc = ft.types.modLx(ma, lo, hi, keepAd, type);
      if (rc === 0) rc = type;
    } else if (type === PGT_writable_page) rc = store(ft, mfn, ma, lo, hi);
  } else if (ft.getPageType(mfn, PGT_writable_page) === 0) {
    rc = store(ft, mfn, ma, lo, hi);
    ft.putPageType(mfn);
  }
  ft.putPage(mfn);
  return rc;
}

/** Data in a page that is no table. */
function store(ft: FrameTable, mfn: number, ma: number, lo: number, hi: number): number {
  if (!ft.sharing.makePrivate(mfn)) return -ENOMEM;
  ft.mem.w64(ma, lo, hi);
  return 0;
}

function machphys(call: Call, pg: number, ma: number, lo: number, hi: number): number {
  const ft = call.xen.frames;
  const mfn = Math.floor(ma / 4096);
  if (!ft.getPage(mfn, pg)) return -EINVAL;
  const owner = ft.ownerOf(pg);
  if ("setPfn" in owner) {
    const mm = owner as DomainMemory;
    if (hi === 0 && lo < ft.limit) mm.setPfn(mfn, lo);
    else {
      mm.forget(mfn);
      ft.m2p.set(mfn, lo, hi);
    }
  } else ft.m2p.set(mfn, lo, hi);
  ft.putPage(mfn);
  return 0;
}
