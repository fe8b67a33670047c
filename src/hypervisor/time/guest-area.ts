/**
 * Memory areas that a guest registered by virtual address and that the hypervisor writes on its own account (run state, secondary time):
 * written through the page tables loaded at that moment, with the guest's own rights, so that the guest can gain nothing by them.
 */
import { WRITE, type CpuApi, type Va } from "../../machine/cpu/api.js";
import type { PhysMem } from "../../machine/memory.js";

/** HYPERVISOR_VIRT_START and _END (public/arch-x86/xen-x86_64.h) as sign-extended numbers. */
const HV_START = -(2 ** 47);
const HV_END = HV_START + 0x080000000000;

/** The address in two 32-bit halves as a `Va`, or NaN when it is not canonical. */
export function toVa(lo: number, hi: number): Va {
  const top = hi >> 15;
  if (top !== 0 && top !== -1) return NaN;
  return (hi | 0) * 4294967296 + (lo >>> 0);
}

/** May an area of `len` bytes be registered at `va`? (A null address is asked for separately.) */
export function areaOkay(va: Va, len: number): boolean {
  return Number.isFinite(va) && !(va + len > HV_START && va < HV_END);
}

/** Write `bytes` at `va` as the loaded vCPU could; false when it may not. Writes nothing unless all of it may be written. */
export function writeArea(cpu: CpuApi, mem: PhysMem, va: Va, bytes: Uint8Array): boolean {
  if (!areaOkay(va, bytes.length)) return false;
  const inPage = 4096 - (((va % 4096) + 4096) % 4096);
  const first = cpu.translate(va, WRITE);
  if (first < 0) return false;
  if (inPage >= bytes.length) {
    mem.write(first, bytes);
    return true;
  }
  const second = cpu.translate(va + inPage, WRITE);
  if (second < 0) return false;
  mem.write(first, bytes.subarray(0, inPage));
  mem.write(second, bytes.subarray(inPage));
  return true;
}
