import { describe, expect, it } from "vitest";
import type { TraceRecord } from "../hypervisor/trace.js";
import { formatTrace, parseTraceList, traceWanted, TraceListError } from "./trace-format.js";

const record = (r: Partial<TraceRecord>): TraceRecord => ({
  kind: "hypercall",
  time: 1_234_567_890,
  domid: 1,
  vcpu: 0,
  name: "mmu_update",
  args: {},
  ...r,
});

describe("a trace line", () => {
  it.each<[string, Partial<TraceRecord>, string]>([
    [
      "names a hypercall's arguments and its result",
      { args: { a0: 0x7ffe10, a1: 1, a2: 0, a3: 0x7ff0, a4: 5 }, result: 0 },
      "[    1.234567890] d1v0 hypercall mmu_update(req=0x7ffe10, count=1, done=0x0, dom=self) = 0",
    ],
    [
      "leaves out the command that is part of the name, and names an error",
      { name: "event_channel_op.send", args: { a0: 4, a1: -4096 }, result: -22 },
      "[    1.234567890] d1v0 hypercall event_channel_op.send(arg=0xfffffffffffff000) = -EINVAL",
    ],
    [
      "marks the entries of a multicall",
      { name: "stack_switch", args: { a0: 57387, a1: -1024, multicall: true }, result: 0 },
      "[    1.234567890] d1v0 hypercall stack_switch(ss=0xe02b, esp=0xfffffffffffffc00) = 0 [multicall]",
    ],
    [
      "shows a hypercall without arguments",
      { name: "iret", args: { a0: 1 } },
      "[    1.234567890] d1v0 hypercall iret()",
    ],
    [
      "shows ports as numbers",
      { kind: "event", name: "send", args: { port: 12345 }, result: 0, time: 5 },
      "[    0.000000005] d1v0 event send(port=12345) = 0",
    ],
    [
      "names grant statuses",
      { kind: "grant", name: "map_grant_ref", args: { dom: 1, ref: 8, flags: 2 }, result: -3 },
      "[    1.234567890] d1v0 grant map_grant_ref(dom=1, ref=8, flags=0x2) = GNTST_bad_gntref",
    ],
    [
      "names extended MMU operations",
      { kind: "pagetable", name: "mmuext_op", args: { cmd: 5, arg1: 0x1234, arg2: 0 }, result: 0 },
      "[    1.234567890] d1v0 pagetable mmuext_op(cmd=MMUEXT_NEW_BASEPTR, arg1=4660, arg2=0) = 0",
    ],
    [
      "shows traps with their address",
      { kind: "trap", name: "#PF", args: { rip: -2130706432, error: 2, kernel: true } },
      "[    1.234567890] d1v0 trap #PF(rip=0xffffffff81000000, error=0x2, kernel=yes)",
    ],
    [
      "shows who runs next and for how long",
      {
        kind: "sched",
        domid: 0x7fff,
        vcpu: 0,
        name: "switch",
        args: { pcpu: 0, prev: "d1v0", next: "idle", slice: -1 },
      },
      "[    1.234567890] idle sched switch(pcpu=0, prev=d1v0, next=idle, slice=none)",
    ],
    [
      "belongs to a domain where there is no vCPU",
      { kind: "domain", vcpu: -1, name: "shutdown", args: { code: 3 } },
      "[    1.234567890] d1 domain shutdown(code=3)",
    ],
  ])("%s", (_, r, line) => {
    expect(formatTrace(record(r))).toBe(line);
  });
});

describe("a trace filter", () => {
  const wanted = (list: string, r: Partial<TraceRecord>, domains: string[] = []): boolean =>
    traceWanted(parseTraceList(list, domains), record(r), (id) => (id === 1 ? "web" : undefined));

  it("passes the kinds that it lists", () => {
    expect(wanted("hypercall,grant", {})).toBe(true);
    expect(wanted("event,grant", {})).toBe(false);
    expect(wanted("all", { kind: "sched" })).toBe(true);
  });
  it("passes one name of a kind, with or without the sub-operation", () => {
    expect(wanted("hypercall:mmu_update", {})).toBe(true);
    expect(wanted("hypercall:sched_op", { name: "sched_op.block" })).toBe(true);
    expect(wanted("hypercall:sched_op.yield", { name: "sched_op.block" })).toBe(false);
    expect(wanted("hypercall,hypercall:iret", {})).toBe(true);
  });
  it("passes the domains that it lists, by number or name", () => {
    expect(wanted("all", {}, ["1"])).toBe(true);
    expect(wanted("all", {}, ["web"])).toBe(true);
    expect(wanted("all", {}, ["2", "db"])).toBe(false);
  });
  it("refuses an unknown kind and says which there are", () => {
    expect(() => parseTraceList("hypercalls")).toThrow(TraceListError);
    expect(() => parseTraceList("hypercalls")).toThrow(/unknown trace kind "hypercalls" \(known: hypercall, event/);
    expect(() => parseTraceList(",")).toThrow(/empty trace list/);
  });
});
