// What the core does of a PV guest's transitions by itself (traps/fast.ts), against the hypervisor's own way, which is the reference.
import { afterAll, describe, expect, it } from "vitest";
import { SHUTDOWN_poweroff } from "../../src/abi/sched.js";
import {
  __HYPERVISOR_mmu_update,
  __HYPERVISOR_mmuext_op,
  __HYPERVISOR_update_va_mapping,
  DOMID_SELF,
  vcpu_info,
  VMASST_TYPE_architectural_iopl,
  VMASST_TYPE_writable_pagetables,
} from "../../src/abi/xen.js";
import type { Domain } from "../../src/hypervisor/domain.js";
import { PGT_l1_page_table } from "../../src/hypervisor/memory/frame-table.js";
import { walkL1 } from "../../src/hypervisor/memory/walk.js";
import { FastTransitions } from "../../src/hypervisor/traps/fast.js";
import { onException, onSyscall } from "../../src/hypervisor/traps/exits.js";
import { KERNEL_MODE, USER_MODE } from "../../src/hypervisor/traps/mode.js";
import { FLAT_CODE64, FLAT_DATA, setFlatKernel } from "../../src/hypervisor/traps/segments.js";
import type { Vcpu } from "../../src/hypervisor/vcpu.js";
import type { Xen } from "../../src/hypervisor/xen.js";
import { WRITE, type CpuContext } from "../../src/machine/cpu/api.js";
import type { Cpu } from "../../src/machine/cpu/cpu.js";
import { Exit } from "../../src/machine/cpu/exits.js";
import { VirtualClock } from "../../src/machine/clock.js";
import { CS, FS, GS, RSP, SS } from "../../src/machine/cpu/insn.js";
import {
  BUDGET,
  CODE_PAGE,
  CPU,
  EXIT_REASON,
  FRAMES_CLOCK,
  FRAMES_CHANGES,
  PV_ON,
  SHADOW,
} from "../../src/machine/layout.js";
import { seeded, type Random } from "../../src/testing.js";
import { guestFile, Host, missing, TEST_LIMIT } from "./harness.js";

const GUESTS = [
  "hello",
  "hello-legacy",
  "shared-info",
  "grants",
  "events",
  "memory",
  "time",
  "sched",
  "traps",
] as const;
const noGuests = missing(...GUESTS.map((name) => guestFile(name)));

/** What a guest says, without what it measured. */
const said = (log: string): string => log.replace(/0x[0-9a-f]+|\d+(\.\d+)?/g, "N");

/** The lower and the upper half of a 64-bit number. */
const lo = (d: number): number => d >>> 0;
const hi = (d: number): number => Math.floor(d / 4294967296) >>> 0;

/** What the cases are made of: the same in every run. */
function choices(seed: number): {
  rnd: Random;
  pick: <T>(...of: readonly T[]) => T;
  any32: () => number;
} {
  const rnd = seeded(seed);
  return {
    rnd,
    pick: <T>(...of: readonly T[]): T => of[rnd(of.length)] as T,
    any32: () => ((rnd(65536) << 16) | rnd(65536)) >>> 0,
  };
}

/** A guest's vCPU whose steps are taken both ways: by the hypervisor alone, and with what the core does by itself. */
class Subject {
  readonly v: Vcpu;
  private readonly fast: FastTransitions;
  private readonly contexts: readonly [CpuContext, CpuContext];
  private crashed = "";
  /** Steps that the core took. */
  taken = 0;
  /** Free pages for code and data: above the boot stack; below it are page tables, which are read-only. */
  readonly stack: number;
  readonly code: number;
  readonly data: number;

  constructor(
    private readonly xen: Xen,
    private readonly cpu: Cpu,
    domain: Domain,
  ) {
    const v = domain.vcpus[0];
    if (v === undefined) throw new Error("no vCPU");
    this.v = v;
    xen.switchTo(v);
    domain.crash = (why: string): void => {
      this.crashed = why;
    };
    this.fast = new FastTransitions(xen, true);
    this.contexts = [cpu.newContext(), cpu.newContext()];
    this.stack = cpu.regVa(RSP) - (cpu.regVa(RSP) & 4095);
    this.code = this.stack + 0x2000;
    this.data = this.stack + 0x3000;
  }
  /** Where a byte of its memory is. */
  at(va: number): number {
    const ma = this.cpu.peek(0, va);
    if (ma < 0) throw new Error("the guest's free pages are not where they were thought to be");
    return ma;
  }
  /** Instructions, each in 16 bytes of its own at `code`. */
  program(...instructions: readonly (readonly number[])[]): void {
    instructions.forEach((bytes, i) => {
      this.xen.mem.write(this.at(this.code) + i * 16, Uint8Array.from(bytes));
    });
  }

  /** One step from the present state leaves the same in `watched`, the registers and the virtual state, and counts the same. Did the core take it? */
  step(what: string, watched: readonly Uint8Array[], begin: () => void = () => {}): boolean {
    const { v } = this;
    const { cpu } = this;
    const [present] = this.contexts;
    cpu.save(present);
    const memory = watched.map((w) => w.slice());
    const traps = { ...v.traps };
    const { kernelMode, domain } = v;
    const { pciCf8, cmosIndex } = domain;
    const run = (withFast: boolean): Outcome => {
      cpu.load(present);
      watched.forEach((w, i) => {
        w.set(memory[i] as Uint8Array);
      });
      Object.assign(v.traps, traps);
      v.kernelMode = kernelMode;
      Object.assign(domain, { pciCf8, cmosIndex });
      this.crashed = "";
      begin();
      return this.run(withFast, watched);
    };
    const slow = run(false);
    const quick = run(true);
    expect(quick.state, what).toEqual(slow.state);
    expect(quick.counts, what).toBe(slow.counts);
    quick.memory.forEach((m, i) => {
      expect(Buffer.compare(m, slow.memory[i] as Uint8Array), `${what}, part ${i}`).toBe(0);
    });
    // (An instruction that the host side carries out otherwise is one like others, and counted nowhere.)
    const taken = quick.done > 0 || quick.systemExits < slow.systemExits;
    if (taken) this.taken++;
    return taken;
  }

  private run(withFast: boolean, watched: readonly Uint8Array[]): Outcome {
    const { v, fast } = this;
    const { cpu } = this;
    const { mem, counters } = this.xen;
    const was = JSON.parse(JSON.stringify(counters)) as Record<string, unknown>;
    const { retired } = cpu;
    const { systemExits } = cpu.counters;
    if (withFast) fast.before(v);
    else mem.u32[PV_ON >>> 2] = 0;
    const reason = cpu.run(1);
    const done = withFast ? fast.after(v) : 0;
    if (done > 0) expect(reason).toBe(Exit.BUDGET);
    else if (reason === Exit.SYSCALL) onSyscall(v);
    else if (reason === Exit.EXCEPTION) onException(v);
    const counts: Record<string, unknown> = { retired: cpu.retired - retired };
    for (const [k, x] of Object.entries(counters)) {
      if (typeof x === "number") counts[k] = x - (was[k] as number);
      else counts[k] = Array.from(x as Float64Array, (y, i) => y - ((was[k] as number[])[i] ?? 0));
    }
    return {
      state: this.state(),
      counts: JSON.stringify(counts),
      done,
      systemExits: cpu.counters.systemExits - systemExits,
      memory: watched.map((w) => w.slice()),
    };
  }
  private state(): unknown {
    const { v } = this;
    const [, after] = this.contexts;
    this.cpu.save(after);
    // What is no part of the guest's state: budget, exit record, the interpreter's page.
    expect(BUDGET > CODE_PAGE && EXIT_REASON > BUDGET).toBe(true);
    const bytes = after.bytes.slice().fill(0, CODE_PAGE - CPU, SHADOW - CPU);
    const { address: _a, flags: _f, cs: _c, ...traps } = v.traps;
    return {
      registers: Buffer.from(bytes).toString("hex"),
      traps,
      kernel: v.kernelMode,
      ports: [v.domain.pciCf8, v.domain.cmosIndex],
      crashed: this.crashed,
    };
  }
}
interface Outcome {
  readonly state: unknown;
  readonly counts: string;
  /** Transitions that the core did. */
  readonly done: number;
  /** Instructions that the host side carried out. */
  readonly systemExits: number;
  readonly memory: readonly Uint8Array[];
}

describe.skipIf(noGuests !== "")(`transitions inside the core${noGuests}`, { timeout: TEST_LIMIT }, () => {
  it.each(GUESTS)("%s ends and speaks as with the reference", async (name) => {
    const logs: string[] = [];
    const counts: number[][] = [];
    for (const fastTransitions of [true, false]) {
      // A clock of its own: some of these guests look at how long things take.
      const host = new Host({ memoryMiB: 64, fastTransitions, clock: new VirtualClock() });
      const guest = await host.guest(name, { vcpus: 2 });
      expect(await guest.end()).toBe(SHUTDOWN_poweroff);
      expect(guest.log).toContain(`PASS: ${name}`);
      logs.push(said(guest.log));
      const c = host.machine.xen.counters;
      counts.push([c.syscalls, c.pageFaults]);
      await host.close();
    }
    expect(logs[0]).toBe(logs[1]);
    expect(counts[0]).toEqual(counts[1]);
  });

  describe("random transitions leave the same registers, memory, virtual state and counts", () => {
    const host = new Host({ memoryMiB: 96, engine: "interpreter" });
    afterAll(() => host.close());
    it.each(["system calls", "irets", "hypercalls", "page faults", "ports", "iretq"] as const)("%s", async (kind) => {
      const guest = await host.guest("hello");
      const { cpu, mem } = host.machine;
      const { domain } = guest.running;
      const subject = new Subject(host.machine.xen, cpu, domain);
      const { v, stack, code, data } = subject;
      const { rnd, pick, any32 } = choices(1 + kind.length);
      expect(v.mm.newUserBaseptr(v.mm.kernelRoot)).toBe(0);
      const { userRoot } = v.mm;
      const PORTS = [
        [0xec],
        [0xed],
        [0x66, 0xed],
        [0xee],
        [0xef],
        [0x66, 0xef],
        [0xe4, 0x61],
        [0xe5, 0x42],
        [0xe5, 0x6d],
        [0x66, 0xe5, 0x6f],
        [0xe6, 0x70],
        [0xe7, 0x6e],
        [0xe6, 0x43],
        [0x48, 0xed],
        [0x66, 0x66, 0xed],
        [0xfa],
        [0xf4],
        [0x6c],
      ];
      // syscall; mov rax, [rbx]; mov [rbx], rax; iretq
      subject.program([0x0f, 0x05], [0x48, 0x8b, 0x03], [0x48, 0x89, 0x03], [0x48, 0xcf], ...PORTS);
      const info = v.events.infoMaddr;
      const gdt = subject.at(data + 0x2000);
      const pages = [subject.at(data), subject.at(data + 0x1000), gdt, info - (info & 4095)].map((p) =>
        mem.u8.subarray(p, p + 4096),
      );
      v.mm.gdtFrames[0] = gdt / 4096;
      const cases = 4000;
      for (let n = 0; n < cases; n++) {
        const user =
          kind === "system calls" ||
          (kind === "page faults" && rnd(2) === 0) ||
          ((kind === "ports" || kind === "iretq") && rnd(4) === 0);
        cpu.rflags = 2;
        v.kernelMode = !user;
        cpu.setMode(user ? USER_MODE : KERNEL_MODE);
        for (let r = 0; r < 16; r++) cpu.setReg(r, any32(), any32());
        setFlatKernel(cpu);
        if (user && rnd(2) === 0) {
          cpu.setSegment(CS, 0x33, 0, 0xffffffff, FLAT_CODE64);
          cpu.setSegment(SS, 0x2b, 0, 0xffffffff, FLAT_DATA);
        }
        cpu.setSegBase(FS, any32(), rnd(1000));
        cpu.setSegBase(GS, any32(), rnd(1000));
        cpu.rflags = any32() & 0x257ed7 & (rnd(8) === 0 ? -1 : ~0x10000);
        const t = v.traps;
        Object.assign(t, {
          gsKernelLo: any32(),
          gsKernelHi: rnd(1000),
          gsUserLo: any32(),
          gsUserHi: rnd(1000),
          iopl: pick(0, 1, 2, 3, 3),
          inNmi: rnd(20) === 0,
          syscallMasks: rnd(2) === 0,
          syscallCallback: rnd(20) === 0 ? 0 : code + rnd(4096),
          cr2Lo: any32(),
          cr2Hi: 0,
        });
        t.setTrap(14, pick(0, 4), 0xe033, rnd(20) === 0 ? 0 : code + rnd(4096));
        v.mm.userRoot = rnd(20) === 0 ? 0 : userRoot;
        domain.vmAssist = rnd(20) === 0 ? 1 << VMASST_TYPE_architectural_iopl : 0;
        mem.w8(info + vcpu_info.evtchn_upcall_pending, rnd(3) === 0 ? 1 : 0);
        mem.w8(info + vcpu_info.evtchn_upcall_mask, pick(0, 1, 1, 0, rnd(256)));
        const put = (a: number, b: number, c: number): void => {
          mem.w64(a, b, c);
        };
        // Descriptors: mostly Linux's user segments, sometimes others.
        put(
          gdt + 0x30,
          0xffff,
          rnd(8) === 0 ? pick(0x00affa00, 0x00cffb00, 0x00af7b00, 0x00bffb00, 0x00af9b00) : 0x00affb00,
        );
        put(gdt + 0x28, 0xffff, rnd(8) === 0 ? pick(0x00cff200, 0x00cf7300, 0x00cff100, 0x00cf9300) : 0x00cff300);
        const sp =
          rnd(20) === 0
            ? pick(-(2 ** 47) + 0x1000, stack - 0x1000, 0x1000, 2 ** 47 + 64, 0)
            : data + 0x100 + rnd(0x1e80) - pick(0, 0, rnd(16));
        const even = rnd(10) === 0 ? sp : sp - (sp & 7);
        t.kernelSpLo = lo(even);
        t.kernelSpHi = hi(even);
        if (!user) cpu.setReg(4, lo(even), hi(even));
        cpu.rip = code;
        if (kind === "irets") {
          const frame = cpu.peek(0, even);
          if (frame >= 0 && (even & 4095) <= 4096 - 72 && (even & 3) === 0 && even >= data) {
            const rip = code + rnd(100);
            put(frame, any32(), any32());
            put(frame + 8, any32(), any32());
            put(frame + 16, any32(), any32());
            put(frame + 24, pick(0, 0, 0x100, any32()), 0);
            put(frame + 32, lo(rip), rnd(10) === 0 ? any32() : hi(rip));
            put(frame + 40, rnd(10) === 0 ? any32() : pick(0x33, 0x33, 0xe033, 0xe030, 0xe030, 0x23, 0x10), rnd(4));
            put(frame + 48, any32() & 0x3f7fd7 & (rnd(8) === 0 ? -1 : ~0x100), 0);
            put(frame + 56, any32(), any32());
            put(frame + 64, rnd(10) === 0 ? rnd(65536) : pick(0x2b, 0xe02b, 0xe02b, 0x28, 0), 0);
          }
          cpu.setReg(0, 23, 0);
        } else if (kind === "hypercalls") {
          cpu.setReg(0, pick(3, 25, 25, 17, 17, 50), rnd(20) === 0 ? 1 : 0);
          cpu.setReg(7, pick(0, 0, 1, 2, 3, any32()), pick(0, 0, 7));
          if (rnd(4) !== 0) cpu.setReg(6, any32(), pick(0, 0x7fff, 0xffff8000));
        } else if (kind === "page faults") {
          cpu.rip = code + pick(16, 32);
          const va = pick(0x12345678, 0x7fff00001000, stack - 0x1000, -0x7000000000 + 0x123);
          cpu.setReg(3, lo(va), hi(va));
        } else if (kind === "ports") {
          cpu.rip = code + 64 + rnd(PORTS.length) * 16;
          cpu.setReg(2, pick(0x42, 0x61, 0x6d, 0x6e, 0x70, 0x71, 0xcf8, 0xcfc, any32()), pick(0, 7));
          domain.pciCf8 = any32();
          domain.cmosIndex = rnd(128);
        } else if (kind === "iretq") {
          cpu.rip = code + 48;
          cpu.setReg(4, lo(even), hi(even));
          const frame = cpu.peek(0, even);
          if (frame >= 0 && (even & 4095) <= 4096 - 40 && even >= data) {
            const rip = rnd(10) === 0 ? any32() * 65536 : code + rnd(100);
            put(frame, lo(rip), hi(rip));
            put(frame + 8, rnd(10) === 0 ? pick(0x10, 0xe030, 0x33, 0) : cpu.selector(CS), any32());
            put(frame + 16, any32() & (rnd(8) === 0 ? -1 : ~0x100), any32());
            put(frame + 24, any32(), any32());
            put(frame + 32, rnd(10) === 0 ? pick(0x2b, 0xe02b, 0, 0x18) : cpu.selector(SS), any32());
          }
        }
        const taken = subject.step(`case ${n}`, pages, () => {
          // Some of the data was read before.
          if (kind === "iretq" && n % 8 !== 0) cpu.translate(cpu.regVa(4), WRITE);
        });
        if (taken && kind !== "iretq") {
          const word = mem.r16(info);
          expect(word !== 0 && word < 0x100).toBe(false);
        }
      }
      // It was lent without a reference.
      v.mm.gdtFrames[0] = -1;
      // Neither all nor none: both ways were compared.
      expect(subject.taken).toBeGreaterThan(cases / 10);
      expect(subject.taken).toBeLessThan(cases);
    });
  });

  describe("random changes of page tables leave the same entries, references, types, registers and counts", () => {
    const host = new Host({ memoryMiB: 64, engine: "interpreter" });
    afterAll(() => host.close());
    it.each(["mmu_update", "update_va_mapping", "mmuext_op", "writes to tables"] as const)("%s", async (kind) => {
      const guest = await host.guest("hello");
      const { xen, cpu, mem } = host.machine;
      const ft = xen.frames;
      const { domain } = guest.running;
      const subject = new Subject(xen, cpu, domain);
      const { v, stack, code, data } = subject;
      const { rnd, pick, any32 } = choices(7 + kind.length);
      // The entries that are changed are those of the pages behind the two in use, and some with nothing yet.
      const entry = walkL1(ft, v.mm.kernelRoot, data + 0x1000);
      const table = Math.floor(entry / 4096);
      expect(ft.type[table]).toBe(PGT_l1_page_table);
      const firstSlot = (entry & 4095) >>> 3;
      const slots = Math.min(12, 512 - firstSlot);
      expect(slots).toBeGreaterThan(3);
      let window = stack;
      while (cpu.peek(0, window) !== table * 4096) window -= 4096;
      const frames = Array.from({ length: 12 }, (_, i) => domain.mm.mfnOf(domain.mm.p2mLength - 1 - i));
      const codeFrame = subject.at(code) / 4096;
      const at = subject.at(data);
      const instructions = [
        [0x0f, 0x05],
        [0x48, 0x87, 0x07],
        [0x48, 0x89, 0x07],
        [0x3e, 0x48, 0x87, 0x47, 0x08],
        [0xf0, 0x49, 0x87, 0x80, 0, 0, 0, 0],
        [0x4c, 0x89, 0x5e, 0xf8],
        [0xf0, 0x48, 0x89, 0x07],
        [0x89, 0x07],
        [0x48, 0x89, 0x04, 0x27],
        [0x48, 0x01, 0x07],
        [0x48, 0xc7, 0x07, 0, 0, 0, 0],
        [0x48, 0x0f, 0xb1, 0x17],
      ];
      subject.program(...instructions);

      const { first, ramLimit } = ft;
      const arrays = [ft.owner, ft.ref, ft.tcount, ft.stamp, ft.type, ft.flags, ft.linear].map(
        (a) =>
          new Uint8Array(
            a.buffer,
            a.byteOffset + first * a.BYTES_PER_ELEMENT,
            (ramLimit - first) * a.BYTES_PER_ELEMENT,
          ),
      );
      const entries = mem.u8.subarray(table * 4096, table * 4096 + 4096);
      const page = mem.u8.subarray(at, at + 4096);
      const clocks = mem.u8.subarray(FRAMES_CLOCK, FRAMES_CHANGES + 4);
      const info = v.events.infoMaddr;
      const watched = [...arrays, entries, page, clocks, mem.u8.subarray(info, info + vcpu_info.size)];
      /** An entry, mostly one that may be made. */
      const value = (): [number, number] => {
        if (rnd(12) === 0) return [0, 0];
        const mfn = pick(
          ...frames,
          ...frames,
          codeFrame,
          codeFrame,
          table,
          v.mm.kernelRoot,
          domain.mm.sharedInfo,
          ft.emptyRoot,
          pick(0, 5, first - 1, ft.ramLimit, ft.limit, 0xfffff, rnd(ft.limit)),
        );
        const bits = pick(0x67, 0x65, 0x63, 0x61, 0x167, 0x07, 0x05, 0x67, 0x65, 0x60, rnd(0x200));
        const top = pick(0, 0, 0, 0x80000000, 0x00100000, 0x40000000, 0x000fffff, 0x80100000);
        return [((mfn << 12) | bits) >>> 0, top];
      };
      const cases = 3000;
      for (let n = 0; n < cases; n++) {
        if (rnd(6) === 0) ft.flushTlb();
        cpu.rflags = 2;
        v.kernelMode = true;
        cpu.setMode(KERNEL_MODE);
        for (let r = 0; r < 16; r++) cpu.setReg(r, any32(), any32());
        setFlatKernel(cpu);
        cpu.rflags = any32() & 0x40ed7;
        domain.vmAssist = rnd(10) === 0 ? 0 : 1 << VMASST_TYPE_writable_pagetables;
        mem.w8(info + vcpu_info.evtchn_upcall_pending, rnd(10) === 0 ? 1 : 0);
        mem.w8(info + vcpu_info.evtchn_upcall_mask, rnd(2));
        v.traps.setTrap(14, 4, 0xe033, code);
        cpu.setReg(4, lo(data + 0x800), hi(data + 0x800));
        cpu.rip = code;
        const slot = firstSlot + rnd(slots);
        const [vlo, vhi] = value();
        const request = data + 0x100 + rnd(64) * 8;
        const where = at + (request & 4095);
        if (kind === "mmu_update") {
          cpu.setReg(0, __HYPERVISOR_mmu_update, 0);
          const ptr = rnd(12) === 0 ? pick(0, at + rnd(512) * 8, ramLimit * 4096) : table * 4096 + slot * 8;
          mem.w64(where, ((ptr & ~7) | pick(0, 0, 0, 2, 2, 3, 1, 4)) >>> 0, rnd(40) === 0 ? 1 : 0);
          mem.w64(where + 8, vlo, vhi);
          cpu.setReg(6, pick(1, 1, 1, 1, 1, 1, 0), 0);
          cpu.setReg(2, 0, 0);
          cpu.setReg(10, rnd(12) === 0 ? pick(0, 1, domain.domid, 0x7ff1, 0x17ff0) : DOMID_SELF, 0);
          const bad = rnd(30) === 0;
          cpu.setReg(7, bad ? any32() : lo(request), bad ? any32() : hi(request));
        } else if (kind === "update_va_mapping") {
          cpu.setReg(0, __HYPERVISOR_update_va_mapping, 0);
          const va =
            rnd(16) === 0 ? pick(0, 0x123456789000, -(2 ** 47) + 4096, window) : data + 0x1000 + rnd(slots) * 4096;
          cpu.setReg(7, lo(va), rnd(40) === 0 ? any32() : hi(va));
          cpu.setReg(6, vlo, vhi);
          cpu.setReg(2, pick(0, 0, 1, 2, 2, 3, 4, 5, 6, any32()), pick(0, 0, 0, 0, 0, 1));
        } else if (kind === "mmuext_op") {
          cpu.setReg(0, __HYPERVISOR_mmuext_op, 0);
          mem.w64(where, pick(6, 7, 8, 9, 10, 11, 12, 19), pick(0, 0, 7));
          const va = pick(data, 0x1000, -(2 ** 47) + 4096);
          mem.w64(where + 8, lo(va), rnd(8) === 0 ? any32() : hi(va));
          mem.w64(where + 16, 0, 0);
          cpu.setReg(7, lo(request), hi(request));
          cpu.setReg(6, pick(1, 1, 1, 0), 0);
          cpu.setReg(2, 0, 0);
          cpu.setReg(10, rnd(12) === 0 ? pick(0, 1) : DOMID_SELF, 0);
        } else {
          const which = 1 + rnd(instructions.length - 1);
          cpu.rip = code + which * 16;
          const off = which === 3 ? -8 : which === 5 ? 8 : 0;
          const va = window + slot * 8 + off + (rnd(20) === 0 ? 4 : 0);
          cpu.setReg(which === 4 ? 8 : which === 5 ? 6 : 7, lo(va), hi(va));
          for (const r of [0, 2, 11]) cpu.setReg(r, vlo, vhi);
          if (which === 8) cpu.setReg(4, 0, 0);
        }
        subject.step(`case ${n}`, watched, () => {
          // What a guest has just written is in the TLB; what a flush did is seen by what is not there any more.
          cpu.flushTlb();
          cpu.translate(data, WRITE);
        });
      }
      ft.audit();
      expect(subject.taken).toBeGreaterThan(cases / 10);
      expect(subject.taken).toBeLessThan(cases);
    });
  });
});
