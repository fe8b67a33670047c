import { describe, expect, it, vi } from "vitest";
import { EFAULT, EINVAL, ENOENT, ENOSYS, ETIME } from "../../abi/errno.js";
import { SHUTDOWN_poweroff } from "../../abi/sched.js";
import {
  RUNSTATE_blocked,
  RUNSTATE_offline,
  RUNSTATE_runnable,
  RUNSTATE_running,
  VCPU_SSHOTTMR_future,
  VCPUOP_down,
  VCPUOP_get_physid,
  VCPUOP_get_runstate_info,
  VCPUOP_initialise,
  VCPUOP_is_up,
  VCPUOP_register_runstate_memory_area,
  VCPUOP_register_vcpu_info,
  VCPUOP_register_vcpu_time_memory_area,
  VCPUOP_send_nmi,
  VCPUOP_set_periodic_timer,
  VCPUOP_set_singleshot_timer,
  VCPUOP_stop_periodic_timer,
  VCPUOP_stop_singleshot_timer,
  VCPUOP_up,
} from "../../abi/vcpu.js";
import {
  __HYPERVISOR_set_timer_op,
  __HYPERVISOR_vcpu_op,
  shared_info,
  vcpu_info,
  vcpu_time_info,
  VIRQ_TIMER,
  VMASST_TYPE_runstate_update_flag,
  XEN_PVCLOCK_TSC_STABLE_BIT,
} from "../../abi/xen.js";
import type { Domain } from "../domain.js";
import { TestMachine } from "../events/testing.js";
import type { Vcpu } from "../vcpu.js";
import { toVa } from "./guest-area.js";
import { Runstate } from "./runstate.js";
import { timeScale } from "./vcpu-time.js";

vi.mock("../guest-context.js", () => ({ setGuestContext: () => 0 }));
const { timeHandlers } = await import("./handlers.js");
const vcpuOp = timeHandlers[__HYPERVISOR_vcpu_op];
const setTimer = timeHandlers[__HYPERVISOR_set_timer_op];

function setup(vcpus = 2): { m: TestMachine; d: Domain; v: Vcpu; w: Vcpu; arg: number } {
  const m = new TestMachine();
  const d = m.addDomain(1, vcpus);
  m.start(d);
  for (const v of d.vcpus) d.events.bindVirq(VIRQ_TIMER, v.id);
  const [v, w] = d.vcpus;
  if (v === undefined) throw new Error();
  m.xen.current = v;
  return { m, d, v, w: w ?? v, arg: m.page() * 4096 };
}
/** Clear the pending events of a vCPU, and say whether there was one. */
function took(m: TestMachine, v: Vcpu): boolean {
  const was = v.events.pending;
  v.events.setPendingFlag(false);
  m.mem.w64(v.events.infoMaddr + vcpu_info.evtchn_pending_sel, 0, 0);
  m.mem.w64(v.domain.events.sharedInfo + shared_info.evtchn_pending, 0, 0);
  return was;
}
const write64 = (m: TestMachine, at: number, v: number): void => m.mem.w64n(at, v);

describe("time records", () => {
  it("scale ticks to nanoseconds in normal form", () => {
    expect(timeScale(2e9)).toEqual({ mul: 0x80000000, shift: 0 });
    expect(timeScale(3e9)).toEqual({ mul: Math.floor((1e9 * 2 ** 32) / 1.5e9), shift: -1 });
    expect(timeScale(4e8)).toEqual({ mul: Math.floor((1e9 * 2 ** 32) / 1.6e9), shift: 2 });
  });
  it("give system time from the TSC, exactly, with an even version", () => {
    const { m, v } = setup();
    m.clock.idleUntil(123_456_789);
    v.time.update(m.clock.now());
    const t = v.events.infoMaddr + vcpu_info.time;
    expect(m.mem.r32(t + vcpu_time_info.version) % 2).toBe(0);
    expect(m.mem.r64(t + vcpu_time_info.system_time)).toBe(123_456_789);
    expect(m.mem.r64(t + vcpu_time_info.tsc_timestamp)).toBe(246_913_578);
    expect(m.mem.r8(t + vcpu_time_info.flags)).toBe(XEN_PVCLOCK_TSC_STABLE_BIT);
    const later = 987_654_321;
    const delta = later * 2 - m.mem.r64(t + vcpu_time_info.tsc_timestamp);
    const mul = m.mem.r32(t + vcpu_time_info.tsc_to_system_mul);
    expect(Number((BigInt(delta) * BigInt(mul)) >> 32n) + 123_456_789).toBe(later);
    v.time.update(m.clock.now());
    expect(m.mem.r32(t + vcpu_time_info.version)).toBe(4);
  });
  it("are copied to the registered secondary area while the vCPU is loaded, else when it is loaded", () => {
    const { m, v, w, arg } = setup();
    const area = m.page() * 4096 + 64;
    write64(m, arg, area);
    expect(m.call(vcpuOp, v, VCPUOP_register_vcpu_time_memory_area, 0, arg)).toBe(0);
    expect(m.mem.read(area, 32)).toEqual(m.mem.read(v.events.infoMaddr + vcpu_info.time, 32));
    write64(m, arg, area + 64);
    expect(m.call(vcpuOp, v, VCPUOP_register_vcpu_time_memory_area, 1, arg)).toBe(0);
    expect(m.mem.r32(area + 64)).toBe(0);
    expect(w.time.areasStale).toBe(true);
    m.xen.current = w;
    w.time.afterLoad(m.clock.now());
    expect(m.mem.r32(area + 64)).toBeGreaterThan(0);
    expect(w.time.areasStale).toBe(false);
  });
  it("not mapped where the guest is now are written at its return to the kernel", () => {
    const { m, v, arg } = setup();
    const frame = m.page();
    write64(m, arg, frame * 4096);
    m.call(vcpuOp, v, VCPUOP_register_vcpu_time_memory_area, 0, arg);
    m.unmapped.add(frame);
    m.clock.idleUntil(5e9);
    v.time.update(5e9);
    expect(v.time.areasStale).toBe(true);
    m.unmapped.delete(frame);
    v.time.kernelEntered();
    expect(v.time.areasStale).toBe(false);
    expect(m.mem.r64(frame * 4096 + vcpu_time_info.system_time)).toBe(5e9);
  });
  it("the wall clock is the epoch at system time zero plus the domain's offset", () => {
    const { m, d } = setup();
    const s = d.events.sharedInfo;
    d.time.setOffset(3600);
    expect(m.mem.r32(s + shared_info.wc_sec)).toBe(1_700_003_600);
    expect(Math.abs(m.mem.r32(s + shared_info.wc_nsec) - 123_456_768)).toBeLessThan(512);
    expect([m.mem.r32(s + shared_info.wc_sec_hi), m.mem.r32(s + shared_info.wc_version)]).toEqual([0, 2]);
    d.time.setOffset(2 ** 32);
    expect(m.mem.r32(s + shared_info.wc_sec_hi)).toBe(1);
    d.time.setOffset(-1_700_000_001);
    expect(m.mem.r32(s + shared_info.wc_sec_hi)).toBe(0xffffffff);
  });
});

describe("timers of a vCPU", () => {
  it("set_timer_op raises VIRQ_TIMER at the deadline; zero stops; the past fires now; far away is 100 ms", () => {
    const { m, v } = setup();
    m.call(setTimer, v, 5e6);
    m.run(4e6);
    expect(took(m, v)).toBe(false);
    m.run(5e6);
    expect(took(m, v)).toBe(true);
    m.call(setTimer, v, 6e6);
    m.call(setTimer, v, 0);
    m.run(10e6);
    expect(took(m, v)).toBe(false);
    m.call(setTimer, v, 1e6);
    expect(took(m, v)).toBe(true);
    m.call(setTimer, v, 2 ** 63 + 5);
    m.run(109e6);
    expect(took(m, v)).toBe(false);
    m.run(110e6);
    expect(took(m, v)).toBe(true);
  });
  it("a single-shot timer fires once; only for oneself; −ETIME for a past time that must be future", () => {
    const { m, v, arg } = setup();
    m.run(1e6);
    write64(m, arg, 3e6);
    expect(m.call(vcpuOp, v, VCPUOP_set_singleshot_timer, 0, arg)).toBe(0);
    expect(m.call(vcpuOp, v, VCPUOP_set_singleshot_timer, 1, arg)).toBe(-EINVAL);
    expect(m.call(vcpuOp, v, VCPUOP_stop_singleshot_timer, 1)).toBe(-EINVAL);
    m.run(3e6);
    expect(took(m, v)).toBe(true);
    m.run(20e6);
    expect(took(m, v)).toBe(false);
    expect(m.call(vcpuOp, v, VCPUOP_set_singleshot_timer, 0, arg)).toBe(0); // past: at once
    expect(took(m, v)).toBe(true);
    m.mem.w32(arg + 8, VCPU_SSHOTTMR_future);
    expect(m.call(vcpuOp, v, VCPUOP_set_singleshot_timer, 0, arg)).toBe(-ETIME);
    write64(m, arg, 30e6);
    expect(m.call(vcpuOp, v, VCPUOP_set_singleshot_timer, 0, arg)).toBe(0);
    expect(m.call(vcpuOp, v, VCPUOP_stop_singleshot_timer, 0)).toBe(0);
    m.run(40e6);
    expect(took(m, v)).toBe(false);
    expect(m.call(vcpuOp, v, VCPUOP_set_singleshot_timer, 0, -1)).toBe(-EFAULT);
    // A past time takes the place of one that was set before.
    write64(m, arg, 50e6);
    m.mem.w32(arg + 8, 0);
    m.call(vcpuOp, v, VCPUOP_set_singleshot_timer, 0, arg);
    write64(m, arg, 1e6);
    m.call(vcpuOp, v, VCPUOP_set_singleshot_timer, 0, arg);
    expect(took(m, v)).toBe(true);
    m.run(60e6);
    expect(took(m, v)).toBe(false);
  });
  it("the periodic timer ticks while the vCPU runs, and not while it is blocked", () => {
    const { m, v, arg } = setup(1);
    write64(m, arg, 999_999);
    expect(m.call(vcpuOp, v, VCPUOP_set_periodic_timer, 0, arg)).toBe(-EINVAL);
    write64(m, arg, 10e6);
    expect(m.call(vcpuOp, v, VCPUOP_set_periodic_timer, 0, arg)).toBe(0);
    let ticks = 0;
    m.run(100e6 + 1, 1e6, () => {
      if (took(m, v)) ticks++;
    });
    expect(ticks).toBe(10);
    m.xen.scheduler.block(v.sched);
    m.run(200e6);
    expect([took(m, v), v.time.runstate.state]).toEqual([false, RUNSTATE_blocked]);
    m.xen.scheduler.unblock(v.sched);
    m.run(201e6);
    expect(took(m, v)).toBe(true); // made up for, once
    expect(m.call(vcpuOp, v, VCPUOP_stop_periodic_timer, 0)).toBe(0);
    m.run(300e6);
    expect(took(m, v)).toBe(false);
  });
});

describe("run states", () => {
  it("the counters add up to the time since creation", () => {
    const r = new Runstate(100);
    r.change(RUNSTATE_running, 200);
    r.change(RUNSTATE_running, 250);
    r.change(RUNSTATE_blocked, 500);
    r.change(RUNSTATE_runnable, 600);
    expect([r.spent(RUNSTATE_running, 700), r.spent(RUNSTATE_runnable, 700)]).toEqual([300, 100]);
    expect([r.spent(RUNSTATE_blocked, 700), r.spent(RUNSTATE_offline, 700)]).toEqual([100, 100]);
  });
  it("get_runstate_info counts up to now", () => {
    const { m, v, w, arg } = setup();
    m.run(0);
    m.clock.idleUntil(7e6);
    expect(m.call(vcpuOp, v, VCPUOP_get_runstate_info, 0, arg)).toBe(0);
    expect([m.mem.r32(arg), m.mem.r64(arg + 8), m.mem.r64(arg + 16)]).toEqual([RUNSTATE_running, 0, 7e6]);
    expect(m.call(vcpuOp, v, VCPUOP_get_runstate_info, 1, arg)).toBe(0);
    expect([m.mem.r32(arg), m.mem.r64(arg + 24)]).toEqual([RUNSTATE_runnable, 7e6]);
    expect(w.sched.running).toBe(false);
    expect(m.call(vcpuOp, v, VCPUOP_get_runstate_info, 0, -8)).toBe(-EFAULT);
  });
  it("the registered area shows the state at each change, also across a page end", () => {
    const { m, v, arg } = setup(1);
    m.run(0);
    m.page();
    const area = (m.page() + 1) * 4096 - 20;
    write64(m, arg, area);
    expect(m.call(vcpuOp, v, VCPUOP_register_runstate_memory_area, 0, arg)).toBe(0);
    expect(m.mem.r32(area)).toBe(RUNSTATE_running);
    m.clock.idleUntil(2e6);
    v.events.setMasked(false);
    m.xen.scheduler.block(v.sched);
    m.xen.scheduler.schedule(0, m.clock.now());
    v.time.beforeSave();
    expect([m.mem.r32(area), m.mem.r64(area + 8), m.mem.r64(area + 16)]).toEqual([RUNSTATE_blocked, 2e6, 2e6]);
    m.clock.idleUntil(3e6);
    m.xen.scheduler.unblock(v.sched);
    m.xen.scheduler.schedule(0, m.clock.now());
    v.time.afterLoad(m.clock.now());
    expect([m.mem.r32(area), m.mem.r64(area + 8), m.mem.r64(area + 32)]).toEqual([RUNSTATE_running, 3e6, 1e6]);
  });
  it("with the assist, XEN_RUNSTATE_UPDATE is set during the write and clear after it", () => {
    const { m, d, v, arg } = setup(1);
    d.vmAssist = 1 << VMASST_TYPE_runstate_update_flag;
    m.run(0);
    const area = m.page() * 4096;
    const seen: number[] = [];
    const write = m.mem.write.bind(m.mem);
    vi.spyOn(m.mem, "write").mockImplementation((a: number, b: Uint8Array) => {
      write(a, b);
      seen.push(m.mem.r8(area + 15) >> 7);
    });
    write64(m, arg, area);
    m.call(vcpuOp, v, VCPUOP_register_runstate_memory_area, 0, arg);
    expect(seen).toEqual([1, 0]);
  });
  it("an area in the hypervisor's range or not canonical is −EFAULT", () => {
    const { m, v, arg } = setup();
    m.mem.w64(arg, 0, 0xffff8000);
    expect(m.call(vcpuOp, v, VCPUOP_register_runstate_memory_area, 0, arg)).toBe(-EFAULT);
    m.mem.w64(arg, 0, 0x12345678);
    expect(m.call(vcpuOp, v, VCPUOP_register_runstate_memory_area, 0, arg)).toBe(-EFAULT);
    expect(toVa(0x12345678, 0xffffffff)).toBe(-4294967296 + 0x12345678);
  });
});

describe("vcpu_op", () => {
  it("a vCPU that does not exist is −ENOENT, whatever the command", () => {
    const { m, v } = setup();
    expect(m.call(vcpuOp, v, VCPUOP_is_up, 2)).toBe(-ENOENT);
    expect(m.call(vcpuOp, v, 99, 2)).toBe(-ENOENT);
    expect(m.call(vcpuOp, v, 99, 1)).toBe(-ENOSYS);
  });
  it("up needs initialise; down of the last one powers the domain off", () => {
    const { m, d, v, w, arg } = setup();
    w.up = false;
    w.initialised = false;
    expect(m.call(vcpuOp, v, VCPUOP_is_up, 1)).toBe(0);
    expect(m.call(vcpuOp, v, VCPUOP_up, 1)).toBe(-EINVAL);
    expect(m.call(vcpuOp, v, VCPUOP_initialise, 1, arg)).toBe(0);
    expect(m.call(vcpuOp, v, VCPUOP_initialise, 1, -5)).toBe(-EFAULT);
    w.initialised = true;
    expect(m.call(vcpuOp, v, VCPUOP_initialise, 1, arg)).toBe(-17);
    expect(m.call(vcpuOp, v, VCPUOP_up, 1)).toBe(0);
    expect(m.call(vcpuOp, v, VCPUOP_is_up, 1)).toBe(1);
    expect(m.call(vcpuOp, v, VCPUOP_down, 0)).toBe(0);
    expect(v.up).toBe(false);
    expect(d.shuttingDown).toBe(false);
    expect(m.call(vcpuOp, w, VCPUOP_down, 1)).toBe(0);
    expect([d.shutdownCode, w.up]).toEqual([SHUTDOWN_poweroff, true]);
  });
  it("register_vcpu_info takes a page of the domain, once, and renews the time record there", () => {
    const { m, v, arg } = setup();
    m.clock.idleUntil(42);
    const page = m.page(1);
    write64(m, arg, page);
    m.mem.w32(arg + 8, 256);
    expect(m.call(vcpuOp, v, VCPUOP_register_vcpu_info, 0, arg)).toBe(0);
    expect(m.mem.r64(page * 4096 + 256 + vcpu_info.time + vcpu_time_info.system_time)).toBe(42);
    expect(m.call(vcpuOp, v, VCPUOP_register_vcpu_info, 0, arg)).toBe(-EINVAL);
    expect(m.call(vcpuOp, v, VCPUOP_register_vcpu_info, 1, arg)).toBe(-EINVAL); // up and not oneself
  });
  it("send_nmi takes no argument and ends a block; get_physid is refused", () => {
    const { m, v, w } = setup();
    expect(m.call(vcpuOp, v, VCPUOP_send_nmi, 1, 4096)).toBe(-EINVAL);
    m.xen.scheduler.block(w.sched);
    expect(m.call(vcpuOp, v, VCPUOP_send_nmi, 1)).toBe(0);
    expect([w.traps.nmiPending, w.sched.blocked]).toEqual([true, false]);
    expect(m.call(vcpuOp, v, VCPUOP_get_physid, 0)).toBe(-EINVAL);
  });
});
