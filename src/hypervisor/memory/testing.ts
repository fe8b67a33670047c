/**
 * A small machine for the tests of the memory and grants rooms: real frames and tables, a CPU that only counts flushes and takes a guest's
 * virtual address for the machine address, and hypercalls with their arguments in an array.
 */
import type { CpuApi, Va } from "../../machine/cpu/api.js";
import { FRAMES_CHANGES } from "../../machine/layout.js";
import { PhysMem } from "../../machine/memory.js";
import { Trace } from "../trace.js";
import type { Domain } from "../domain.js";
import { GuestAccess } from "../guest-access.js";
import { GrantTable, type GrantLimits } from "../grants/grant-table.js";
import type { Call, Handler } from "../hypercalls/call.js";
import type { Vcpu } from "../vcpu.js";
import type { Xen } from "../xen.js";
import { DomainMemory } from "./domain-memory.js";
import { F_VALIDATED, FrameTable, PGT_l1_page_table, PGT_l4_page_table } from "./frame-table.js";
import { toVa } from "./util.js";
import { VcpuMm } from "./vcpu-mm.js";

export class MockCpu {
  flushes = 0;
  invlpgs: number[] = [];
  roots = [0, 0];
  rip = 0;
  rflags = 2;
  private readonly lo = new Uint32Array(16);
  private readonly hi = new Uint32Array(16);
  constructor(private readonly mem: PhysMem) {}
  watchTables(): void {}
  /** Roots that it was told of. */
  readonly forgotten: number[] = [];
  forgetRoot(at: number): void {
    this.forgotten.push(at);
  }
  flushTlb(_code?: number): void {
    this.flushes++;
  }
  invlpg(va: number): void {
    this.invlpgs.push(va);
  }
  root(space: 0 | 1): number {
    return this.roots[space] as number;
  }
  setRoot(space: 0 | 1, at: number): void {
    this.roots[space] = at;
  }
  translate(va: number): number {
    return va >= this.mem.firstFrame * 4096 && va < this.mem.frames * 4096 ? va : -1;
  }
  regLo(i: number): number {
    return this.lo[i] as number;
  }
  regHi(i: number): number {
    return this.hi[i] as number;
  }
  setReg(i: number, lo: number, hi: number): void {
    this.lo[i] = lo;
    this.hi[i] = hi;
  }
  regVa(i: number): number {
    return toVa(this.regLo(i), this.regHi(i));
  }
  segBaseLo(): number {
    return 0;
  }
  segBaseHi(): number {
    return 0;
  }
}

/** Arguments as numbers (non-negative) or [lo, hi]. */
export type Arg = number | readonly [number, number];

export class World {
  readonly mem: PhysMem;
  readonly cpu: MockCpu;
  readonly xen: Xen;
  readonly ft: FrameTable;
  /** Makes every `preempt()` of the next hypercalls true. */
  preempt = false;
  /** The arguments as the last hypercall left them. */
  lastArgs: [number, number][] = [];
  restarted = false;

  /** @param aliases frame numbers for shared memory */
  constructor(bytes = 16 << 20, aliases = 0) {
    this.mem = new PhysMem(bytes, aliases);
    this.cpu = new MockCpu(this.mem);
    this.xen = {
      mem: this.mem,
      cpu: this.cpu as unknown as CpuApi,
      clock: { now: () => 0 },
      trace: new Trace(),
      domains: new Map<number, Domain>(),
      current: null,
    } as unknown as Xen;
    this.ft = new FrameTable(this.mem, this.xen.cpu);
    this.xen.frames = this.ft;
  }

  domain(
    domid: number,
    pages: number,
    options: { privileged?: boolean; limits?: GrantLimits; maxPages?: number } = {},
  ): Domain {
    const d = {
      xen: this.xen,
      domid,
      vcpus: [] as Vcpu[],
      maxVcpus: 1,
      privileged: options.privileged ?? false,
      vmAssist: 0,
      dying: false,
      shuttingDown: false,
    } as unknown as Domain;
    d.mm = new DomainMemory(this.xen, d, options.maxPages ?? pages);
    d.grants = new GrantTable(d, options.limits);
    const v = { domain: d, id: 0, kernelMode: true } as unknown as Vcpu;
    v.mm = new VcpuMm(this.xen, v);
    d.vcpus.push(v);
    if (d.mm.populate(0, pages) !== 0) throw new Error("no memory");
    this.xen.domains.set(domid, d);
    return d;
  }
  destroy(d: Domain): void {
    d.mm.relinquish();
    this.xen.domains.delete(d.domid);
  }

  call(d: Domain, handler: Handler, ...args: Arg[]): number {
    const regs: [number, number][] = Array.from({ length: 6 }, (_, i) => {
      const a = args[i] ?? 0;
      return typeof a === "number" ? [a >>> 0, Math.floor(a / 4294967296) >>> 0] : [a[0] >>> 0, a[1] >>> 0];
    });
    const reg = (i: number): [number, number] => regs[i] as [number, number];
    const vcpu = d.vcpus[0] as Vcpu;
    this.xen.current = vcpu;
    this.restarted = false;
    const call: Call = {
      xen: this.xen,
      domain: d,
      vcpu,
      guest: new GuestAccess(this.xen.cpu, this.mem),
      lo: (i) => reg(i)[0],
      hi: (i) => reg(i)[1],
      va: (i): Va => toVa(reg(i)[0], reg(i)[1]),
      num: (i) => reg(i)[0] + reg(i)[1] * 4294967296,
      setArg: (i, lo, hi) => {
        regs[i] = [lo >>> 0, hi >>> 0];
      },
      restart: () => {
        this.restarted = true;
        return 0;
      },
      preempt: () => this.preempt,
    };
    let rc = handler(call);
    // Continue like the dispatcher, with the rewritten arguments.
    for (let n = 0; this.restarted && n < 10_000; n++) {
      this.restarted = false;
      rc = handler(call);
    }
    this.lastArgs = regs;
    return rc;
  }

  pte(mfn: number, slot: number, lo: number, hi = 0): void {
    this.mem.w64(mfn * 4096 + slot * 8, lo, hi);
  }
  readPte(mfn: number, slot: number): [number, number] {
    const at = mfn * 4096 + slot * 8;
    return [this.mem.r32(at), this.mem.r32(at + 4)];
  }

  /**
   * Page tables at pfns 0–3 (L4 L3 L2 L1) that map pfns 0… as addresses 0…, the tables read-only; pinned and loaded as by the builder.
   */
  build(d: Domain, mapped = 16): { l4: number; l3: number; l2: number; l1: number } {
    const [l4, l3, l2, l1] = [0, 1, 2, 3].map((p) => d.mm.mfnOf(p)) as [number, number, number, number];
    this.pte(l4, 0, (l3 << 12) | 7);
    this.pte(l3, 0, (l2 << 12) | 7);
    this.pte(l2, 0, (l1 << 12) | 7);
    for (let p = 0; p < mapped; p++) this.pte(l1, p, (d.mm.mfnOf(p) << 12) | (p < 4 ? 5 : 7));
    const rc = d.mm.finishBuild({ l4Mfn: l4 });
    if (rc !== 0) throw new Error(`finishBuild: ${rc}`);
    return { l4, l3, l2, l1 };
  }

  get changes(): number {
    return this.mem.u32[FRAMES_CHANGES >>> 2] as number;
  }
  /**
   * From now until the answer is called: what of the change of an entry, or of the end of a root, was not told to the CPU, which keeps what it
   * knows of address spaces ("" = all was told).
   */
  untold(): () => string {
    const { ft } = this;
    const isTable = (f: number, type: number): boolean =>
      ft.type[f] === type && (ft.tcount[f] as number) > 0 && ((ft.flags[f] as number) & F_VALIDATED) !== 0;
    const were: { f: number; type: number; entries: Uint32Array }[] = [];
    for (let f = ft.first; f < ft.limit; f++) {
      const type = ft.type[f] as number;
      if (type >= PGT_l1_page_table && type <= PGT_l4_page_table && isTable(f, type))
        were.push({ f, type, entries: this.mem.u32.slice(f * 1024, f * 1024 + 1024) });
    }
    const before = this.changes;
    const told = this.cpu.forgotten.length;
    return () => {
      for (const { f, type, entries } of were) {
        if (!isTable(f, type)) {
          if (type === PGT_l4_page_table && !this.cpu.forgotten.includes(f * 4096, told)) return `root ${f} has gone`;
          continue;
        }
        for (let i = 0; i < 1024; i += 2) {
          if (((entries[i] as number) & 1) === 0 || this.changes !== before) continue;
          const lo = (entries[i] as number) ^ (this.mem.u32[f * 1024 + i] as number);
          const hi = (entries[i + 1] as number) ^ (this.mem.u32[f * 1024 + i + 1] as number);
          if (((lo & ~0x60) | hi) !== 0) return `entry ${i / 2} of the table ${f} has changed`;
        }
      }
      return "";
    };
  }

  /** What the frame table holds, but for flush stamps, list order and the need to scrub: for comparing before and after. */
  snapshot(): string {
    this.ft.audit();
    const parts: string[] = [];
    for (let f = this.ft.first; f < this.ft.limit; f++)
      if (this.ft.owner[f] !== 0)
        parts.push([f, this.ft.owner[f], this.ft.ref[f], this.ft.type[f], this.ft.tcount[f]].join(":"));
    return `${this.ft.freeFrames};${parts.join(",")}`;
  }
}
