/**
 * Port I/O of an unprivileged PV domain: it owns no port, so reads give all ones and writes go nowhere, but for the latched PCI
 * configuration address (0xcf8, 32 bits wide) and the latched CMOS index (0x70). Whether it may execute the instruction at all is
 * a matter of its virtual IOPL and of its I/O bitmap, as with a TSS; if not, #GP(0).
 */
import { VMASST_TYPE_architectural_iopl } from "../../abi/xen.js";
import { READ } from "../../machine/cpu/api.js";
import type { Domain } from "../domain.js";
import type { Vcpu } from "../vcpu.js";
import { enterKernelView, leaveKernelView } from "./kernel-view.js";

/** The privilege that IOPL is compared with: user mode 3, the kernel 1 (0 if its IOPL is architectural). */
export function ioplOk(v: Vcpu): boolean {
  const cpl = v.kernelMode ? ((v.domain.vmAssist & (1 << VMASST_TYPE_architectural_iopl)) !== 0 ? 0 : 1) : 3;
  return cpl <= v.traps.iopl;
}

export function portAllowed(v: Vcpu, port: number, bytes: number): boolean {
  if (ioplOk(v)) return true;
  const t = v.traps;
  if (port + bytes > t.ioBitmapPorts) return false;
  const { cpu, mem } = v.domain.xen;
  const user = enterKernelView(v);
  let mask = 0;
  for (let i = 0; i < 2; i++) {
    const ma = cpu.translate(t.ioBitmap + (port >> 3) + i, READ);
    mask |= (ma < 0 ? 0xff : mem.r8(ma)) << (8 * i);
  }
  leaveKernelView(v, user);
  return (mask & (((1 << bytes) - 1) << (port & 7))) === 0;
}

/** Value read, zero-extended (unsigned). */
export function portRead(d: Domain, port: number, bytes: number): number {
  if (port === 0xcf8 && bytes === 4) return d.pciCf8 >>> 0;
  let v = bytes === 1 ? 0xff : bytes === 2 ? 0xffff : 0xffffffff;
  for (let i = 0; i < bytes; i++)
    if (port + i === 0x70) v = ((v & ~(0xff << (8 * i))) | ((d.cmosIndex & 0x7f) << (8 * i))) >>> 0;
  return v;
}

export function portWrite(d: Domain, port: number, bytes: number, value: number): void {
  if (port === 0xcf8 && bytes === 4) d.pciCf8 = value;
  else if (port <= 0x70 && port + bytes > 0x70) d.cmosIndex = (value >>> (8 * (0x70 - port))) & 0xff;
}
