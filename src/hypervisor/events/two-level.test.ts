import { describe, expect, it } from "vitest";
import { shared_info, vcpu_info } from "../../abi/xen.js";
import type { Domain } from "../domain.js";
import { TestMachine } from "./testing.js";

function setup(): { m: TestMachine; d: Domain; sh: number; port: number } {
  const m = new TestMachine();
  const d = m.addDomain(1, 2);
  const port = d.events.bindIpi(1);
  return { m, d, sh: d.events.sharedInfo, port };
}
const bit = (m: TestMachine, base: number, n: number): number => (m.mem.r32(base + (n >>> 5) * 4) >>> (n & 31)) & 1;

describe("2-level events", () => {
  it("a send sets the pending bit, the selector bit and the upcall of the bound vCPU", () => {
    const { m, d, sh, port } = setup();
    expect(d.events.send(port)).toBe(0);
    expect(bit(m, sh + shared_info.evtchn_pending, port)).toBe(1);
    const v1 = sh + vcpu_info.size;
    expect(m.mem.r32(v1 + vcpu_info.evtchn_pending_sel)).toBe(1 << (port >>> 6));
    expect(d.vcpus[1]?.events.pending).toBe(true);
    expect(d.vcpus[0]?.events.pending).toBe(false);
  });
  it("ports above 2047 use the selector's upper half", () => {
    const m = new TestMachine();
    const d = m.addDomain(1, 1);
    const ev = d.events;
    const v = d.vcpus[0];
    if (v === undefined) throw new Error();
    ev.ops.setPending(v.events, 4095);
    expect(m.mem.r32(ev.sharedInfo + vcpu_info.evtchn_pending_sel)).toBe(0);
    expect(m.mem.r32(ev.sharedInfo + vcpu_info.evtchn_pending_sel + 4)).toBe(0x80000000);
  });
  it("a masked port becomes pending without an upcall, and unmask delivers it", () => {
    const { m, d, sh, port } = setup();
    m.mem.w32(sh + shared_info.evtchn_mask, 1 << port);
    d.events.send(port);
    expect(bit(m, sh + shared_info.evtchn_pending, port)).toBe(1);
    expect(d.vcpus[1]?.events.pending).toBe(false);
    expect(d.events.unmask(port)).toBe(0);
    expect(bit(m, sh + shared_info.evtchn_mask, port)).toBe(0);
    expect(d.vcpus[1]?.events.pending).toBe(true);
  });
  it("unmask of a port that is not masked changes nothing", () => {
    const { m, d, sh, port } = setup();
    m.mem.w32(sh + shared_info.evtchn_pending, 1 << port);
    d.events.unmask(port);
    expect(d.vcpus[1]?.events.pending).toBe(false);
  });
  it("an event already pending changes nothing", () => {
    const { m, d, sh, port } = setup();
    m.mem.w32(sh + shared_info.evtchn_pending, 1 << port);
    d.events.send(port);
    expect(d.vcpus[1]?.events.pending).toBe(false);
  });
  it("a selector bit already set marks no new upcall", () => {
    const { m, d, sh, port } = setup();
    m.mem.w32(sh + vcpu_info.size + vcpu_info.evtchn_pending_sel, 1);
    d.events.send(port);
    expect(bit(m, sh + shared_info.evtchn_pending, port)).toBe(1);
    expect(d.vcpus[1]?.events.pending).toBe(false);
  });
  it("closing clears the pending bit", () => {
    const { m, d, sh, port } = setup();
    d.events.send(port);
    d.events.close(port);
    expect(bit(m, sh + shared_info.evtchn_pending, port)).toBe(0);
  });
});
