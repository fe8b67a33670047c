import { describe, expect, it } from "vitest";
import { SHUTDOWN_crash, SHUTDOWN_poweroff } from "../abi/sched.js";
import * as X from "../abi/xen.js";
import { Exit } from "../machine/cpu/exits.js";
import { getGuestContext, initVcpuPv64, setGuestContext } from "./guest-context.js";
import { KCODE, KDATA, KSTACK, TestPv, UCODE, USTACK, type MockCpu } from "./traps/testing.js";
import type { Vcpu } from "./vcpu.js";

/** Bring the test vCPU up and let it run. */
function start(m: TestPv): void {
  m.xen.vcpuUp(m.v);
  m.domain.unpause();
}
/** A run that ends in a hypercall. */
const hyper =
  (number: number, ...args: number[]) =>
  (cpu: MockCpu): 3 => {
    cpu.setReg(0, number, 0);
    args.forEach((a, i) => cpu.setRegVa([7, 6, 2][i] as number, a));
    return Exit.SYSCALL;
  };

describe("the run loop", () => {
  it("with nothing to run sleeps until host input", () => {
    const m = new TestPv();
    expect(m.xen.runSlice(1)).toBe(Infinity);
  });
  it("tells who sleeps of all that there may be to run, but not of what a slice does itself", () => {
    const m = new TestPv();
    start(m);
    m.v.time.setPeriod(0, 0);
    let stirs = 0;
    m.xen.onStir = () => stirs++;
    m.cpu.script = [hyper(X.__HYPERVISOR_sched_op, 1, 0)];
    const set = (deadline: number): void =>
      m.xen.timers.set(
        m.xen.timers.create(() => {}),
        deadline,
      );
    const after = (work: () => void): number => {
      stirs = 0;
      work();
      return stirs;
    };
    expect(after(() => void m.xen.runSlice(50))).toBe(0);
    const now = m.clock.now();
    expect(after(() => m.xen.post(() => {}))).toBe(1);
    expect(after(() => set(now + 2e6))).toBe(1);
    expect(after(() => set(now + 3e6))).toBe(0);
    expect(after(() => set(now + 1e6))).toBe(1);
    expect(m.v.sched.blocked).toBe(true);
    expect(after(() => m.v.events.markPending())).toBeGreaterThan(0);
  });
  it("runs a vCPU until it shuts down, and tells", () => {
    const m = new TestPv();
    const seen: number[] = [];
    m.xen.onShutdown((_d, code) => seen.push(code));
    m.poke64(KDATA, SHUTDOWN_poweroff);
    m.cpu.script = [hyper(X.__HYPERVISOR_sched_op, 2, KDATA)];
    start(m);
    m.v.time.setPeriod(0, 0);
    expect(m.xen.runSlice(50)).toBe(Infinity);
    expect(seen).toEqual([SHUTDOWN_poweroff]);
    expect(m.domain.shutDown).toBe(true);
  });
  it("block waits for an event; virtual time jumps to the timer that brings it", () => {
    const m = new TestPv();
    m.v.traps.eventCallback = KCODE + 0x100;
    m.v.time.setPeriod(0, 0);
    let at = 0;
    const timer = m.xen.timers.create(() => m.v.events.markPending());
    m.xen.timers.set(timer, 5e6);
    m.poke64(KDATA, 0);
    m.cpu.script = [
      hyper(X.__HYPERVISOR_sched_op, 1, 0),
      (cpu) => {
        at = m.clock.now();
        expect(cpu.rip).toBe(KCODE + 0x100);
        return hyper(X.__HYPERVISOR_sched_op, 2, KDATA)(cpu);
      },
    ];
    start(m);
    m.xen.runSlice(50);
    expect(at).toBeGreaterThanOrEqual(5e6);
    expect(m.domain.shutDown).toBe(true);
  });
  it("a busy vCPU does not starve another on the same pCPU", () => {
    const m = new TestPv(1, 2);
    const w = m.domain.vcpus[1] as Vcpu;
    w.initialised = true;
    const ran = new Set<Vcpu>();
    const spin = (): 1 => {
      if (m.xen.current !== null) ran.add(m.xen.current);
      m.cpu.retired += 200_000;
      return Exit.BUDGET;
    };
    m.cpu.script = Array.from({ length: 400 }, () => spin);
    start(m);
    m.xen.vcpuUp(w);
    let n = 0;
    while (ran.size < 2 && n++ < 390) m.xen.runSlice(0);
    expect(ran.size).toBe(2);
  });
  it("a paused domain does not run", () => {
    const m = new TestPv();
    start(m);
    m.domain.pause();
    const runs = m.xen.counters.runs;
    m.xen.runSlice(0);
    expect(m.xen.counters.runs).toBe(runs);
  });
  it("a crash shuts down with SHUTDOWN_crash and dumps registers", () => {
    const m = new TestPv();
    m.cpu.script = [
      (cpu) => {
        cpu.exit.vector = 13;
        cpu.exit.errorCode = 8;
        return Exit.EXCEPTION;
      },
    ];
    start(m);
    m.v.time.setPeriod(0, 0);
    m.xen.runSlice(10);
    expect(m.domain.shutdownCode).toBe(SHUTDOWN_crash);
    expect(m.lines.some((l) => l.includes("rax:"))).toBe(true);
    expect(m.lines.some((l) => l.includes("Guest stack trace"))).toBe(true);
  });
  it("posted functions run between grains", () => {
    const m = new TestPv();
    let n = 0;
    m.xen.post(() => n++);
    m.xen.runSlice(1);
    expect(n).toBe(1);
  });
});

describe("life of domains", () => {
  it("destroying gives everything back", () => {
    const m = new TestPv();
    const d = m.xen.createDomain({ uuid: "", name: "x", maxVcpus: 1, maxPages: 16 });
    const free = m.xen.frames.freeFrames;
    d.mm.populate(0, 8);
    expect(m.xen.frames.freeFrames).toBe(free - 8);
    m.xen.destroyDomain(d);
    expect(m.xen.domains.has(d.domid)).toBe(false);
    expect(m.xen.frames.freeFrames).toBeGreaterThanOrEqual(free);
  });
  it("domain numbers are chosen in order and not reused at once", () => {
    const m = new TestPv();
    const a = m.xen.createDomain({ uuid: "", name: "a", maxVcpus: 1, maxPages: 1 });
    m.xen.destroyDomain(a);
    const b = m.xen.createDomain({ uuid: "", name: "b", maxVcpus: 1, maxPages: 1 });
    expect(b.domid).toBe(a.domid + 1);
  });
  it("a native domain 0 has no vCPUs and talks to guests by events", () => {
    const m = new TestPv();
    const dom0 = m.xen.createDomain({
      domid: 0,
      uuid: "",
      name: "Domain-0",
      maxVcpus: 1,
      maxPages: 0,
      privileged: true,
      native: true,
    });
    expect(dom0.vcpus).toHaveLength(0);
    m.v.traps.eventCallback = KCODE + 0x100;
    let got = 0;
    const port = dom0.events.allocUnboundHost(m.domain.domid, () => got++);
    const local = m.domain.events.bindInterdomain(0, port);
    m.xen.runSlice(1);
    got = 0;
    m.poke64(KDATA, local);
    m.cpu.script = [
      hyper(X.__HYPERVISOR_event_channel_op, 4, KDATA),
      (cpu) => {
        expect(got).toBe(1);
        m.poke64(KDATA, 0);
        return hyper(X.__HYPERVISOR_sched_op, 2, KDATA)(cpu);
      },
    ];
    start(m);
    m.xen.runSlice(10);
    expect(got).toBe(1);
  });
  it("every vcpu_info starts masked", () => {
    const m = new TestPv();
    for (let i = 1; i < 32; i++) expect(m.mem.r8(m.domain.events.sharedInfo + i * 64 + 1)).toBe(1);
  });
});

describe("vCPU contexts", () => {
  it("entry state of a PV64 domain", () => {
    const m = new TestPv();
    initVcpuPv64(m.v, { rip: KCODE, rsp: KSTACK, rsi: KDATA });
    expect([m.cpu.rip, m.cpu.regVa(4), m.cpu.regVa(6)]).toEqual([KCODE, KSTACK, KDATA]);
    expect([0, 1, 2, 3, 4, 5].map((s) => m.cpu.selector(s))).toEqual([0, 0xe033, 0xe02b, 0, 0, 0]);
    expect(m.cpu.rflags).toBe(0x202);
    expect(m.v.up).toBe(true);
  });
  it("get after set gives back what was set", () => {
    const m = new TestPv();
    m.v.mm.userRoot = 0;
    m.cpu.setReg(15, 0x15, 0x51);
    m.v.traps.setTrap(14, 4, 0x10, KCODE + 3);
    m.v.traps.eventCallback = KCODE + 4;
    m.v.traps.kernelSpLo = 0x8000;
    const bytes = getGuestContext(m.v);
    m.cpu.setReg(15, 0, 0);
    m.v.traps.clearTraps();
    m.v.traps.eventCallback = 0;
    expect(setGuestContext(m.v, bytes)).toBe(0);
    expect([m.cpu.regLo(15), m.cpu.regHi(15)]).toEqual([0x15, 0x51]);
    expect(m.v.traps.address[14]).toBe(KCODE + 3);
    expect(m.v.traps.eventCallback).toBe(KCODE + 4);
    const again = getGuestContext(m.v);
    expect(setGuestContext(m.v, again)).toBe(0);
    expect(getGuestContext(m.v)).toEqual(again);
  });
  it("a non-canonical address is −EINVAL", () => {
    const m = new TestPv();
    m.v.mm.userRoot = 0;
    const bytes = getGuestContext(m.v);
    new DataView(bytes.buffer).setUint32(648 + 4, 0x8000, true);
    expect(setGuestContext(m.v, bytes)).toBe(-22);
    expect(UCODE + USTACK).toBeGreaterThan(0);
  });
});
