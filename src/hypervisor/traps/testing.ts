/**
 * For tests of traps, hypercalls and the run loop: a CPU of registers and mappings without an engine. `script` says what each `run`
 * does and how it exits. Memory is real.
 */
import type { Access, CpuApi, CpuContext, ExitInfo, ModeSpec, Va } from "../../machine/cpu/api.js";
import { VirtualClock, type Clock } from "../../machine/clock.js";
import { Exit, type ExitReason } from "../../machine/cpu/exits.js";
import { CPU_CONTEXT_SIZE, SEG_ATTR } from "../../machine/layout.js";
import { PhysMem, type Maddr } from "../../machine/memory.js";
import type { Domain } from "../domain.js";
import { setFlatKernel } from "./segments.js";
import type { Vcpu } from "../vcpu.js";
import { Xen, type XenOptions } from "../xen.js";

interface State {
  gpr: Int32Array;
  rip: number;
  rflags: number;
  sel: number[];
  base: Int32Array;
  attr: number[];
  dr: Int32Array;
  mode: ModeSpec;
  ts: boolean;
}

function fresh(): State {
  return {
    gpr: new Int32Array(32),
    rip: 0,
    rflags: 2,
    sel: [0, 0, 0, 0, 0, 0],
    base: new Int32Array(12),
    attr: [0, 0, 0, 0, 0, 0],
    dr: new Int32Array(16),
    mode: { bits: 64, cpl: 3, space: 0 },
    ts: false,
  };
}

export class MockCpu implements CpuApi {
  readonly exit: ExitInfo = { reason: Exit.NONE, vector: 0, errorCode: -1, length: 0, cr2Lo: 0, cr2Hi: 0 };
  s = fresh();
  retired = 0;
  attention = 0;
  flushes = 0;
  /** What the next runs do; when empty, a run spends its budget. */
  script: ((cpu: MockCpu, budget: number) => ExitReason)[] = [];
  cpuid: CpuApi["cpuid"] = () => [0, 0, 0, 0];
  loadSegment: ((sreg: number, selector: number) => boolean) | null = null;
  private readonly contexts = new Map<CpuContext, State>();
  private readonly pages: [
    Map<number, { ma: Maddr; writable: boolean }>,
    Map<number, { ma: Maddr; writable: boolean }>,
  ] = [new Map(), new Map()];
  private readonly roots = [0, 0];

  constructor(
    private readonly mem: PhysMem,
    private readonly clock: Clock,
  ) {}

  /** Map one page in a space. */
  map(space: 0 | 1, va: Va, ma: Maddr, writable = true): void {
    this.pages[space].set(Math.floor(va / 4096), { ma, writable });
  }
  unmap(space: 0 | 1, va: Va): void {
    this.pages[space].delete(Math.floor(va / 4096));
  }

  run(budget: number): ExitReason {
    const before = this.retired;
    const step = this.script.shift();
    let reason: ExitReason = Exit.BUDGET;
    if (step === undefined) this.retired += budget;
    else {
      this.retired += 1;
      reason = step(this, budget);
    }
    this.clock.retire(this.retired - before);
    return reason;
  }
  requestAttention(): void {
    this.attention++;
  }
  newContext(): CpuContext {
    const bytes = new Uint8Array(CPU_CONTEXT_SIZE);
    return { bytes, view: new DataView(bytes.buffer) };
  }
  load(ctx: CpuContext): void {
    this.s = this.contexts.get(ctx) ?? fresh();
    for (let i = 0; i < 6; i++) this.mem.u32[(SEG_ATTR >>> 2) + i] = this.s.attr[i] as number;
  }
  save(ctx: CpuContext): void {
    this.contexts.set(ctx, this.s);
  }
  regLo(i: number): number {
    return this.s.gpr[i * 2] as number;
  }
  regHi(i: number): number {
    return this.s.gpr[i * 2 + 1] as number;
  }
  setReg(i: number, lo: number, hi: number): void {
    this.s.gpr[i * 2] = lo;
    this.s.gpr[i * 2 + 1] = hi;
  }
  regVa(i: number): Va {
    return this.regHi(i) * 4294967296 + (this.regLo(i) >>> 0);
  }
  setRegVa(i: number, va: Va): void {
    this.setReg(i, va >>> 0, Math.floor(va / 4294967296));
  }
  get rip(): Va {
    return this.s.rip;
  }
  set rip(va: Va) {
    this.s.rip = va;
  }
  get rflags(): number {
    return this.s.rflags;
  }
  set rflags(f: number) {
    this.s.rflags = f;
  }
  selector(s: number): number {
    return this.s.sel[s] as number;
  }
  setSegment(s: number, selector: number, base: Va, _limit: number, attr: number): void {
    this.s.sel[s] = selector;
    this.s.attr[s] = attr;
    this.mem.u32[(SEG_ATTR >>> 2) + s] = attr;
    this.setSegBase(s, base >>> 0, Math.floor(base / 4294967296));
  }
  segBaseLo(s: number): number {
    return this.s.base[s * 2] as number;
  }
  segBaseHi(s: number): number {
    return this.s.base[s * 2 + 1] as number;
  }
  setSegBase(s: number, lo: number, hi: number): void {
    this.s.base[s * 2] = lo;
    this.s.base[s * 2 + 1] = hi;
  }
  setMode(m: ModeSpec): void {
    this.s.mode = m;
  }
  get cpl(): number {
    return this.s.mode.cpl;
  }
  get space(): 0 | 1 {
    return this.s.mode.space;
  }
  setRoot(space: 0 | 1, table: Maddr): void {
    this.roots[space] = table;
  }
  root(space: 0 | 1): Maddr {
    return this.roots[space] as number;
  }
  watchTables(): void {}
  forgetRoot(): void {}
  flushTlb(): void {
    this.flushes++;
  }
  invlpg(): void {}
  translate(va: Va, access: Access): Maddr {
    const p = this.pages[this.s.mode.space].get(Math.floor(va / 4096));
    if (p === undefined || (access === 1 && !p.writable)) {
      this.exit.vector = 14;
      this.exit.errorCode = 4 | (access === 1 ? 2 : 0) | (p === undefined ? 0 : 1);
      this.exit.cr2Lo = va >>> 0;
      this.exit.cr2Hi = Math.floor(va / 4294967296) | 0;
      return -1;
    }
    return p.ma + (va & 4095);
  }
  peek(space: 0 | 1, va: Va): Maddr {
    const p = this.pages[space].get(Math.floor(va / 4096));
    return p === undefined ? -1 : p.ma + (va & 4095);
  }
  setTaskSwitched(on: boolean): void {
    this.s.ts = on;
  }
  setDr(i: number, lo: number, hi: number): void {
    this.s.dr[i * 2] = lo;
    this.s.dr[i * 2 + 1] = hi;
  }
  drLo(i: number): number {
    return this.s.dr[i * 2] as number;
  }
  drHi(i: number): number {
    return this.s.dr[i * 2 + 1] as number;
  }
  fxsave(): Uint8Array {
    return new Uint8Array(512);
  }
  fxrstor(): void {}
  tsc(): number {
    return 0x123456789;
  }
}

/** Kernel addresses of a test domain. */
export const KCODE = -0x7ff00000;
export const KSTACK = -0x7fe00000;
export const KDATA = -0x7fd00000;
export const UCODE = 0x400000;
export const USTACK = 0x7ffffff000;

/** A domain with one loaded vCPU: code, stack (two pages) and data pages for the kernel, code and stack for user mode. */
export class TestPv {
  readonly mem = new PhysMem(8 << 20);
  readonly clock = new VirtualClock();
  readonly cpu = new MockCpu(this.mem, this.clock);
  readonly xen: Xen;
  readonly domain: Domain;
  readonly v: Vcpu;
  readonly lines: string[] = [];
  readonly kcode: Maddr;
  readonly kstack: Maddr;
  readonly kdata: Maddr;
  readonly ucode: Maddr;
  readonly ustack: Maddr;

  constructor(pcpus = 1, vcpus = 1, options: XenOptions = {}) {
    this.xen = new Xen(this.mem, this.cpu, this.clock, pcpus, options);
    this.xen.console.onLine((l) => this.lines.push(l));
    this.domain = this.xen.createDomain({
      uuid: "00112233-4455-6677-8899-aabbccddeeff",
      name: "test",
      maxVcpus: vcpus,
      maxPages: 64,
    });
    this.v = this.domain.vcpus[0] as Vcpu;
    let pfn = 0;
    const page = (): Maddr => this.domain.mm.allocPage(pfn++) * 4096;
    this.kcode = page();
    this.kstack = this.domain.mm.allocExtent(pfn, 1) * 4096;
    pfn += 2;
    this.kdata = page();
    this.ucode = page();
    this.ustack = page();
    for (const space of [0, 1] as const) {
      this.cpu.map(space, UCODE, this.ucode);
      this.cpu.map(space, USTACK, this.ustack);
    }
    this.cpu.map(0, KCODE, this.kcode);
    this.cpu.map(0, KSTACK, this.kstack);
    this.cpu.map(0, KSTACK + 4096, this.kstack + 4096);
    this.cpu.map(0, KDATA, this.kdata);
    this.v.initialised = true;
    this.v.mm.userRoot = 1;
    this.xen.switchTo(this.v);
    this.kernel(KCODE, KSTACK + 0x1800);
    this.setMask(0);
  }

  /** Put the vCPU in kernel mode. */
  kernel(rip: Va, rsp: Va): void {
    this.v.kernelMode = true;
    this.cpu.setMode({ bits: 64, cpl: 3, space: 0 });
    setFlatKernel(this.cpu);
    this.cpu.rip = rip;
    this.cpu.setRegVa(4, rsp);
    this.cpu.rflags = 0x202;
  }
  /** Put it in user mode, as after an iret. */
  user(rip: Va, rsp: Va): void {
    this.kernel(rip, rsp);
    this.v.kernelMode = false;
    this.cpu.setMode({ bits: 64, cpl: 3, space: 1 });
  }

  get info(): Maddr {
    return this.v.events.infoMaddr;
  }
  get mask(): number {
    return this.mem.r8(this.info + 1);
  }
  setMask(m: number): void {
    this.mem.w8(this.info + 1, m);
  }
  setPending(p: number): void {
    this.mem.w8(this.info, p);
  }
  /** 64-bit words at a kernel address, as [lo, hi] pairs. */
  words(va: Va, n: number): [number, number][] {
    const out: [number, number][] = [];
    for (let i = 0; i < n; i++) {
      const ma = this.cpu.peek(0, va + i * 8);
      out.push([this.mem.r32(ma), this.mem.r32(ma + 4)]);
    }
    return out;
  }
  /** Write bytes at a kernel or user address. */
  poke(space: 0 | 1, va: Va, bytes: readonly number[]): void {
    bytes.forEach((b, i) => {
      this.mem.w8(this.cpu.peek(space, va + i), b);
    });
  }
  poke64(va: Va, n: number): void {
    const ma = this.cpu.peek(0, va);
    this.mem.w64(ma, n >>> 0, Math.floor(n / 4294967296) >>> 0);
  }
}
