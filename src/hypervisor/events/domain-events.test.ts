import { describe, expect, it } from "vitest";
import { EEXIST, EFAULT, EINVAL, ENOENT, ENOSPC, ENOSYS, ENXIO, EPERM, ESRCH } from "../../abi/errno.js";
import {
  EVTCHNOP_alloc_unbound,
  EVTCHNOP_bind_interdomain,
  EVTCHNOP_bind_virq,
  EVTCHNOP_close,
  EVTCHNOP_init_control,
  EVTCHNOP_reset,
  EVTCHNOP_send,
  EVTCHNOP_set_priority,
  EVTCHNOP_status,
  evtchn_init_control,
  EVTCHNSTAT_closed,
  EVTCHNSTAT_interdomain,
  EVTCHNSTAT_unbound,
} from "../../abi/event_channel.js";
import {
  __HYPERVISOR_event_channel_op,
  __HYPERVISOR_event_channel_op_compat,
  DOMID_SELF,
  vcpu_info,
  VIRQ_ARCH_0,
  VIRQ_CONSOLE,
  VIRQ_TIMER,
} from "../../abi/xen.js";
import type { Vcpu } from "../vcpu.js";
import { ECS_INTERDOMAIN, ECS_UNBOUND } from "./ops.js";
import { eventHandlers } from "./handlers.js";
import { TestMachine } from "./testing.js";

const op = eventHandlers[__HYPERVISOR_event_channel_op];
const compat = eventHandlers[__HYPERVISOR_event_channel_op_compat];
const first = (vs: readonly Vcpu[]): Vcpu => {
  const v = vs[0];
  if (v === undefined) throw new Error("no vCPU");
  return v;
};

describe("ports", () => {
  it("are given out from 1, lowest first, up to the domain's limit", () => {
    const m = new TestMachine();
    const d = m.addDomain(1, 1);
    const ports = Array.from({ length: 1023 }, () => d.events.bindIpi(0));
    expect(ports).toEqual(Array.from({ length: 1023 }, (_, i) => i + 1));
    expect(d.events.bindIpi(0)).toBe(-ENOSPC);
    d.events.close(500);
    expect(d.events.bindIpi(0)).toBe(500);
  });
  it("that do not exist are −EINVAL, free ones are closed", () => {
    const d = new TestMachine().addDomain(1, 1);
    expect(d.events.send(100000)).toBe(-EINVAL);
    expect(d.events.status(100000)).toBe(-EINVAL);
    expect(d.events.status(5)).toMatchObject({ status: EVTCHNSTAT_closed });
    expect(d.events.send(5)).toBe(-EINVAL);
    expect(d.events.close(5)).toBe(-EINVAL);
    expect(d.events.close(0)).toBe(-EINVAL);
    expect(d.events.unmask(5)).toBe(0);
  });
});

describe("interdomain channels", () => {
  it("join an unbound port and start with an event at the binding side", () => {
    const m = new TestMachine();
    const a = m.addDomain(1, 1);
    const b = m.addDomain(2, 1);
    const pa = a.events.allocUnbound(2);
    expect(a.events.send(pa)).toBe(0); // dropped
    expect(a.events.status(pa)).toEqual({ status: EVTCHNSTAT_unbound, vcpu: 0, dom: 2, value: 0 });
    const pb = b.events.bindInterdomain(1, pa);
    expect(b.events.status(pb)).toEqual({ status: EVTCHNSTAT_interdomain, vcpu: 0, dom: 1, value: pa });
    expect(a.events.status(pa)).toEqual({ status: EVTCHNSTAT_interdomain, vcpu: 0, dom: 2, value: pb });
    expect(first(b.vcpus).events.pending).toBe(true);
    expect(first(a.vcpus).events.pending).toBe(false);
    b.events.send(pb);
    expect(first(a.vcpus).events.pending).toBe(true);
  });
  it("refuse a wrong domain, a bound port, and another's offer", () => {
    const m = new TestMachine();
    const a = m.addDomain(1, 1);
    const b = m.addDomain(2, 1);
    const c = m.addDomain(3, 1);
    const pa = a.events.allocUnbound(2);
    expect(b.events.bindInterdomain(9, pa)).toBe(-ESRCH);
    expect(c.events.bindInterdomain(1, pa)).toBe(-EINVAL);
    expect(b.events.bindInterdomain(1, pa + 1)).toBe(-EINVAL);
    expect(b.events.bindInterdomain(1, pa)).toBeGreaterThan(0);
    expect(b.events.bindInterdomain(1, pa)).toBe(-EINVAL);
    expect(b.events.activePorts).toBe(1);
  });
  it("can loop back", () => {
    const m = new TestMachine();
    const a = m.addDomain(1, 1);
    const p = a.events.allocUnbound(DOMID_SELF);
    const q = a.events.bindInterdomain(DOMID_SELF, p);
    expect(a.events.close(p)).toBe(0);
    expect(a.events.state[q]).toBe(ECS_UNBOUND);
  });
  it("closing one end leaves the other unbound, waiting for the same domain", () => {
    const m = new TestMachine();
    const a = m.addDomain(1, 1);
    const b = m.addDomain(2, 1);
    const pa = a.events.allocUnbound(2);
    const pb = b.events.bindInterdomain(1, pa);
    b.events.close(pb);
    expect(a.events.status(pa)).toEqual({ status: EVTCHNSTAT_unbound, vcpu: 0, dom: 2, value: 0 });
    expect(b.events.bindInterdomain(1, pa)).toBe(pb);
  });
  it("a domain's death unbinds its peers", () => {
    const m = new TestMachine();
    const a = m.addDomain(1, 1);
    const b = m.addDomain(2, 1);
    const pa = a.events.allocUnbound(2);
    b.events.bindInterdomain(1, pa);
    b.dying = true;
    b.events.destroy();
    expect(a.events.state[pa]).toBe(ECS_UNBOUND);
    expect(b.events.activePorts).toBe(0);
    expect(b.events.bindIpi(0)).toBe(-EINVAL);
  });
});

describe("VIRQs", () => {
  it("per-vCPU ones bind once on each vCPU and do not move", () => {
    const d = new TestMachine().addDomain(1, 2);
    const p0 = d.events.bindVirq(VIRQ_TIMER, 0);
    const p1 = d.events.bindVirq(VIRQ_TIMER, 1);
    expect(p1).toBe(p0 + 1);
    expect(d.events.bindVirq(VIRQ_TIMER, 1)).toBe(-EEXIST);
    expect(d.events.bindVirq(VIRQ_TIMER, 2)).toBe(-ENOENT);
    expect(d.events.bindVirq(24, 0)).toBe(-EINVAL);
    expect(d.events.bindVcpu(p0, 1)).toBe(-EINVAL);
    d.vcpus[1]?.events.sendVirq(VIRQ_TIMER);
    expect(d.vcpus.map((v) => v.events.pending)).toEqual([false, true]);
    d.events.close(p1);
    expect(d.events.bindVirq(VIRQ_TIMER, 1)).toBe(p1);
  });
  it("global ones bind on vCPU 0 only and may be moved", () => {
    const d = new TestMachine().addDomain(1, 2);
    expect(d.events.bindVirq(VIRQ_CONSOLE, 1)).toBe(-EINVAL);
    expect(d.events.bindVirq(VIRQ_ARCH_0, 1)).toBe(-EINVAL);
    const p = d.events.bindVirq(VIRQ_CONSOLE, 0);
    expect(d.events.bindVcpu(p, 1)).toBe(0);
    d.events.sendGlobalVirq(VIRQ_CONSOLE);
    expect(d.vcpus.map((v) => v.events.pending)).toEqual([false, true]);
    d.events.close(p);
    expect(d.events.bindVirq(VIRQ_CONSOLE, 0)).toBe(p);
  });
});

describe("IPIs, PIRQs and bind_vcpu", () => {
  it("an IPI goes to its vCPU for good", () => {
    const d = new TestMachine().addDomain(1, 2);
    expect(d.events.bindIpi(2)).toBe(-ENOENT);
    const p = d.events.bindIpi(1);
    expect(d.events.bindVcpu(p, 0)).toBe(-EINVAL);
    d.events.send(p);
    expect(d.vcpus[1]?.events.pending).toBe(true);
  });
  it("bind_vcpu checks vCPU before port", () => {
    const d = new TestMachine().addDomain(1, 2);
    expect(d.events.bindVcpu(9999, 2)).toBe(-ENOENT);
    expect(d.events.bindVcpu(9999, 1)).toBe(-EINVAL);
    expect(d.events.bindVcpu(3, 1)).toBe(-EINVAL);
  });
  it("a PIRQ needs to exist, permission, and to be free", () => {
    const d = new TestMachine().addDomain(1, 1);
    expect(d.events.bindPirq(1000)).toBe(-EINVAL);
    expect(d.events.bindPirq(5)).toBe(-EPERM);
    d.events.pirqPermitted.add(5);
    const p = d.events.bindPirq(5);
    expect(d.events.bindPirq(5)).toBe(-EEXIST);
    d.events.sendPirq(5);
    expect(first(d.vcpus).events.pending).toBe(true);
    d.events.close(p);
    expect(d.events.bindPirq(5)).toBe(p);
  });
});

describe("host ports", () => {
  it("queue their callback once, and run it only when drained", () => {
    const m = new TestMachine();
    const dom0 = m.addDomain(0, 0, true);
    const g = m.addDomain(1, 1);
    const offer = g.events.allocUnbound(0);
    let n = 0;
    const port = dom0.events.bindInterdomainHost(g, offer, () => n++);
    expect(dom0.events.hostPending).toBe(true); // a fresh binding starts with an event
    dom0.events.drainHost();
    expect(n).toBe(1);
    g.events.send(offer);
    g.events.send(offer);
    expect(n).toBe(1);
    expect(dom0.events.drainHost()).toBe(1);
    expect(n).toBe(2);
    expect(dom0.events.sendHost(port)).toBe(0);
    expect(first(g.vcpus).events.pending).toBe(true);
    expect(m.attention).toBe(2);
  });
  it("events raised from a callback wait for the next drain", () => {
    const m = new TestMachine();
    const dom0 = m.addDomain(0, 0, true);
    const g = m.addDomain(1, 1);
    const offer = g.events.allocUnbound(0);
    let n = 0;
    dom0.events.bindInterdomainHost(1, offer, () => {
      n++;
      g.events.send(offer);
    });
    expect(dom0.events.drainHost()).toBe(1);
    expect([n, dom0.events.hostPending]).toEqual([1, true]);
  });
  it("closed meanwhile are not called", () => {
    const m = new TestMachine();
    const dom0 = m.addDomain(0, 0, true);
    m.addDomain(1, 1);
    const p = dom0.events.allocUnboundHost(1, () => {
      throw new Error("called");
    });
    const q = m.xen.domains.get(1)?.events.bindInterdomain(0, p) ?? -1;
    m.xen.domains.get(1)?.events.send(q);
    dom0.events.closeHost(p);
    dom0.events.drainHost();
  });
  it("a callback that throws does not lose the others", () => {
    const m = new TestMachine();
    const dom0 = m.addDomain(0, 0, true);
    let n = 0;
    dom0.events.bindVirqHost(3, () => {
      throw new Error("mine");
    });
    dom0.events.bindVirqHost(8, () => n++);
    dom0.events.sendGlobalVirq(3);
    dom0.events.sendGlobalVirq(8);
    expect(() => dom0.events.drainHost()).toThrow("mine");
    dom0.events.drainHost();
    expect(n).toBe(1);
  });
});

describe("registered vcpu_info", () => {
  it("moves the state, marks everything pending, and only once", () => {
    const m = new TestMachine();
    const d = m.addDomain(1, 1);
    const v = first(d.vcpus);
    v.events.setMasked(true);
    const page = m.page(1);
    expect(v.events.register(page, 0, 4096 - 63)).toBe(-EINVAL);
    expect(v.events.register(page, 0, 4)).toBe(-ENXIO);
    expect(v.events.register(12, 0, 0)).toBe(-EINVAL);
    expect(v.events.register(page, 0, 256)).toBe(0);
    expect(v.events.infoMaddr).toBe(page * 4096 + 256);
    expect([v.events.pending, v.events.masked]).toEqual([true, true]);
    expect(m.mem.r32(v.events.infoMaddr + vcpu_info.evtchn_pending_sel + 4)).toBe(0xffffffff);
    expect(v.events.register(page, 0, 256)).toBe(-EINVAL);
    d.events.destroy();
    expect(m.heldOn(page)).toBe(0);
  });
});

describe("event_channel_op", () => {
  it("writes results back and refuses bad pointers and commands", () => {
    const m = new TestMachine();
    const d = m.addDomain(1, 1);
    m.addDomain(2, 1);
    const v = first(d.vcpus);
    const arg = m.page() * 4096;
    m.mem.w16(arg, DOMID_SELF);
    m.mem.w16(arg + 2, 2);
    expect(m.call(op, v, EVTCHNOP_alloc_unbound, arg)).toBe(0);
    expect(m.mem.r32(arg + 4)).toBe(1);
    m.mem.w16(arg, 2);
    expect(m.call(op, v, EVTCHNOP_alloc_unbound, arg)).toBe(-EPERM);
    m.mem.w16(arg, 7);
    expect(m.call(op, v, EVTCHNOP_alloc_unbound, arg)).toBe(-ESRCH);
    expect(m.call(op, v, EVTCHNOP_send, -4096)).toBe(-EFAULT);
    expect(m.call(op, v, 99, arg)).toBe(-ENOSYS);
    m.mem.w32(arg, VIRQ_TIMER);
    m.mem.w32(arg + 4, 0);
    expect(m.call(op, v, EVTCHNOP_bind_virq, arg)).toBe(0);
    expect(m.mem.r32(arg + 8)).toBe(2);
    m.mem.w32(arg, 2);
    expect(m.call(op, v, EVTCHNOP_close, arg)).toBe(0);
    m.mem.w32(arg, 1);
    m.mem.w32(arg + 4, 1);
    expect(m.call(op, v, EVTCHNOP_set_priority, arg)).toBe(-ENOSYS); // 2-level has none
  });
  it("init_control answers with 17 link bits", () => {
    const m = new TestMachine();
    const v = first(m.addDomain(1, 1).vcpus);
    const arg = m.page() * 4096;
    m.mem.w32(arg, m.page(1));
    expect(m.call(op, v, EVTCHNOP_init_control, arg)).toBe(0);
    expect(m.mem.r8(arg + evtchn_init_control.link_bits)).toBe(17);
  });
  it("status is for oneself, or for the privileged", () => {
    const m = new TestMachine();
    const d = m.addDomain(1, 1);
    const d0 = m.addDomain(0, 1);
    d.events.allocUnbound(0);
    const arg = m.page() * 4096;
    m.mem.w16(arg, 1);
    m.mem.w32(arg + 4, 1);
    expect(m.call(op, first(d0.vcpus), EVTCHNOP_status, arg)).toBe(0);
    expect([m.mem.r32(arg + 8), m.mem.r32(arg + 12), m.mem.r16(arg + 16)]).toEqual([EVTCHNSTAT_unbound, 0, 0]);
    const e = m.addDomain(3, 1);
    expect(m.call(op, first(e.vcpus), EVTCHNOP_status, arg)).toBe(-EPERM);
  });
  it("reset of another domain needs it paused", () => {
    const m = new TestMachine();
    const d = m.addDomain(1, 1);
    const d0 = m.addDomain(0, 1);
    const arg = m.page() * 4096;
    m.mem.w16(arg, 1);
    expect(m.call(op, first(d0.vcpus), EVTCHNOP_reset, arg)).toBe(-EINVAL);
    d.pauseCount = 1;
    expect(m.call(op, first(d0.vcpus), EVTCHNOP_reset, arg)).toBe(0);
  });
  it("compat form takes command and arguments in one structure, and no newer commands", () => {
    const m = new TestMachine();
    const a = m.addDomain(1, 1);
    const b = m.addDomain(2, 1);
    const pa = a.events.allocUnbound(2);
    const arg = m.page() * 4096;
    m.mem.w32(arg, EVTCHNOP_bind_interdomain);
    m.mem.w16(arg + 4, 1);
    m.mem.w32(arg + 8, pa);
    expect(m.call(compat, first(b.vcpus), arg)).toBe(0);
    expect(b.events.state[m.mem.r32(arg + 12)]).toBe(ECS_INTERDOMAIN);
    m.mem.w32(arg, EVTCHNOP_init_control);
    expect(m.call(compat, first(b.vcpus), arg)).toBe(-ENOSYS);
  });
});
