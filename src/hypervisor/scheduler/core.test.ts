import { describe, expect, it } from "vitest";
import { EBUSY, EFAULT, EINVAL, ENOSPC, ENOSYS, EPERM, ESRCH } from "../../abi/errno.js";
import {
  SCHEDOP_block,
  SCHEDOP_pin_override,
  SCHEDOP_poll,
  SCHEDOP_remote_shutdown,
  SCHEDOP_shutdown,
  SCHEDOP_shutdown_code,
  SCHEDOP_watchdog,
  SCHEDOP_yield,
  SHUTDOWN_crash,
  SHUTDOWN_reboot,
  SHUTDOWN_suspend,
  SHUTDOWN_watchdog,
} from "../../abi/sched.js";
import { RUNSTATE_blocked, RUNSTATE_offline, RUNSTATE_runnable, RUNSTATE_running } from "../../abi/vcpu.js";
import { __HYPERVISOR_sched_op, __HYPERVISOR_sched_op_compat, shared_info } from "../../abi/xen.js";
import type { Domain } from "../domain.js";
import { TestMachine } from "../events/testing.js";
import type { Vcpu } from "../vcpu.js";
import { createScheduler, schedulerHandlers } from "./index.js";

const op = schedulerHandlers[__HYPERVISOR_sched_op];
const compat = schedulerHandlers[__HYPERVISOR_sched_op_compat];

function setup(vcpus = 1): { m: TestMachine; d: Domain; v: Vcpu; arg: number } {
  const m = new TestMachine();
  const d = m.addDomain(1, vcpus);
  m.start(d);
  m.run(0);
  const v = d.vcpus[0];
  if (v === undefined) throw new Error();
  return { m, d, v, arg: m.page() * 4096 };
}

describe("block", () => {
  it("opens the upcall mask and waits; an event wakes it", () => {
    const { m, d, v } = setup();
    const port = d.events.bindIpi(0);
    v.events.setMasked(true);
    expect(m.call(op, v, SCHEDOP_block)).toBe(0);
    m.run(1e6);
    expect([v.events.masked, v.sched.running, v.time.runstate.state]).toEqual([false, false, RUNSTATE_blocked]);
    expect(m.xen.scheduler.idle()).toBe(true);
    d.events.send(port);
    expect([v.sched.blocked, v.time.runstate.state]).toEqual([false, RUNSTATE_runnable]);
    m.run(1e6);
    expect(v.time.runstate.state).toBe(RUNSTATE_running);
  });
  it("returns at once when an event is pending, even a masked one of before", () => {
    const { m, d, v } = setup();
    const port = d.events.bindIpi(0);
    v.events.setMasked(true);
    d.events.send(port);
    m.call(op, v, SCHEDOP_block);
    expect(v.sched.blocked).toBe(false);
  });
  it("is not ended by a masked port", () => {
    const { m, d, v } = setup();
    const port = d.events.bindIpi(0);
    m.mem.w32(d.events.sharedInfo + shared_info.evtchn_mask, 1 << port);
    m.call(op, v, SCHEDOP_block);
    d.events.send(port);
    expect(v.sched.blocked).toBe(true);
    d.events.unmask(port);
    expect(v.sched.blocked).toBe(false);
  });
});

describe("poll", () => {
  const poll = (m: TestMachine, v: Vcpu, arg: number, ports: number[], timeout = 0): number => {
    m.mem.w64n(arg, arg + 64);
    m.mem.w32(arg + 8, ports.length);
    m.mem.w64n(arg + 16, timeout);
    ports.forEach((p, i) => m.mem.w32(arg + 64 + 4 * i, p));
    return m.call(op, v, SCHEDOP_poll, arg);
  };
  it("wakes on its port, masked and without an upcall", () => {
    const { m, d, v, arg } = setup();
    const [a, b] = [d.events.bindIpi(0), d.events.bindIpi(0)];
    m.mem.w32(d.events.sharedInfo + shared_info.evtchn_mask, -1);
    expect(poll(m, v, arg, [a])).toBe(0);
    expect([v.sched.blocked, d.events.pollers]).toEqual([true, 1]);
    d.events.send(b);
    expect(v.sched.blocked).toBe(true);
    d.events.send(a);
    expect([v.sched.blocked, d.events.pollers, v.events.pending]).toEqual([false, 0, false]);
  });
  it("of several ports wakes on any event of the domain", () => {
    const { m, d, v, arg } = setup();
    const [a, b, c] = [d.events.bindIpi(0), d.events.bindIpi(0), d.events.bindIpi(0)];
    m.mem.w32(d.events.sharedInfo + shared_info.evtchn_mask, -1);
    poll(m, v, arg, [a, b]);
    d.events.send(c);
    expect(v.sched.blocked).toBe(false);
  });
  it("returns at once for a pending port or a due upcall", () => {
    const { m, d, v, arg } = setup();
    const [a, b] = [d.events.bindIpi(0), d.events.bindIpi(0)];
    m.mem.w32(d.events.sharedInfo + shared_info.evtchn_mask, 1 << a);
    d.events.send(a);
    expect(poll(m, v, arg, [b, a])).toBe(0);
    expect(v.sched.blocked).toBe(false);
    d.events.send(b);
    expect(poll(m, v, arg, [])).toBe(0);
    expect(v.sched.blocked).toBe(false);
  });
  it("ends at its timeout, and an unmasked event ends it too", () => {
    const { m, d, v, arg } = setup();
    const [a, b] = [d.events.bindIpi(0), d.events.bindIpi(0)];
    m.mem.w32(d.events.sharedInfo + shared_info.evtchn_mask, 1 << a);
    poll(m, v, arg, [a], 5e6);
    m.run(4e6);
    expect(v.sched.blocked).toBe(true);
    m.run(5e6);
    expect([v.sched.blocked, v.sched.pollPort]).toEqual([false, 0]);
    poll(m, v, arg, [a], 50e6);
    d.events.send(b);
    expect(v.sched.blocked).toBe(false);
    expect(m.xen.timers.next()).not.toBe(50e6);
  });
  it("refuses more than 128 ports, bad ports and bad pointers", () => {
    const { m, v, arg } = setup();
    m.mem.w32(arg + 8, 129);
    expect(m.call(op, v, SCHEDOP_poll, arg)).toBe(-EINVAL);
    expect(poll(m, v, arg, [100000])).toBe(-EINVAL);
    m.mem.w64n(arg, 2 ** 40);
    expect(m.call(op, v, SCHEDOP_poll, arg)).toBe(-EFAULT);
    expect([m.call(op, v, SCHEDOP_poll, -1), v.sched.blocked]).toEqual([-EFAULT, false]);
  });
});

describe("shutdown", () => {
  it("stops all vCPUs with a byte of reason", () => {
    const { m, d, v, arg } = setup(2);
    m.mem.w32(arg, 0x100 + SHUTDOWN_suspend);
    expect(m.call(op, v, SCHEDOP_shutdown, arg)).toBe(0);
    expect([d.shutdownCode, d.shutDown]).toEqual([SHUTDOWN_suspend, true]);
    m.run(1e6);
    expect(d.vcpus.map((x) => [x.sched.running, x.time.runstate.state])).toEqual([
      [false, RUNSTATE_offline],
      [false, RUNSTATE_offline],
    ]);
    d.shuttingDown = false;
    m.xen.scheduler.domainRunnableChanged(d);
    m.run(2e6);
    expect(d.vcpus.some((x) => x.sched.running)).toBe(true);
  });
  it("shutdown_code is latched and goes before the later reason", () => {
    const { m, d, v, arg } = setup();
    m.mem.w32(arg, SHUTDOWN_crash);
    expect(m.call(op, v, SCHEDOP_shutdown_code, arg)).toBe(0);
    m.mem.w32(arg, SHUTDOWN_reboot);
    expect(m.call(op, v, SCHEDOP_shutdown_code, arg)).toBe(0);
    expect(d.shuttingDown).toBe(false);
    m.call(op, v, SCHEDOP_shutdown, arg);
    expect(d.shutdownCode).toBe(SHUTDOWN_crash);
  });
  it("remote_shutdown is for the privileged", () => {
    const { m, d, v, arg } = setup();
    const d0 = m.addDomain(0, 1);
    m.mem.w16(arg, 1);
    m.mem.w32(arg + 4, SHUTDOWN_reboot);
    expect(m.call(op, v, SCHEDOP_remote_shutdown, arg)).toBe(-EPERM);
    const v0 = d0.vcpus[0] ?? v;
    expect(m.call(op, v0, SCHEDOP_remote_shutdown, arg)).toBe(0);
    expect(d.shutdownCode).toBe(SHUTDOWN_reboot);
    m.mem.w16(arg, 9);
    expect(m.call(op, v0, SCHEDOP_remote_shutdown, arg)).toBe(-ESRCH);
  });
  it("compat forms: yield, block, shutdown with the reason in the register", () => {
    const { m, d, v } = setup();
    expect(m.call(compat, v, SCHEDOP_yield)).toBe(0);
    expect(m.call(compat, v, SCHEDOP_poll)).toBe(-ENOSYS);
    expect(m.call(op, v, 99)).toBe(-ENOSYS);
    expect(m.call(compat, v, SCHEDOP_shutdown, SHUTDOWN_reboot)).toBe(0);
    expect(d.shutdownCode).toBe(SHUTDOWN_reboot);
  });
});

describe("watchdog", () => {
  const dog = (m: TestMachine, v: Vcpu, arg: number, id: number, timeout: number): number => {
    m.mem.w32(arg, id);
    m.mem.w32(arg + 4, timeout);
    return m.call(op, v, SCHEDOP_watchdog, arg);
  };
  it("two timers; poked they wait anew, forgotten they end the domain", () => {
    const { m, d, v, arg } = setup();
    expect(dog(m, v, arg, 0, 2)).toBe(1);
    expect(dog(m, v, arg, 0, 9)).toBe(2);
    expect(dog(m, v, arg, 0, 9)).toBe(-ENOSPC);
    expect(dog(m, v, arg, 3, 9)).toBe(-EINVAL);
    m.run(1e9, 1e7);
    expect(dog(m, v, arg, 1, 2)).toBe(0);
    m.run(2.5e9, 1e7);
    expect(d.shuttingDown).toBe(false);
    expect(dog(m, v, arg, 2, 0)).toBe(0);
    expect(dog(m, v, arg, 2, 5)).toBe(-EINVAL);
    m.run(3e9, 1e7);
    expect(d.shutdownCode).toBe(SHUTDOWN_watchdog);
  });
});

describe("pausing and affinity", () => {
  it("a paused vCPU or domain does not run until all pauses are undone", () => {
    const { m, d, v } = setup();
    const s = m.xen.scheduler;
    s.pause(v.sched);
    s.pause(v.sched);
    m.run(1e6);
    expect([v.sched.running, v.time.runstate.state]).toEqual([false, RUNSTATE_offline]);
    s.unpause(v.sched);
    d.pauseCount = 1;
    s.unpause(v.sched);
    m.run(2e6);
    expect(v.sched.running).toBe(false);
    d.pauseCount = 0;
    s.domainRunnableChanged(d);
    m.run(3e6);
    expect(v.sched.running).toBe(true);
  });
  it("hard affinity moves a running vCPU", () => {
    const m = new TestMachine(4);
    const d = m.addDomain(1, 1);
    const v = d.vcpus[0];
    if (v === undefined) throw new Error();
    m.start(d);
    m.run(0);
    for (const cpu of [3, 1, 2]) {
      expect(m.xen.scheduler.setAffinity(v.sched, 1 << cpu)).toBe(0);
      m.run(m.clock.now() + 2e6);
      expect(m.xen.scheduler.current(cpu)).toBe(v.sched);
    }
    expect(m.xen.scheduler.setAffinity(v.sched, 0x100)).toBe(-EINVAL);
  });
  it("pin_override is domain 0's, nests not, and is undone by a negative pCPU", () => {
    const m = new TestMachine(2);
    const d0 = m.addDomain(0, 1);
    const d = m.addDomain(1, 1);
    const arg = m.page() * 4096;
    const pin = (v: Vcpu | undefined, cpu: number): number => {
      if (v === undefined) throw new Error();
      m.mem.w32(arg, cpu);
      return m.call(op, v, SCHEDOP_pin_override, arg);
    };
    expect(pin(d.vcpus[0], 1)).toBe(-EPERM);
    expect(pin(d0.vcpus[0], -1)).toBe(-EINVAL);
    expect(pin(d0.vcpus[0], 1)).toBe(0);
    expect(d0.vcpus[0]?.sched.processor).toBe(1);
    expect(pin(d0.vcpus[0], 0)).toBe(-EBUSY);
    expect(pin(d0.vcpus[0], 7)).toBe(-EINVAL);
    expect(pin(d0.vcpus[0], -1)).toBe(0);
  });
  it("a destroyed vCPU leaves its pCPU and all queues", () => {
    const { m, d, v } = setup(3);
    for (const x of d.vcpus) m.xen.scheduler.destroyVcpu(x.sched);
    m.run(1e6);
    expect([m.xen.scheduler.current(0), v.sched.running, m.xen.scheduler.idle()]).toEqual([null, false, true]);
  });
});

it("an unknown scheduler is refused by name", () => {
  expect(() => createScheduler(new TestMachine().xen, "nope")).toThrow(/unknown scheduler "nope"/);
});
