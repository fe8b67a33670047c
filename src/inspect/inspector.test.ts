// The views of a machine with guests of ours on it: what they show is what the hypervisor has.
import { readFileSync } from "node:fs";
import { beforeEach, describe, expect, test } from "vitest";
import { VirtualClock } from "../machine/clock.js";
import { Machine } from "../toolstack/machine.js";
import { InspectError, INSPECT_METHODS } from "./api.js";
import { Inspector } from "./inspector.js";

const image = (name: string): Uint8Array => readFileSync(new URL(`../../guests/images/${name}.elf`, import.meta.url));

describe("the inspector", () => {
  let machine: Machine;
  let inspect: Inspector;
  beforeEach(() => {
    machine = new Machine({ memoryMiB: 64, clock: new VirtualClock(), pcpus: 2 });
    inspect = new Inspector(machine, {
      hostNow: () => 0,
      later: (fn, ms) => {
        const id = setTimeout(fn, ms);
        return () => clearTimeout(id);
      },
    });
  });
  const boot = async (name: string, run = true): Promise<number> => {
    const d = await machine.createDomain({ name, kernel: image(name), memoryMiB: 8 });
    if (run) for (let i = 0; i < 200 && !d.ended && machine.runSlice(20) !== Infinity; i++);
    return d.domain.domid;
  };

  test("everything it answers is plain JSON", async () => {
    const domid = await boot("console-echo");
    const params: Record<string, readonly unknown[]> = {
      log: [-1],
      scheduler: [0],
      grants: [domid],
      store: [-1],
      writeStore: ["/tool/test", "1"],
      removeStore: ["/tool/test"],
      memoryMap: [domid],
      walk: [domid, 0, "0", "kernel"],
      page: [domid, 0],
      frame: [machine.xen.domains.get(domid)?.mm.mfnOf(0)],
      trace: [{ after: -1, limit: 10 }],
      cpu: [domid, 0],
      memory: [domid, 0, "0", 16],
      control: [domid, "stop"],
      breakpoints: [domid, []],
    };
    for (const name of INSPECT_METHODS) {
      if (name === "step") continue;
      const method = inspect[name] as (...p: readonly unknown[]) => Promise<unknown>;
      const value = await method.apply(inspect, [...(params[name] ?? [])]);
      expect(JSON.parse(JSON.stringify(value ?? null)), name).toEqual(value ?? null);
    }
  });

  test("machine: domains with their states and ends", async () => {
    const domid = await boot("hello");
    const m = await inspect.machine();
    const d = m.domains.find((x) => x.domid === domid);
    expect(d).toMatchObject({ name: "hello", ended: true, shutdownCode: 0, native: false });
    expect(m.domains[0]).toMatchObject({ domid: 0, native: true });
    expect(m.totalPages - m.freePages).toBeGreaterThan(8 * 256);
  });

  test("log: what a guest says by Xen's console, numbered, and once", async () => {
    const domid = await boot("hello");
    const all = await inspect.log(-1);
    expect(all.lines.filter((l) => l.domid === domid).map((l) => l.text)).toContain(`(d${domid}) PASS: hello`);
    expect((await inspect.log(all.next)).lines).toEqual([]);
  });

  test("the trace is off until somebody asks, and off again after a while", async () => {
    expect(machine.xen.trace.on).toBe(false);
    let now = 0;
    const eager = new Inspector(machine, { hostNow: () => now, later: () => () => {} });
    await eager.trace({ after: -1, limit: 1 });
    expect(machine.xen.trace.on).toBe(true);
    await boot("time");
    now = 60_000;
    for (let i = 0; i < 3; i++) await boot("time");
    expect(machine.xen.trace.on).toBe(false);
  });

  test("trace: by kind, domain and text, after a number", async () => {
    await inspect.trace({ after: -1, limit: 1 });
    const domid = await boot("hello");
    const calls = await inspect.trace({ after: -1, limit: 100, kinds: ["hypercall"], domid });
    expect(calls.lines.map((l) => l.name)).toEqual([
      "console_io.write",
      "console_io.write",
      "console_io.write",
      "sched_op.shutdown",
    ]);
    expect((await inspect.trace({ after: calls.next, limit: 100 })).lines).toEqual([]);
    expect((await inspect.trace({ after: -1, limit: 100, text: "SHUTDOWN", kinds: ["hypercall"] })).lines).toHaveLength(
      1,
    );
  });

  test("hypercalls: counts are the hypervisor's, times are measured", async () => {
    await inspect.hypercalls();
    await boot("hello");
    const v = await inspect.hypercalls();
    expect(v.total).toBe(machine.xen.counters.hypercalls);
    expect(v.rows.find((r) => r.name === "console_io")?.count).toBe(3);
    expect(v.rows.find((r) => r.name === "console_io.write")).toMatchObject({ count: 3, timed: 3, errors: 0 });
  });

  test("events: both ends of a channel name each other, with what it is for, and count what was raised", async () => {
    const domid = await boot("console-echo");
    const v = await inspect.events();
    const mine = v.domains.find((d) => d.domid === domid)?.ports.find((p) => p.use === "console");
    const theirs = v.domains[0]?.ports.find((p) => p.remoteDomid === domid && p.value === mine?.port);
    expect(mine).toMatchObject({ state: "interdomain", remoteDomid: 0, value: theirs?.port });
    expect(theirs?.raised).toBeGreaterThan(0);
  });

  test("scheduler: turns do not overlap on a pCPU", async () => {
    await inspect.scheduler(0);
    await boot("spin", false);
    await boot("spin", false);
    await boot("spin", false);
    for (let i = 0; i < 10; i++) machine.runSlice(20);
    const v = await inspect.scheduler(0);
    expect(new Set(v.turns.map((t) => t.domid)).size).toBe(3);
    for (let p = 0; p < 2; p++) {
      const turns = v.turns.filter((t) => t.pcpu === p);
      for (let i = 1; i < turns.length; i++) {
        expect((turns[i]?.from ?? 0) - (turns[i - 1]?.to ?? 0)).toBeGreaterThanOrEqual(0);
      }
    }
    expect(v.vcpus[0]?.policy["credit"]).toBeTypeOf("number");
  });

  test("rings: the console's producer counts the characters that were written", async () => {
    const domid = await boot("console-echo");
    const console = (await inspect.rings()).find((d) => d.domid === domid && d.kind === "console");
    const out = console?.rings.find((r) => r.name === "out");
    expect(out?.producer).toBe("Say something (quit ends):\n".length);
    expect(out?.consumer).toBe(out?.producer);
  });

  test("store: unchanged is said, a change shows, a removal too", async () => {
    const first = await inspect.store(-1);
    expect((await inspect.store(first.generation)).unchanged).toBe(true);
    await inspect.writeStore("/tool/x", "1");
    const second = await inspect.store(first.generation);
    expect(second.nodes.find((n) => n.path === "/tool/x")).toMatchObject({ value: "1" });
    await inspect.removeStore("/tool/x");
    const third = await inspect.store(second.generation);
    expect(third.unchanged).toBe(false);
    expect(third.nodes.some((n) => n.path === "/tool/x")).toBe(false);
    await expect(inspect.removeStore("/tool/x")).rejects.toThrow("/tool/x is not there");
  });

  test("memory: the runs of a map add up, and the walk ends where the processor's does", async () => {
    const domid = await boot("console-echo");
    const map = await inspect.memoryMap(domid);
    let total = 0;
    for (let i = 1; i < map.types.length; i += 2) total += map.types[i] as number;
    expect(total).toBe(map.pages);
    const cpu = await inspect.cpu(domid, 0);
    const walk = await inspect.walk(domid, 0, cpu.rip, "kernel");
    expect(walk.steps.map((s) => s.level)).toEqual([4, 3, 2, 1]);
    expect(walk.target?.owner).toBe(domid);
    const frame = await inspect.frame(walk.target?.mfn ?? -1);
    const at = (walk.target?.maddr ?? 0) % 4096;
    expect(frame.bytes.slice(at * 2, at * 2 + 32)).toBe(cpu.code.slice(0, 32));
    await expect(inspect.walk(domid, 0, "8000000000000000", "kernel")).rejects.toThrow(/not canonical/);
    await expect(inspect.frame(0)).rejects.toThrow(/no memory of a domain/);
  });

  test("what does not exist is refused in words", async () => {
    await expect(inspect.grants(77)).rejects.toThrow(InspectError);
    await expect(inspect.cpu(77, 0)).rejects.toThrow("there is no domain 77");
    await expect(inspect.control(0, "stop")).rejects.toThrow(/domain 0 is this process/);
  });

  test("step: one instruction at a time, and only of a stopped domain", async () => {
    const domid = await boot("spin", false);
    for (let i = 0; i < 5; i++) machine.runSlice(20);
    await inspect.control(domid, "stop");
    machine.runSlice(5);
    const before = machine.xen.counters.instructions;
    const run = setInterval(() => machine.runSlice(5), 1);
    try {
      await inspect.step(domid, 0, 3);
    } finally {
      clearInterval(run);
    }
    expect(machine.xen.counters.instructions - before).toBe(3);
    await inspect.control(domid, "detach");
    expect(machine.xen.domains.get(domid)?.pauseCount).toBe(0);
    await expect(inspect.control(domid, "continue")).rejects.toThrow(/no debugger/);
  });

  test("breakpoints: the domain stops before the instruction, every time it comes by", async () => {
    const domid = await boot("spin", false);
    for (let i = 0; i < 5; i++) machine.runSlice(20);
    const { rip } = await inspect.cpu(domid, 0);
    await inspect.breakpoints(domid, [rip]);
    for (let n = 0; n < 2; n++) {
      for (let i = 0; i < 20 && !(await inspect.cpu(domid, 0)).stopped; i++) machine.runSlice(5);
      const c = await inspect.cpu(domid, 0);
      expect(c).toMatchObject({ rip, stopped: true, breakpoints: [rip] });
      await inspect.control(domid, "continue");
    }
  });
});
