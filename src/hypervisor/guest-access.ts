/**
 * The only way the hypervisor touches memory named by a guest's virtual addresses: copied in before use, copied out after, with the
 * guest's own page tables and rights (copy_from_guest/copy_to_guest). A refusal is −EFAULT to the caller.
 *
 * Invariant: the hypervisor's range 0xffff800000000000–0xffff87ffffffffff is refused, whatever the tables say.
 */
import { READ, WRITE, type CpuApi, type Va } from "../machine/cpu/api.js";
import type { PhysMem } from "../machine/memory.js";

/** HYPERVISOR_VIRT_START and _END as sign-extended numbers (public/arch-x86/xen-x86_64.h). */
const HV_START = -(2 ** 47);
const HV_END = HV_START + 0x080000000000;

/** True if [va, va+len) touches the hypervisor's range or is no range of canonical addresses. */
export function refusedRange(va: Va, len: number): boolean {
  return !(len >= 0 && va >= HV_START && va + len <= 140737488355328) || (va + len > HV_START && va < HV_END);
}

export class GuestAccess {
  /** The value of the last successful `read64`. */
  lo = 0;
  hi = 0;

  constructor(
    private readonly cpu: CpuApi,
    private readonly mem: PhysMem,
  ) {}

  copyFrom(va: Va, len: number): Uint8Array | null {
    if (refusedRange(va, len)) return null;
    const out = new Uint8Array(len);
    let done = 0;
    while (done < len) {
      const at = va + done;
      const inPage = Math.min(len - done, 4096 - (at & 4095));
      const ma = this.cpu.translate(at, READ);
      if (ma < 0) return null;
      out.set(this.mem.u8.subarray(ma, ma + inPage), done);
      done += inPage;
    }
    return out;
  }

  /** Nothing is written unless the whole range is writable. */
  copyTo(va: Va, bytes: Uint8Array): boolean {
    const len = bytes.length;
    if (refusedRange(va, len)) return false;
    if (len <= 4096 - (va & 4095)) {
      if (len === 0) return true;
      const ma = this.cpu.translate(va, WRITE);
      if (ma < 0) return false;
      this.mem.write(ma, bytes);
      return true;
    }
    const parts: { ma: number; from: number; to: number }[] = [];
    let done = 0;
    while (done < len) {
      const at = va + done;
      const inPage = Math.min(len - done, 4096 - (at & 4095));
      const ma = this.cpu.translate(at, WRITE);
      if (ma < 0) return false;
      parts.push({ ma, from: done, to: done + inPage });
      done += inPage;
    }
    for (const p of parts) this.mem.write(p.ma, bytes.subarray(p.from, p.to));
    return true;
  }

  /** Unsigned 32-bit value, or −1 on a refused access. */
  read32(va: Va): number {
    if ((va & 4095) <= 4092) {
      if (refusedRange(va, 4)) return -1;
      const ma = this.cpu.translate(va, READ);
      return ma < 0 ? -1 : this.mem.r32(ma);
    }
    const b = this.copyFrom(va, 4);
    return b === null ? -1 : new DataView(b.buffer).getUint32(0, true);
  }

  /** 64-bit value into `lo` and `hi` (unsigned); false on a refused access. */
  read64(va: Va): boolean {
    if ((va & 4095) <= 4088) {
      if (refusedRange(va, 8)) return false;
      const ma = this.cpu.translate(va, READ);
      if (ma < 0) return false;
      this.lo = this.mem.r32(ma);
      this.hi = this.mem.r32(ma + 4);
      return true;
    }
    const b = this.copyFrom(va, 8);
    if (b === null) return false;
    const d = new DataView(b.buffer);
    this.lo = d.getUint32(0, true);
    this.hi = d.getUint32(4, true);
    return true;
  }

  write32(va: Va, v: number): boolean {
    if ((va & 4095) <= 4092) {
      if (refusedRange(va, 4)) return false;
      const ma = this.cpu.translate(va, WRITE);
      if (ma < 0) return false;
      this.mem.w32(ma, v);
      return true;
    }
    const b = new Uint8Array(4);
    new DataView(b.buffer).setUint32(0, v >>> 0, true);
    return this.copyTo(va, b);
  }

  write64(va: Va, lo: number, hi: number): boolean {
    if ((va & 4095) <= 4088) {
      if (refusedRange(va, 8)) return false;
      const ma = this.cpu.translate(va, WRITE);
      if (ma < 0) return false;
      this.mem.w64(ma, lo, hi);
      return true;
    }
    const b = new Uint8Array(8);
    const d = new DataView(b.buffer);
    d.setUint32(0, lo >>> 0, true);
    d.setUint32(4, hi >>> 0, true);
    return this.copyTo(va, b);
  }
}
