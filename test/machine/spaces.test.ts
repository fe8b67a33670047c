// Isolation where the CPU keeps what it knows of address spaces that are not loaded: with the hypervisor's own tables, and two domains that take turns.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { PGT_writable_page } from "../../src/hypervisor/memory/frame-table.js";
import { walkL1 } from "../../src/hypervisor/memory/walk.js";
import type { Vcpu } from "../../src/hypervisor/vcpu.js";
import { READ, WRITE } from "../../src/machine/cpu/api.js";
import { TLB, TLB_ARRAY_SIZE, TLB_ENTRIES, TLB_ENTRY_SIZE } from "../../src/machine/layout.js";
import { seeded } from "../../src/testing.js";
import { guestFile, Host, missing } from "./harness.js";

const noGuest = missing(guestFile("hello"));

describe.skipIf(noGuest !== "")(`a page that a domain loses while another one is loaded${noGuest}`, () => {
  const host = new Host({ memoryMiB: 64 });
  const { xen, cpu, mem } = host.machine;
  const ft = xen.frames;
  let a: Vcpu;
  let b: Vcpu;
  beforeAll(async () => {
    [a, b] = (await Promise.all([host.guest("hello"), host.guest("hello")])).map((g) => g.running.domain.vcpus[0]) as [
      Vcpu,
      Vcpu,
    ];
  });
  afterAll(() => host.close());

  /** A page of domain a, above its boot stack, which it has written; then b is loaded. Its address, and the entry that maps it. */
  function used(n: number): { va: number; mfn: number; entry: number } {
    xen.switchTo(a);
    cpu.setMode({ bits: 64, cpl: 3, space: 0 });
    cpu.flushTlb(0);
    const va = cpu.regVa(4) - (cpu.regVa(4) & 4095) + n * 4096;
    const mfn = cpu.translate(va, WRITE) / 4096;
    expect(cpu.translate(va, READ)).toBe(mfn * 4096);
    expect(ft.type[mfn]).toBe(PGT_writable_page);
    xen.switchTo(b);
    return { va, mfn, entry: walkL1(ft, a.mm.kernelRoot, va) };
  }
  const back = (): void => {
    xen.switchTo(a);
  };

  it("is what it was if nothing happened", () => {
    const { va, mfn } = used(1);
    back();
    expect(cpu.translate(va, READ)).toBe(mfn * 4096);
  });

  it("is not found any more when it is the other domain's", () => {
    const { va, mfn, entry } = used(2);
    expect(ft.types.modL1(entry, 0, 0, false, a.domain.mm.id, a.domain.mm.id)).toBe(0);
    expect(ft.putAllocRef(mfn)).toBe(true);
    expect(ft.owner[mfn]).toBe(0);
    b.domain.mm.maxPages = Infinity;
    const got: number[] = [];
    while (!got.includes(mfn)) {
      const f = ft.alloc(b.domain.mm.id);
      if (f < 0) break;
      got.push(f);
    }
    expect(ft.owner[mfn]).toBe(b.domain.mm.id);
    back();
    expect([cpu.translate(va, READ), cpu.translate(va, WRITE)]).toEqual([-1, -1]);
    for (const f of got) ft.putAllocRef(f);
  });

  it("is not found under the address that another one has now", () => {
    const other = used(4).mfn;
    const { va, entry } = used(3);
    expect(ft.types.modL1(entry, (other << 12) | 7, 0, false, a.domain.mm.id, a.domain.mm.id)).toBe(0);
    back();
    expect(cpu.translate(va, WRITE)).toBe(other * 4096);
  });

  it("nor any other is found elsewhere than where the tables say, whatever was changed, by whom, and when", () => {
    const rnd = seeded(20261122);
    const pick = <T>(of: readonly T[]): T => of[rnd(of.length)] as T;
    const pages = (v: Vcpu): { v: Vcpu; va: number; entry: number; mfn: number }[] => {
      xen.switchTo(v);
      const stack = cpu.regVa(4) - (cpu.regVa(4) & 4095);
      return Array.from({ length: 12 }, (_, i) => {
        const va = stack + (8 + i) * 4096;
        return { v, va, entry: walkL1(ft, v.mm.kernelRoot, va), mfn: cpu.peek(0, va) / 4096 };
      });
    };
    const all = [pages(a), pages(b)];
    let restored = 0;
    /** Every entry of the TLB that was put back leads where a look at the tables does, and allows no more. */
    const check = (): void => {
      for (let i = 0; i < 2 * TLB_ENTRIES; i++) {
        const at = (TLB + i * TLB_ENTRY_SIZE) >>> 2;
        const lo = mem.u32[at] as number;
        if ((lo & 4095) !== 0) continue;
        restored++;
        const va = (mem.i32[at + 1] as number) * 4294967296 + lo;
        expect((lo + (mem.u32[at + 2] as number)) >>> 0).toBe(cpu.peek(0, va));
        if (i * TLB_ENTRY_SIZE >= TLB_ARRAY_SIZE)
          expect(mem.r32(walkL1(ft, (xen.current as Vcpu).mm.kernelRoot, va)) & 0x42).toBe(0x42);
      }
    };
    for (let n = 0; n < 10_000; n++) {
      const own = pick(all);
      const { v, va, entry, mfn } = pick(own);
      switch (rnd(8)) {
        case 0: {
          // (A switch to who is loaded is none, and stale entries are allowed then.)
          if (xen.current === v) break;
          xen.switchTo(v);
          check();
          break;
        }
        case 1:
          if (rnd(6) === 0) ft.flushTlb();
          break;
        case 2:
          if (rnd(5) !== 0) break;
          ft.types.modL1(
            entry,
            rnd(4) === 0 ? 0 : (pick(own).mfn << 12) | pick([5, 7, 0x65, 0x67]),
            0,
            false,
            v.domain.mm.id,
            v.domain.mm.id,
          );
          break;
        case 3:
          if (rnd(20) === 0) ft.types.modL1(entry, (mfn << 12) | 7, 0, false, v.domain.mm.id, v.domain.mm.id);
          break;
        default:
          if (xen.current === v) cpu.translate(va, rnd(2) === 0 ? READ : WRITE);
      }
    }
    expect(restored).toBeGreaterThan(200);
    ft.audit();
  });

  it("is not written once it is a page table", () => {
    const { va, mfn, entry } = used(5);
    mem.zeroFrame(mfn);
    expect(ft.types.modL1(entry, (mfn << 12) | 5, 0, false, a.domain.mm.id, a.domain.mm.id)).toBe(0);
    expect(a.domain.mm.pin(mfn, 1)).toBe(0);
    back();
    expect(cpu.translate(va, WRITE)).toBe(-1);
    expect(cpu.translate(va, READ)).toBe(mfn * 4096);
  });
});
