/**
 * Finding a guest's page-table entry by address, through its tables as they are in memory, without privilege and without effect.
 */
import type { Maddr, Mfn } from "../../machine/memory.js";
import type { Va } from "../../machine/cpu/api.js";
import type { FrameTable } from "./frame-table.js";
import { PTE_P, PTE_PS, pteMfn } from "./page-types.js";
import { addrOk } from "./util.js";

/**
 * Machine address of the L1 entry for `va` under the L4 `root`, or −1 where there is none (or the address is Xen's). Linear page tables make the
 * "L1" found a table of another level: the caller checks the type of its frame.
 */
export function walkL1(ft: FrameTable, root: Mfn, va: Va): Maddr {
  if (root <= 0 || !addrOk(va)) return -1;
  const a = va < 0 ? va + 0x1000000000000 : va;
  const hi = Math.floor(a / 4294967296);
  const lo = a >>> 0;
  const u = ft.mem.u32;
  let t = root;
  const { mem } = ft;
  let i = mem.ram(t) * 1024 + (hi >>> 7) * 2;
  for (let level = 4; ; level--) {
    const e = u[i] as number;
    if ((e & (PTE_P | PTE_PS)) !== PTE_P) return -1;
    t = pteMfn(e, u[i + 1] as number);
    // (An alias frame that is nobody's stands for no memory.)
    if (!ft.valid(t) || ft.ref[t] === 0) return -1;
    if (level === 4) i = mem.ram(t) * 1024 + (((hi & 0x7f) << 2) | (lo >>> 30)) * 2;
    else if (level === 3) i = mem.ram(t) * 1024 + ((lo >>> 21) & 511) * 2;
    else return t * 4096 + ((lo >>> 12) & 511) * 8;
  }
}
