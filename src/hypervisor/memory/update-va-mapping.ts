/**
 * HYPERVISOR_update_va_mapping(_otherdomain): change the L1 entry of an address in the caller's current tables, and flush as asked.
 */
import { EINVAL } from "../../abi/errno.js";
import { UVMF_ALL, UVMF_FLUSHTYPE_MASK, UVMF_INVLPG, UVMF_LOCAL, UVMF_TLB_FLUSH } from "../../abi/xen.js";
import { traceCall, type Call } from "../hypercalls/call.js";
import { word } from "../trace.js";
import { F_VALIDATED, PGT_l1_page_table } from "./frame-table.js";
import { readVcpuMask } from "./flush.js";
import { pageOwner, toVa } from "./util.js";
import { walkL1 } from "./walk.js";

export function doUpdateVaMapping(call: Call): number {
  return update(call, call.domain.mm.id);
}

export function doUpdateVaMappingOtherdomain(call: Call): number {
  const pg = pageOwner(call, call.lo(3) & 0xffff);
  return pg < 0 ? pg : update(call, pg);
}

function update(call: Call, pg: number): number {
  const ft = call.xen.frames;
  const mm = call.domain.mm;
  const va = call.va(0);
  const at = walkL1(ft, call.vcpu.mm.kernelRoot, va);
  if (at < 0) return -EINVAL;
  const l1 = Math.floor(at / 4096);
  if (ft.type[l1] !== PGT_l1_page_table || ((ft.flags[l1] as number) & F_VALIDATED) === 0 || !ft.getPage(l1, mm.id))
    return -EINVAL;
  const rc = ft.types.modL1(at, call.lo(1), call.hi(1), false, mm.id, pg);
  if (call.xen.trace.on) traceCall(call, "pagetable", "va_mapping", { va, val: word(call.lo(1), call.hi(1)) }, rc);
  ft.putPage(l1);
  if (rc !== 0) return rc;
  return flush(call);
}

function flush(call: Call): number {
  const lo = call.lo(2);
  const kind = lo & UVMF_FLUSHTYPE_MASK;
  if (kind !== UVMF_TLB_FLUSH && kind !== UVMF_INVLPG) return 0;
  const whom = (lo & ~UVMF_FLUSHTYPE_MASK) >>> 0;
  if (call.hi(2) !== 0 || (whom !== UVMF_LOCAL && whom !== UVMF_ALL)) {
    const rc = readVcpuMask(call, toVa(whom, call.hi(2)));
    if (rc !== 0) return rc;
  }
  if (kind === UVMF_TLB_FLUSH) call.xen.frames.flushTlb();
  else call.xen.frames.invlpg(call.va(0));
  return 0;
}
