/**
 * The debug registers of a PV vCPU (set_debugreg, get_debugreg, mov dr). DR4 and DR5 are aliases of DR6 and DR7 unless CR4.DE is set.
 *
 * Invariant: no breakpoint address lies in the hypervisor's range; reserved bits of DR6 and DR7 have their fixed values; DR7.GD is never
 * set; I/O breakpoints are accepted (with CR4.DE) but never armed, since no port I/O reaches hardware.
 */
import { EINVAL, ENODEV, EPERM } from "../../abi/errno.js";
import { refusedRange } from "../guest-access.js";
import type { Vcpu } from "../vcpu.js";
import { CR4_DE } from "./vcpu-traps.js";

const DR6_ONES = 0xffff0ff0 | 0;
const DR6_ZEROS = 0x1000;
const DR7_ONES = 0x400;
const DR7_ZEROS = 0xd800;
const DR7_GD = 0x2000;
const DR7_ENABLES = 0xff;

const result = { lo: 0, hi: 0 };

/** The value, or null where the register does not exist. The object is reused. */
export function getDebugReg(v: Vcpu, reg: number): { lo: number; hi: number } | null {
  const { cpu } = v.domain.xen;
  let r = reg;
  if (r === 4 || r === 5) {
    if ((v.traps.cr4 & CR4_DE) !== 0) return null;
    r += 2;
  }
  if (r < 0 || r > 7) return null;
  result.lo = cpu.drLo(r);
  result.hi = cpu.drHi(r);
  return result;
}

/** 0, −ENODEV (#UD), −EINVAL or −EPERM (#GP). */
export function setDebugReg(v: Vcpu, reg: number, lo: number, hi: number): number {
  const { cpu } = v.domain.xen;
  if (reg >= 0 && reg <= 3) {
    const va = (hi | 0) * 4294967296 + (lo >>> 0);
    if (refusedRange(va, 8)) return -EPERM;
    cpu.setDr(reg, lo, hi);
    return 0;
  }
  let r = reg;
  if (r === 4 || r === 5) {
    if ((v.traps.cr4 & CR4_DE) !== 0) return -ENODEV;
    r += 2;
  }
  if (r === 6) {
    if (hi !== 0) return -EINVAL;
    cpu.setDr(6, (lo & ~DR6_ZEROS) | DR6_ONES, 0);
    return 0;
  }
  if (r === 7) {
    if (hi !== 0) return -EINVAL;
    let value = (lo & ~DR7_ZEROS) | DR7_ONES;
    if ((value & DR7_GD) !== 0) return -EPERM;
    if ((value & DR7_ENABLES) !== 0)
      for (let i = 0; i < 4; i++)
        if (((value >>> (16 + i * 4)) & 3) === 2) {
          if ((v.traps.cr4 & CR4_DE) === 0) return -EPERM;
          value &= ~(3 << (i * 2));
        }
    cpu.setDr(7, value, 0);
    return 0;
  }
  return -ENODEV;
}
