/** Descriptor attributes (bits 40–55 of a descriptor), and the flat segments that a 64-bit guest kernel is entered with. */
import { CS, SS } from "../../machine/cpu/insn.js";
import type { CpuApi } from "../../machine/cpu/api.js";
import { FLAT_KERNEL_CS64, FLAT_KERNEL_SS64 } from "../../abi/arch_x86_xen.js";

/** Attribute bits. */
export const ATTR_TYPE = 0x0f;
export const ATTR_ACCESSED = 0x01;
/** Data: writable. Code: readable. */
export const ATTR_WR = 0x02;
/** Data: expand-down. Code: conforming. */
export const ATTR_EC = 0x04;
export const ATTR_CODE = 0x08;
export const ATTR_S = 0x10;
export const ATTR_DPL_SHIFT = 5;
export const ATTR_P = 0x80;
export const ATTR_L = 0x2000;
export const ATTR_DB = 0x4000;
export const ATTR_G = 0x8000;

/** Flat code and data of ring 3. */
export const FLAT_CODE64 = 0xa0fb;
export const FLAT_CODE32 = 0xc0fb;
export const FLAT_DATA = 0xc0f3;
/** What a null selector leaves: nothing usable. */
export const ATTR_NULL = 0;

/** CS and SS as every entry to a 64-bit guest kernel leaves them. */
export function setFlatKernel(cpu: CpuApi): void {
  if (cpu.selector(CS) !== FLAT_KERNEL_CS64) cpu.setSegment(CS, FLAT_KERNEL_CS64, 0, 0xffffffff, FLAT_CODE64);
  if (cpu.selector(SS) !== FLAT_KERNEL_SS64) cpu.setSegment(SS, FLAT_KERNEL_SS64, 0, 0xffffffff, FLAT_DATA);
}
