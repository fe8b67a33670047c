/**
 * HYPERVISOR_mmuext_op: pins, roots, TLB and cache flushes, LDT, clearing and copying pages.
 */
import { EACCES, EFAULT, EINVAL, ENOMEM, ENOSYS, EOPNOTSUPP, EPERM } from "../../abi/errno.js";
import {
  MMUEXT_CLEAR_PAGE,
  MMUEXT_COPY_PAGE,
  MMUEXT_FLUSH_CACHE,
  MMUEXT_FLUSH_CACHE_GLOBAL,
  MMUEXT_INVLPG_ALL,
  MMUEXT_INVLPG_LOCAL,
  MMUEXT_INVLPG_MULTI,
  MMUEXT_MARK_SUPER,
  MMUEXT_NEW_BASEPTR,
  MMUEXT_NEW_USER_BASEPTR,
  MMUEXT_PIN_L1_TABLE,
  MMUEXT_PIN_L2_TABLE,
  MMUEXT_PIN_L3_TABLE,
  MMUEXT_PIN_L4_TABLE,
  MMUEXT_SET_LDT,
  MMUEXT_TLB_FLUSH_ALL,
  MMUEXT_TLB_FLUSH_LOCAL,
  MMUEXT_TLB_FLUSH_MULTI,
  MMUEXT_UNMARK_SUPER,
  MMUEXT_UNPIN_TABLE,
  mmuext_op,
} from "../../abi/xen.js";
import { traceCall, type Call } from "../hypercalls/call.js";
import { word } from "../trace.js";
import type { DomainMemory } from "./domain-memory.js";
import { PGT_writable_page } from "./frame-table.js";
import { readVcpuMask } from "./flush.js";
import { countDone, doneBefore, goOn, onlyResult, requestCount } from "./requests.js";
import { addrOk, pageOwner, toVa } from "./util.js";

const PREEMPT_EVERY = 8;

/** The operands of the request in hand (kept here so that a request makes no garbage). */
const op = { lo1: 0, hi1: 0, lo2: 0, hi2: 0 };
const arg1 = (): number => op.hi1 * 4294967296 + op.lo1;
const arg2 = (): number => op.hi2 * 4294967296 + op.lo2;

export function doMmuextOp(call: Call): number {
  if (onlyResult(call)) return call.lo(3) | 0;
  const count = requestCount(call);
  const before = doneBefore(call);
  const pg = pageOwner(call, call.lo(3) & 0xffff);
  if (pg < 0) return pg;
  const owner = call.xen.frames.ownerOf(pg);
  if (!("setPfn" in owner)) return -EINVAL;
  const mm = owner as DomainMemory;

  const base = call.va(0);
  const guest = call.guest;
  let i = 0;
  let rc = 0;
  while (i < count) {
    if (i !== 0 && i % PREEMPT_EVERY === 0 && call.preempt()) {
      countDone(call, before + i);
      return goOn(call, i, mmuext_op.size);
    }
    const at = base + i * mmuext_op.size;
    if (!guest.read64(at + mmuext_op.cmd)) {
      rc = -EFAULT;
      break;
    }
    const cmd = guest.lo;
    if (!guest.read64(at + mmuext_op.arg1)) {
      rc = -EFAULT;
      break;
    }
    op.lo1 = guest.lo;
    op.hi1 = guest.hi;
    if (!guest.read64(at + mmuext_op.arg2)) {
      rc = -EFAULT;
      break;
    }
    op.lo2 = guest.lo;
    op.hi2 = guest.hi;
    rc = one(call, mm, cmd);
    if (call.xen.trace.on)
      traceCall(call, "pagetable", "mmuext_op", { cmd, arg1: word(op.lo1, op.hi1), arg2: word(op.lo2, op.hi2) }, rc);
    if (rc !== 0) break;
    i++;
  }
  countDone(call, before + i);
  return rc;
}

function one(call: Call, mm: DomainMemory, cmd: number): number {
  const ft = call.xen.frames;
  const own = mm === call.domain.mm;
  switch (cmd) {
    case MMUEXT_PIN_L1_TABLE:
    case MMUEXT_PIN_L2_TABLE:
    case MMUEXT_PIN_L3_TABLE:
    case MMUEXT_PIN_L4_TABLE:
      if (mm.dying) return -EINVAL;
      return mm.pin(arg1(), (cmd - MMUEXT_PIN_L1_TABLE + 1) as 1 | 2 | 3 | 4);
    case MMUEXT_UNPIN_TABLE:
      return mm.unpin(arg1());

    case MMUEXT_NEW_BASEPTR:
      return own ? call.vcpu.mm.newBaseptr(arg1()) : -EPERM;
    case MMUEXT_NEW_USER_BASEPTR:
      return own ? call.vcpu.mm.newUserBaseptr(arg1()) : -EPERM;

    case MMUEXT_TLB_FLUSH_LOCAL:
    case MMUEXT_TLB_FLUSH_ALL:
      if (!own) return -EPERM;
      ft.flushTlb();
      return 0;
    case MMUEXT_INVLPG_LOCAL:
    case MMUEXT_INVLPG_ALL:
      if (!own) return -EPERM;
      invlpg(call);
      return 0;
    case MMUEXT_TLB_FLUSH_MULTI:
    case MMUEXT_INVLPG_MULTI:
      if (!own) return -EPERM;
      if (readVcpuMask(call, toVa(op.lo2, op.hi2)) !== 0) return -EINVAL;
      if (cmd === MMUEXT_TLB_FLUSH_MULTI) ft.flushTlb();
      else invlpg(call);
      return 0;

    case MMUEXT_FLUSH_CACHE:
    case MMUEXT_FLUSH_CACHE_GLOBAL:
      if (!own) return -EPERM;
      // Caches are coherent here; only domains with hardware may ask.
      return call.domain.privileged ? 0 : -EACCES;

    case MMUEXT_SET_LDT:
      if (!own) return -EPERM;
      return call.vcpu.mm.setLdt(toVa(op.lo1, op.hi1), op.lo2);

    case MMUEXT_CLEAR_PAGE: {
      const mfn = arg1();
      if (ft.getPageAndType(mfn, mm.id, PGT_writable_page) !== 0) return -EINVAL;
      if (!ft.sharing.makePrivate(mfn)) {
        ft.putPageAndType(mfn);
        return -ENOMEM;
      }
      ft.mem.zeroFrame(mfn);
      ft.putPageAndType(mfn);
      return 0;
    }
    case MMUEXT_COPY_PAGE: {
      const src = arg2();
      const dst = arg1();
      if (!ft.getPage(src, mm.id)) return -EINVAL;
      if (ft.getPageAndType(dst, mm.id, PGT_writable_page) !== 0) {
        ft.putPage(src);
        return -EINVAL;
      }
      const rc = ft.sharing.makePrivate(dst) ? 0 : -ENOMEM;
      if (rc === 0) {
        ft.mem.copyFrame(dst, src);
      }
      ft.putPageAndType(dst);
      ft.putPage(src);
      return rc;
    }

    case MMUEXT_MARK_SUPER:
    case MMUEXT_UNMARK_SUPER:
      return -EOPNOTSUPP;
    default:
      return -ENOSYS;
  }
}

function invlpg(call: Call): void {
  const va = toVa(op.lo1, op.hi1);
  if (addrOk(va)) call.xen.frames.invlpg(va);
}
