// A hostile guest: every hypercall with every kind of argument, from a seed. It may do to itself whatever it likes; the machine goes on,
// another guest's memory stays as it was, and the frame table is right after each batch and back where it was at the end.
import { describe, expect, it } from "vitest";
import { VirtualClock } from "../../src/machine/clock.js";
import { WRITE } from "../../src/machine/cpu/api.js";
import {
  GTF_permit_access,
  GTF_readonly,
  GTF_reading,
  GTF_writing,
  gnttab_copy,
  gnttab_map_grant_ref,
  gnttab_unmap_grant_ref,
  grant_entry_v1,
} from "../../src/abi/grant_table.js";
import { xen_add_to_physmap, xen_memory_exchange, xen_memory_reservation } from "../../src/abi/memory.js";
import { multicall_entry } from "../../src/abi/xen.js";
import {
  F_VALIDATED,
  PGT_l1_page_table,
  PGT_l4_page_table,
  PGT_writable_page,
} from "../../src/hypervisor/memory/frame-table.js";
import {
  pteMfn,
  PTE_P,
  PTE_RW,
  PTE_US,
  XEN_SLOT_FIRST,
  XEN_SLOT_LAST,
} from "../../src/hypervisor/memory/page-types.js";
import type { Xen } from "../../src/hypervisor/xen.js";
import type { Domain } from "../../src/hypervisor/domain.js";
import type { Vcpu } from "../../src/hypervisor/vcpu.js";
import { type Guest, guestFile, holdings, Host, missing, TEST_LIMIT } from "./harness.js";

const SEED = Number(process.env["FUZZ_SEED"] ?? 20261122);
const CALLS = Number(process.env["FUZZ_CALLS"] ?? 100_000);
/** Calls between two looks at the frame table; each has a slot of the data pages for what its pointers lead to. */
const BATCH = 32;
const SLOT = 256;
/** Bytes of code of one call: seven movs and `syscall`. */
const CALL_BYTES = 72;
/** Grant references of the other domain that let the guest read. */
const READABLE = [8, 9, 10, 11];

const noGuest = missing(guestFile("spin"));

/** xorshift32: the same numbers from the same seed. */
class Random {
  private s: number;
  constructor(seed: number) {
    this.s = seed | 0 || 1;
  }
  u32(): number {
    let s = this.s;
    s ^= s << 13;
    s ^= s >>> 17;
    s ^= s << 5;
    return (this.s = s) >>> 0;
  }
  below(n: number): number {
    return this.u32() % n;
  }
  chance(percent: number): boolean {
    return this.below(100) < percent;
  }
  of<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T;
  }
  u64(): bigint {
    return (BigInt(this.u32()) << 32n) | BigInt(this.u32());
  }
}

const MASK64 = (1n << 64n) - 1n;
/** Hypercalls of a 64-bit PV guest (public/xen.h). */
const [SET_TRAP_TABLE, MMU_UPDATE, SET_GDT, STACK_SWITCH, SET_CALLBACKS] = [0, 1, 2, 3, 4] as const;
const [UPDATE_DESCRIPTOR, MEMORY_OP, MULTICALL, UPDATE_VA_MAPPING, XEN_VERSION, CONSOLE_IO] = [
  10, 12, 13, 14, 17, 18,
] as const;
const [GRANT_TABLE_OP, VM_ASSIST, UPDATE_VA_MAPPING_OTHER, IRET, VCPU_OP, SET_SEGMENT_BASE, MMUEXT_OP] = [
  20, 21, 22, 23, 24, 25, 26,
] as const;
const [SCHED_OP, CALLBACK_OP, EVENT_CHANNEL_OP, PHYSDEV_OP] = [29, 30, 32, 33] as const;
/** Those that have much to refuse. */
const RICH = [
  MMU_UPDATE,
  MEMORY_OP,
  MULTICALL,
  UPDATE_VA_MAPPING,
  GRANT_TABLE_OP,
  VCPU_OP,
  MMUEXT_OP,
  EVENT_CHANNEL_OP,
  PHYSDEV_OP,
  UPDATE_DESCRIPTOR,
  XEN_VERSION,
  SET_TRAP_TABLE,
  SET_GDT,
  UPDATE_VA_MAPPING_OTHER,
];
/** Those after which a guest seldom lives on: issued, but not often. */
const DEADLY = new Set<number>([STACK_SWITCH, SET_CALLBACKS, IRET, CALLBACK_OP, SET_SEGMENT_BASE, VM_ASSIST]);
const SCHEDOP_SHUTDOWN = 2n;
const DOMIDS = [0x7ff0n, 0x7ff1n, 0x7ff2n, 0x7ff4n, 0n, 0x7fffn];
/** Data of hypercalls: four pages. */
const DATA_BYTES = 4 * 4096;

interface Call {
  readonly number: bigint;
  readonly args: readonly bigint[];
}

/** Named fields of a C structure. */
type Layout = Readonly<Record<string, number>>;

/** The guest and what is known of it. */
class Target {
  readonly domain: Domain;
  readonly vcpu: Vcpu;
  readonly codeVa: number;
  readonly dataVa: number;
  readonly startInfoVa: number;
  /** Frames worth naming: its tables, its data, shared ones, Xen's, another domain's. */
  readonly frames: bigint[];

  constructor(
    readonly guest: Guest,
    readonly other: Domain,
  ) {
    this.domain = guest.running.domain;
    this.vcpu = this.domain.vcpus[0] as Vcpu;
    const { xen } = this.domain;
    let stack = 0;
    let info = 0;
    xen.withLoaded(this.vcpu, (cpu) => {
      stack = cpu.regVa(4);
      info = cpu.regVa(6);
    });
    // After the boot stack comes padding: 512 KiB at least, mapped writable.
    this.codeVa = Math.ceil(stack / 4096) * 4096 + 4096;
    this.dataVa = this.codeVa + 24 * 4096;
    this.startInfoVa = info;
    const { frames } = xen;
    const own = frames.pagesOf(this.domain.mm.id);
    const tables = own.filter((f) => (frames.type[f] as number) >= 1 && (frames.type[f] as number) <= 4);
    this.frames = [
      ...tables,
      ...tables,
      ...own.slice(0, 24),
      ...Array.from({ length: 4 }, (_, i) => this.maddr(this.dataVa + i * 4096) >>> 12),
      this.domain.mm.sharedInfo,
      ...frames.pagesOf(other.mm.id).slice(0, 6),
      frames.emptyRoot,
      0,
      1,
      frames.limit,
    ].map(BigInt);
  }

  /** Where a page is that the guest can write; −1 if it cannot (any more). */
  maddr(va: number): number {
    let at = -1;
    this.domain.xen.withLoaded(this.vcpu, (cpu) => {
      at = cpu.translate(va, WRITE);
    });
    return at;
  }
}

class Fuzzer {
  constructor(
    private readonly r: Random,
    private readonly t: Target,
  ) {}

  /** A word such as hypercalls are given. */
  word(): bigint {
    const { r, t } = this;
    switch (r.below(12)) {
      case 0:
      case 1:
      case 2:
        return BigInt(r.below(r.of([4, 16, 70])));
      case 3:
        return r.of(DOMIDS);
      case 4:
        return r.of(t.frames);
      case 5:
        return (r.of(t.frames) << 12n) | BigInt(r.below(512) * 8 + r.below(4));
      case 6:
        return this.entry();
      case 7:
      case 8:
        return this.pointer();
      case 9:
        return r.of([-1n & MASK64, 1n << 31n, (1n << 31n) - 1n, 1n << 63n, 1n << 32n, 0xffffffffn, 1n << 12n]);
      case 10:
        return BigInt(t.domain.domid);
      default:
        return r.u64();
    }
  }
  /** A page-table entry. */
  entry(): bigint {
    const { r, t } = this;
    const flags = r.of([
      0x1n,
      0x3n,
      0x5n,
      0x7n,
      0x61n,
      0x63n,
      0x67n,
      0x27n,
      0xe7n,
      0x1e7n,
      0x0n,
      BigInt(r.below(4096)),
    ]);
    const nx = r.chance(10) ? 1n << 63n : 0n;
    return (r.of(t.frames) << 12n) | flags | nx;
  }
  /** An address: mostly of its data, else one that is not its own or nobody's. */
  pointer(): bigint {
    const { r, t } = this;
    if (r.chance(75)) return BigInt(t.dataVa + r.below(DATA_BYTES / 8) * 8);
    return (
      r.of([
        0n,
        BigInt(t.dataVa + DATA_BYTES - 4),
        BigInt(t.dataVa + 1),
        BigInt(t.startInfoVa),
        BigInt(t.codeVa),
        0xffff800000000000n,
        0xffff800000001000n,
        0xffff82d080000000n,
        0xffff87fffffffff8n,
        0xffff7fffffffffffn,
        0x800000000000n,
        0x7ffffffffff8n,
        0xffffffffffffffffn,
        0xffff888000000000n,
      ]) & MASK64
    );
  }

  /** What lies in the data pages: all kinds of words, 64-bit, or two of 32, or four of 16. */
  data(): Uint8Array {
    const { r } = this;
    const bytes = new Uint8Array(DATA_BYTES);
    const d = new DataView(bytes.buffer);
    for (let at = 0; at < DATA_BYTES; at += 8) {
      const kind = r.below(8);
      if (kind < 4) d.setBigUint64(at, this.word(), true);
      else if (kind < 7)
        for (let i = 0; i < 8; i += 4)
          d.setUint32(at + i, Number((r.chance(70) ? BigInt(r.below(24)) : this.word()) & 0xffffffffn), true);
      else
        for (let i = 0; i < 8; i += 2)
          d.setUint16(at + i, Number((r.chance(50) ? BigInt(r.below(8)) : this.word()) & 0xffffn), true);
    }
    return bytes;
  }

  /** The guest's own entries of its grant table. */
  grants(): void {
    const { r, t } = this;
    const frame = t.domain.grants.frames[0];
    if (frame === undefined || t.domain.grants.version !== 1) return;
    const { mem } = t.domain.xen;
    for (let ref = 2; ref < 16; ref++) {
      const at = frame * 4096 + ref * grant_entry_v1.size;
      // What is mapped keeps its flags, as Xen's view of it must stay what it is.
      if ((mem.r16(at) & (GTF_reading | GTF_writing)) !== 0) continue;
      mem.w16(at, r.of([0, 1, 1, 1, 2, 3, 5, 0x21, 0x105]));
      mem.w16(at + grant_entry_v1.domid, r.of([t.domain.domid, t.domain.domid, 0, t.other.domid, 0x7ff0]));
      mem.w32(at + grant_entry_v1.frame, Number(r.of(t.frames)));
    }
  }

  /**
   * A call, and in its slot of the data what its pointer leads to: mostly a structure that makes sense, so that not everything is refused
   * at the first look.
   */
  call(d: DataView, slot: number, depth = 0): Call {
    const { r, t } = this;
    const va = BigInt(t.dataVa + slot);
    let number = r.chance(70) ? r.of(RICH) : r.below(64);
    if (DEADLY.has(number) && r.chance(90)) number = r.of(RICH);
    if (depth > 0 && number === MULTICALL) number = MMUEXT_OP;
    const args = Array.from({ length: 6 }, () => this.word());
    const self = r.chance(85) ? 0x7ff0n : r.of(DOMIDS);
    const here = r.chance(85) ? va : this.pointer();
    const few = 1 + r.below(4);
    const count = BigInt(r.chance(95) ? few : r.u32());
    const small = (n: number): bigint => (r.chance(95) ? BigInt(r.below(n)) : this.word());
    const domid = (): bigint =>
      r.of([0x7ff0n, 0x7ff0n, BigInt(t.domain.domid), BigInt(t.domain.domid), BigInt(t.other.domid), 0n]);
    const put = (at: number, size: number, v: bigint): void => {
      if (size === 8) d.setBigUint64(slot + at, v & MASK64, true);
      else if (size === 4) d.setUint32(slot + at, Number(v & 0xffffffffn), true);
      else d.setUint16(slot + at, Number(v & 0xffffn), true);
    };
    /** One structure: its 64-bit, 32-bit and 16-bit fields. */
    const fill = (base: number, layout: Layout, fields: Readonly<Record<string, readonly [number, bigint]>>): void => {
      for (const [name, [size, v]] of Object.entries(fields)) put(base + (layout[name] as number), size, v);
    };
    const reservation = (base: number, extents: number): void => {
      fill(base, xen_memory_reservation, {
        extent_start: [8, r.chance(90) ? va + BigInt(extents) : this.pointer()],
        nr_extents: [8, count],
        extent_order: [4, r.chance(80) ? 0n : small(12)],
        mem_flags: [4, r.chance(80) ? 0n : this.word()],
        domid: [2, self],
      });
      for (let i = 0; i < 4; i++) put(extents + 8 * i, 8, r.chance(50) ? BigInt(r.below(2200)) : r.of(t.frames));
    };
    switch (number) {
      case MMU_UPDATE:
        for (let i = 0; i < few; i++) {
          put(16 * i, 8, (r.of(t.frames) << 12n) | BigInt(r.below(512) * 8 + (r.chance(80) ? 0 : r.below(4))));
          put(16 * i + 8, 8, r.chance(80) ? this.entry() : this.word());
        }
        args.splice(0, 4, here, count, r.chance(50) ? 0n : va + 128n, self);
        break;
      case MMUEXT_OP:
        for (let i = 0; i < few; i++) {
          put(24 * i, 4, small(20));
          put(24 * i + 8, 8, r.chance(70) ? r.of(t.frames) : this.pointer());
          put(24 * i + 16, 8, r.chance(50) ? this.pointer() : this.word());
        }
        args.splice(0, 4, here, count, r.chance(50) ? 0n : va + 128n, self);
        break;
      case UPDATE_VA_MAPPING:
      case UPDATE_VA_MAPPING_OTHER:
        args.splice(
          0,
          4,
          r.chance(70) ? BigInt(t.dataVa - 65536 + r.below(64) * 4096) : this.pointer(),
          this.entry(),
          BigInt(r.below(6)),
          self,
        );
        break;
      case MULTICALL:
        for (let i = 0; i < 3; i++) {
          const inner = this.call(d, slot, depth + 1);
          put(multicall_entry.size * i, 8, inner.number);
          for (let j = 0; j < 6; j++) put(multicall_entry.size * i + 16 + 8 * j, 8, inner.args[j] as bigint);
        }
        args.splice(0, 2, here, BigInt(r.chance(95) ? 1 + r.below(3) : r.u32()));
        break;
      case SCHED_OP: {
        const op = BigInt(r.below(9));
        args.splice(0, 2, op === SCHEDOP_SHUTDOWN && r.chance(95) ? 0n : op, here);
        break;
      }
      case VCPU_OP:
        args.splice(0, 3, BigInt(r.below(16)), BigInt(r.below(3)), here);
        break;
      case CONSOLE_IO:
        args.splice(0, 3, 0n, r.chance(95) ? BigInt(r.below(300)) : this.word(), this.pointer());
        break;
      case GRANT_TABLE_OP: {
        const op = r.below(14);
        const page = BigInt(t.dataVa - 65536 + r.below(4) * 4096);
        for (let i = 0; i < few; i++) {
          const other = r.chance(50);
          const ref = other ? BigInt(r.of(READABLE)) : small(16);
          const dom = other ? BigInt(t.other.domid) : domid();
          if (op === 0)
            fill(i * gnttab_map_grant_ref.size, gnttab_map_grant_ref, {
              host_addr: [8, r.chance(70) ? page : this.pointer()],
              flags: [4, r.chance(80) ? r.of([2n, 2n, 6n, 3n, 7n, 0x12n]) : small(64)],
              ref: [4, ref],
              dom: [2, dom],
            });
          else if (op === 1 || op === 7)
            fill(i * 24, gnttab_unmap_grant_ref, {
              host_addr: [8, r.chance(80) ? page : this.pointer()],
              // (Of unmap_and_replace: where the new entry comes from.)
              dev_bus_addr: [8, op === 1 && r.chance(80) ? 0n : r.chance(80) ? page + 4096n : this.pointer()],
              handle: [4, small(4)],
            });
          else if (op === 5)
            fill(i * gnttab_copy.size, gnttab_copy, {
              source_u: [8, r.chance(50) ? ref : r.of(t.frames)],
              source_domid: [2, dom],
              source_offset: [2, small(4096)],
              dest_u: [8, r.chance(50) ? BigInt(r.of(READABLE)) : r.of(t.frames)],
              dest_domid: [2, r.chance(50) ? domid() : BigInt(t.other.domid)],
              dest_offset: [2, small(4096)],
              len: [2, small(300)],
              flags: [2, small(4)],
            });
          else {
            put(i * 24, 4, r.chance(60) ? self : small(16));
            put(i * 24 + 4, 4, small(4));
            put(i * 24 + 8, 8, r.chance(50) ? va + 128n : small(16));
            put(i * 24 + 16, 8, r.chance(50) ? va + 128n : small(16));
          }
        }
        args.splice(0, 3, BigInt(op), here, count);
        break;
      }
      case MEMORY_OP: {
        const op = r.chance(70) ? r.of([0, 1, 6, 7, 11, 4, 5, 9, 15]) : r.below(34);
        if (op <= 1 || op === 6) reservation(0, 64);
        else if (op === 11) {
          fill(0, xen_memory_exchange, { nr_exchanged: [8, r.chance(90) ? 0n : this.word()] });
          reservation(xen_memory_exchange.in, 128);
          reservation(xen_memory_exchange.out, 192);
        } else if (op === 7)
          fill(0, xen_add_to_physmap, {
            domid: [2, self],
            size_: [2, small(4)],
            space: [4, small(6)],
            idx: [8, small(40)],
            gpfn: [8, BigInt(r.below(2200))],
          });
        else {
          put(0, 8, r.chance(70) ? self : small(64));
          put(8, 8, here);
        }
        args.splice(0, 2, BigInt(op), here);
        break;
      }
      case EVENT_CHANNEL_OP: {
        if (r.chance(50)) {
          put(0, 2, domid());
          put(2, 2, domid());
          put(4, 4, small(16));
        } else for (let i = 0; i < 24; i += 4) put(i, 4, small(r.of([3, 16])));
        args.splice(0, 2, BigInt(r.below(14)), here);
        break;
      }
      case PHYSDEV_OP:
        for (let i = 0; i < 24; i += 4) put(i, 4, small(r.of([4, 64])));
        args.splice(0, 2, BigInt(r.below(34)), here);
        break;
      case XEN_VERSION:
        args.splice(0, 2, BigInt(r.below(12)), here);
        break;
      case SET_TRAP_TABLE:
        args[0] = here;
        break;
      case SET_GDT:
        for (let i = 0; i < 4; i++) put(8 * i, 8, r.of(t.frames));
        args.splice(0, 2, here, small(1600));
        break;
      case UPDATE_DESCRIPTOR:
        args.splice(
          0,
          2,
          (r.of(t.frames) << 12n) | BigInt(r.below(512) * 8),
          r.chance(50) ? 0xaffa000000ffffn : this.word(),
        );
        break;
    }
    if (r.chance(3)) args[r.below(6)] = r.u64();
    return { number: r.chance(99) ? BigInt(number) : this.word(), args };
  }
}

/** mov of a 64-bit constant to rax rdi rsi rdx r10 r8 r9. */
const MOV = [
  [0x48, 0xb8],
  [0x48, 0xbf],
  [0x48, 0xbe],
  [0x48, 0xba],
  [0x49, 0xba],
  [0x49, 0xb8],
  [0x49, 0xb9],
] as const;

/** The calls one after the other, then SCHEDOP_yield for ever. */
function program(calls: readonly Call[]): { code: Uint8Array; end: number } {
  const out: number[] = [];
  const mov = (register: number, v: bigint): void => {
    out.push(...(MOV[register] as readonly number[]));
    for (let i = 0n; i < 64n; i += 8n) out.push(Number((v >> i) & 0xffn));
  };
  for (const c of calls) {
    mov(0, c.number);
    c.args.forEach((a, i) => mov(i + 1, a));
    out.push(0x0f, 0x05);
  }
  const end = out.length;
  mov(0, BigInt(SCHED_OP));
  mov(1, 0n);
  out.push(0x0f, 0x05);
  out.push(0xeb, 256 - (out.length + 2 - end));
  return { code: Uint8Array.from(out), end };
}

/**
 * What the frame table's own audit cannot see: every entry of every table in use has the references it needs, and `apart`'s pages are
 * mapped writable by nobody else.
 */
function auditTables(xen: Xen, apart: Domain): void {
  const { frames, mem } = xen;
  const { first, limit, type, owner, flags, tcount, ref } = frames;
  const general = new Int32Array(limit);
  const writers = new Int32Array(limit);
  const typed = new Int32Array(limit);
  const wrong = (what: string, table: number, i: number): never => {
    throw new Error(`${what}: entry ${i} of table ${table}, a level ${type[table]} of ${frames.ownerDomid(table)}`);
  };
  for (let f = first; f < limit; f++) {
    const level = type[f] as number;
    if (level < PGT_l1_page_table || level > PGT_l4_page_table || tcount[f] === 0) continue;
    if (((flags[f] as number) & F_VALIDATED) === 0) continue;
    for (let i = 0; i < 512; i++) {
      if (level === PGT_l4_page_table && i >= XEN_SLOT_FIRST && i <= XEN_SLOT_LAST) continue;
      const lo = mem.r32(f * 4096 + i * 8);
      if ((lo & PTE_P) === 0) continue;
      const mfn = pteMfn(lo, mem.r32(f * 4096 + i * 8 + 4));
      if (!(mfn >= first && mfn < limit)) wrong(`frame ${mfn} is no memory`, f, i);
      if ((lo & PTE_US) === 0) wrong("not for ring 3", f, i);
      if (level === PGT_l1_page_table) {
        general[mfn] = (general[mfn] as number) + 1;
        if ((lo & PTE_RW) === 0) continue;
        writers[mfn] = (writers[mfn] as number) + 1;
        if (type[mfn] !== PGT_writable_page) wrong(`frame ${mfn} of type ${type[mfn]} is writable`, f, i);
        if (owner[mfn] === apart.mm.id && owner[f] !== apart.mm.id)
          wrong(`frame ${mfn} of another domain is writable`, f, i);
      } else if (mfn !== f) {
        general[mfn] = (general[mfn] as number) + 1;
        typed[mfn] = (typed[mfn] as number) + 1;
        if (type[mfn] !== level - 1 && type[mfn] !== level) wrong(`frame ${mfn} is of type ${type[mfn]}`, f, i);
        if (((flags[mfn] as number) & F_VALIDATED) === 0) wrong(`frame ${mfn} is not validated`, f, i);
        if (owner[mfn] !== owner[f]) wrong(`frame ${mfn} is another domain's table`, f, i);
      }
    }
  }
  for (let f = first; f < limit; f++) {
    if ((ref[f] as number) < (general[f] as number) && (ref[f] as number) >= 0)
      throw new Error(`frame ${f}: more entries than references`);
    if ((tcount[f] as number) < (writers[f] as number) + (typed[f] as number))
      throw new Error(`frame ${f}: more entries than type references`);
  }
}

function sum(bytes: Uint8Array): number {
  let h = 0;
  for (let i = 0; i < bytes.length; i++) h = (Math.imul(h, 31) + (bytes[i] as number)) | 0;
  return h;
}

describe.skipIf(noGuest !== "")(`hypercalls at random${noGuest}`, { timeout: TEST_LIMIT }, () => {
  it(`${CALLS} of them, seed ${SEED}`, async () => {
    const r = new Random(SEED);
    const host = new Host({ memoryMiB: 40, clock: new VirtualClock(), pcpus: 2, engine: "interpreter" });
    const { machine } = host;
    const { xen } = machine;
    await (await host.guest("hello", { memoryMiB: 8 })).end();
    host.close();
    host.guests.length = 0;

    // Somebody else, in the middle of its life.
    const other = await host.guest("time", { memoryMiB: 8 });
    await host.runInstructions(1e6);
    expect(other.ended).toBe(false);
    xen.pause(other.running.domain);
    const memoryOf = (d: Domain): string =>
      xen.frames
        .pagesOf(d.mm.id)
        .map((f) => `${f}:${sum(machine.mem.u8.subarray(f * 4096, f * 4096 + 4096))}`)
        .join(" ");
    machine.runSlice(1);
    const before = holdings(machine);
    const untouched = memoryOf(other.running.domain);

    // It lets the guest read some of its pages, and nobody write.
    const { grants, mm } = other.running.domain;
    if (grants.frames.length === 0) grants.grow(1);
    const entry = (ref: number): number => (grants.frames[0] as number) * 4096 + ref * grant_entry_v1.size;
    const offer = (to: Domain): void => {
      READABLE.forEach((ref, i) => {
        expect(machine.mem.r16(entry(ref)) & (GTF_reading | GTF_writing), "a mapping of a domain that is gone").toBe(0);
        machine.mem.w16(entry(ref), GTF_permit_access | GTF_readonly);
        machine.mem.w16(entry(ref) + grant_entry_v1.domid, to.domid);
        machine.mem.w32(entry(ref) + grant_entry_v1.frame, xen.frames.pagesOf(mm.id)[i * 7] as number);
      });
    };

    // Every other domain's hypercalls are continued at random, where they can be.
    xen.preemptRequested = () => domains % 2 === 0 && r.chance(30);

    let target: Target | null = null;
    let domains = 0;
    let stuck = 0;
    for (let done = 0, batch = 0; done < CALLS; batch++) {
      const domain: Domain | undefined = target?.domain;
      if (
        target === null ||
        domain === undefined ||
        domain.shutDown ||
        target.maddr(target.codeVa) < 0 ||
        target.maddr(target.dataVa) < 0 ||
        stuck > 3
      ) {
        target?.guest.running.destroy();
        host.guests.length = 1;
        target = new Target(await host.guest("spin", { memoryMiB: 8, vcpus: 2 }), other.running.domain);
        offer(target.domain);
        domains++;
        stuck = 0;
      }
      const t: Target = target;
      const f = new Fuzzer(r, t);
      const data = f.data();
      const view = new DataView(data.buffer);
      const calls = Array.from({ length: BATCH }, (_, i) => f.call(view, i * SLOT));
      f.grants();
      for (let at = 0; at < DATA_BYTES; at += 4096) {
        const ma = t.maddr(t.dataVa + at);
        if (ma >= 0) machine.mem.write(ma, data.subarray(at, at + 4096));
      }
      const { code, end } = program(calls);
      for (let at = 0; at < code.length; at += 4096) {
        const ma = t.maddr(t.codeVa + at);
        if (ma >= 0) machine.mem.write(ma, code.subarray(at, at + 4096));
      }
      const v = t.vcpu;
      xen.withLoaded(v, (cpu) => {
        cpu.rip = t.codeVa;
        cpu.rflags = 0x202;
      });
      const where = (): number => {
        let rip = 0;
        xen.withLoaded(v, (cpu) => {
          rip = cpu.rip;
        });
        return rip - t.codeVa;
      };
      const story = (): string =>
        `seed ${SEED}, call ${done} of domain ${t.domain.domid}, at ${where()}:\n${calls
          .map((c, i) => `${i * CALL_BYTES}: ${c.number} (${c.args.map((a) => a.toString(16)).join(", ")})`)
          .join("\n")}`;
      try {
        let slices = 0;
        for (; slices < 30 && !t.domain.shutDown; slices++) {
          const at = where();
          if (at >= end && at <= end + 24) break;
          if (!v.up) xen.vcpuUp(v);
          xen.scheduler.unblock(v.sched);
          machine.runSlice(0);
        }
        stuck = slices === 30 ? stuck + 1 : 0;
        done += Math.max(1, Math.min(BATCH, Math.floor(where() / CALL_BYTES)));
        xen.frames.audit();
        if (batch % 4 === 0) auditTables(xen, other.running.domain);
      } catch (e) {
        throw new Error(`${e instanceof Error ? (e.stack ?? e.message) : String(e)}\n${story()}`, { cause: e });
      }
      // Let the host's events have their turn: vitest's among them.
      if (batch % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    target?.guest.running.destroy();
    for (let i = 0; i < 3; i++) machine.runSlice(1);
    expect(host.log).not.toMatch(/internal error/);
    expect(memoryOf(other.running.domain)).toBe(untouched);
    expect(holdings(machine)).toEqual(before);
    expect(domains).toBeGreaterThan(0);
    // The machine is as good as before.
    xen.unpause(other.running.domain);
    expect(await other.end()).toBe(0);
    host.guests.length = 0;
    expect(await (await host.guest("grants", { memoryMiB: 8 })).end()).toBe(0);
    host.close();
  });
});

/** Prefixes and first opcode bytes that lead to many instructions. */
const LEADS: readonly (readonly number[])[] = [
  [],
  [],
  [0x0f],
  [0x48],
  [0x48, 0x0f],
  [0x66],
  [0x66, 0x0f],
  [0xf3, 0x0f],
  [0xf2, 0x0f],
  [0x66, 0x0f, 0x38],
  [0x0f, 0x3a],
  [0xf0, 0x48],
  [0xf3, 0x48],
  [0x64],
  [0x67],
  [0xcd],
  [0x0f, 0x01],
  [0x0f, 0xae],
  [0x0f, 0xc7],
  [0xd9],
  [0xdb],
  [0xdd],
  [0x8e],
  [0x0f, 0x05],
  [0x48, 0xcf],
];

describe.skipIf(noGuest !== "")(`code at random${noGuest}`, { timeout: TEST_LIMIT }, () => {
  it.each([
    ["interpreter", 20_000],
    ["translator", 2_000],
  ] as const)("%s, %i times", async (engine, rounds) => {
    const r = new Random(SEED);
    const host = new Host({ memoryMiB: 40, clock: new VirtualClock(), pcpus: 1, engine });
    const { machine } = host;
    const { xen } = machine;
    await (await host.guest("hello", { memoryMiB: 8 })).end();
    host.close();
    host.guests.length = 0;
    const before = holdings(machine);
    const other = await host.guest("spin", { memoryMiB: 8 });
    xen.pause(other.running.domain);
    let target: Target | null = null;
    const end = program([]).code;
    let faults = 0;
    for (let round = 0; round < rounds; round++) {
      if (target === null || target.domain.shutDown || target.maddr(target.codeVa) < 0) {
        target?.guest.running.destroy();
        host.guests.length = 1;
        target = new Target(await host.guest("spin", { memoryMiB: 8 }), other.running.domain);
      }
      const t: Target = target;
      const v = t.vcpu;
      const f = new Fuzzer(r, t);
      // Whatever happens, the guest comes to the end of the page.
      const handler = t.codeVa + 4096 - end.length;
      for (let vector = 0; vector < 256; vector++) v.traps.setTrap(vector, 3, 0xe033, handler);
      for (const key of ["eventCallback", "failsafeCallback", "syscallCallback", "sysenterCallback"] as const)
        v.traps[key] = handler;
      const code = new Uint8Array(4096).fill(0x90);
      const at = 64 + r.below(3800);
      for (let n = 0, p = at; n < 12; n++) {
        for (const b of r.of(LEADS)) code[p++] = b;
        for (let k = r.below(7); k >= 0; k--) code[p++] = r.u32();
      }
      code.set(end, 4096 - end.length);
      machine.mem.write(t.maddr(t.codeVa), code);
      xen.withLoaded(v, (cpu) => {
        for (let i = 0; i < 16; i++) {
          const w = f.word();
          cpu.setReg(i, Number(w & 0xffffffffn), Number(w >> 32n));
        }
        cpu.setRegVa(4, t.dataVa + 4096);
        cpu.rip = t.codeVa + at;
        cpu.rflags = 0x202 | (r.below(16) === 0 ? 0x100 : 0) | (r.below(4) === 0 ? 0x400 : 0);
      });
      const faulted = xen.counters.exceptions;
      try {
        for (let slices = 0; slices < 5 && !t.domain.shutDown; slices++) {
          let rip = 0;
          xen.withLoaded(v, (cpu) => {
            rip = cpu.rip;
          });
          if (rip >= handler && rip < t.codeVa + 4096) break;
          xen.scheduler.unblock(v.sched);
          machine.runSlice(0);
        }
        if (round % 64 === 0) {
          xen.frames.audit();
          auditTables(xen, other.running.domain);
          await new Promise((resolve) => setImmediate(resolve));
        }
      } catch (e) {
        const bytes = [...code.subarray(at, at + 96)].map((b) => b.toString(16).padStart(2, "0")).join(" ");
        throw new Error(
          `${e instanceof Error ? (e.stack ?? e.message) : String(e)}\nseed ${SEED}, round ${round}: ${bytes}`,
          { cause: e },
        );
      }
      faults += xen.counters.exceptions - faulted;
    }
    expect(faults).toBeGreaterThan(rounds / 4);
    target?.guest.running.destroy();
    other.running.destroy();
    for (let i = 0; i < 3; i++) machine.runSlice(1);
    expect(holdings(machine)).toEqual(before);
    expect(await (await host.guest("traps", { memoryMiB: 8 })).end()).toBe(0);
  });
});
