import { describe, expect, it } from "vitest";
import { EFAULT, EINVAL, ENODEV, ENOSYS, EOPNOTSUPP, EPERM } from "../../abi/errno.js";
import * as P from "../../abi/physdev.js";
import * as X from "../../abi/xen.js";
import { GS } from "../../machine/cpu/insn.js";
import { Exit } from "../../machine/cpu/exits.js";
import type { TraceRecord } from "../trace.js";
import { onSyscall } from "../traps/exits.js";
import { KCODE, KDATA, KSTACK, TestPv, UCODE, USTACK } from "../traps/testing.js";
import { hypercalls, hypercallName } from "./table.js";

const ARGS = [7, 6, 2, 10, 8] as const;

/** Issue a hypercall; arguments are numbers (addresses may be negative). */
function call(m: TestPv, number: number, ...args: number[]): number {
  m.cpu.setReg(0, number, 0);
  args.forEach((a, i) => m.cpu.setRegVa(ARGS[i] as number, a));
  m.cpu.rip = KCODE + 2;
  onSyscall(m.v);
  return m.cpu.regHi(0) * 4294967296 + (m.cpu.regLo(0) >>> 0);
}
const ascii = (m: TestPv, va: number, n: number): string =>
  String.fromCharCode(...m.mem.read(m.cpu.peek(0, va), n)).replace(/\0.*$/s, "");

describe("dispatch", () => {
  it("an unknown number is −ENOSYS", () => {
    const m = new TestPv();
    expect(call(m, 11)).toBe(-ENOSYS);
    expect(call(m, 63)).toBe(-ENOSYS);
    expect(call(m, 0x10000)).toBe(-ENOSYS);
  });
  it("rcx and r11 take rip and rflags", () => {
    const m = new TestPv();
    call(m, X.__HYPERVISOR_xen_version, 0);
    expect(m.cpu.regVa(1)).toBe(KCODE + 2);
    expect(m.cpu.regLo(11)).toBe(0x202);
  });
  it("names cover every number 0–55, with sub-operations", () => {
    expect(hypercalls).toHaveLength(56);
    expect(hypercallName(32, 4)).toBe("event_channel_op.send");
    expect(hypercallName(1, 0)).toBe("mmu_update");
    expect(hypercallName(24, 8)).toBe("vcpu_op.set_singleshot_timer");
    expect(hypercallName(33, 6)).toBe("physdev_op.set_iopl");
    expect(hypercalls[11]?.pv64).toBe(false);
  });
  it("is traced when asked", () => {
    const m = new TestPv();
    const seen: TraceRecord[] = [];
    m.xen.trace.add((r) => seen.push(r));
    call(m, X.__HYPERVISOR_xen_version, 0);
    expect(seen.at(-1)).toMatchObject({ kind: "hypercall", name: "xen_version.version", result: 0x40011 });
  });
});

describe("xen_version", () => {
  const version = (m: TestPv, op: number): number => call(m, X.__HYPERVISOR_xen_version, op, KDATA);
  it("version is 4.17 and extraversion .7", () => {
    const m = new TestPv();
    expect(version(m, 0)).toBe(0x40011);
    expect(version(m, 1)).toBe(0);
    expect(ascii(m, KDATA, 16)).toBe(".7");
  });
  it("features(0) are those of a PV domU, with pae_pgdir_above_4gb once asked for", () => {
    const m = new TestPv();
    m.poke64(KDATA, 0);
    expect(version(m, 6)).toBe(0);
    expect(m.words(KDATA, 1)[0]).toEqual([0, 0x220e0]);
    m.domain.vmAssist = 1 << 3;
    version(m, 6);
    expect(m.words(KDATA, 1)[0]).toEqual([0, 0x220f0]);
    m.poke64(KDATA, 1);
    expect(version(m, 6)).toBe(-EINVAL);
  });
  it("capabilities, virt_start, page size, handle", () => {
    const m = new TestPv();
    version(m, 3);
    expect(ascii(m, KDATA, 64)).toBe("xen-3.0-x86_64 ");
    version(m, 5);
    expect(m.words(KDATA, 1)[0]).toEqual([0, 0xffff8000]);
    expect(version(m, 7)).toBe(-EINVAL);
    expect(call(m, X.__HYPERVISOR_xen_version, 7, 0)).toBe(4096);
    version(m, 8);
    expect([...m.mem.read(m.kdata, 4)]).toEqual([0x00, 0x11, 0x22, 0x33]);
  });
  it("the command line is denied and the build ID refused", () => {
    const m = new TestPv();
    version(m, 9);
    expect(ascii(m, KDATA, 64)).toBe("<denied>");
    expect(version(m, 10)).toBe(-EPERM);
    expect(version(m, 99)).toBe(-ENOSYS);
  });
  it("a bad address is −EFAULT", () => {
    const m = new TestPv();
    expect(call(m, X.__HYPERVISOR_xen_version, 1, 0x123000)).toBe(-EFAULT);
  });
});

describe("multicall", () => {
  function entries(m: TestPv, list: [number, ...number[]][]): void {
    list.forEach(([op, ...args], i) => {
      m.poke64(KDATA + i * 64, op);
      args.forEach((a, n) => m.poke64(KDATA + i * 64 + 16 + n * 8, a));
    });
  }
  it("runs its entries and writes their results", () => {
    const m = new TestPv();
    entries(m, [[X.__HYPERVISOR_xen_version, 0], [11], [X.__HYPERVISOR_stack_switch, 0xe02b, 0x1234]]);
    expect(call(m, X.__HYPERVISOR_multicall, KDATA, 3)).toBe(0);
    expect(m.words(KDATA + 8, 1)[0]).toEqual([0x40011, 0]);
    expect(m.words(KDATA + 64 + 8, 1)[0]).toEqual([-ENOSYS >>> 0, 0xffffffff]);
    expect(m.v.traps.kernelSpLo).toBe(0x1234);
  });
  it("is not nested", () => {
    const m = new TestPv();
    entries(m, [[X.__HYPERVISOR_multicall, KDATA, 1]]);
    call(m, X.__HYPERVISOR_multicall, KDATA, 1);
    expect(m.words(KDATA + 8, 1)[0]?.[0]).toBe(-EINVAL >>> 0);
  });
  it("an iret ends it and no result is written", () => {
    const m = new TestPv();
    entries(m, [[X.__HYPERVISOR_iret], [X.__HYPERVISOR_stack_switch, 0xe02b, 0x1234]]);
    const sp = KSTACK + 0x1000;
    [0x55, 0, 0, 0, UCODE, 0xe033, 0x202, USTACK, 0xe02b].forEach((n, i) => m.poke64(sp + i * 8, n));
    m.cpu.setRegVa(4, sp);
    call(m, X.__HYPERVISOR_multicall, KDATA, 2);
    expect(m.v.kernelMode).toBe(false);
    expect(m.cpu.regLo(0)).toBe(0x55);
    expect(m.v.traps.kernelSpLo).toBe(0);
  });
  it("a preempted entry is rewritten and the rest continued", () => {
    const m = new TestPv();
    entries(m, [
      [X.__HYPERVISOR_stack_switch, 0xe02b, 0x1234],
      [12, 1, 2],
      [X.__HYPERVISOR_xen_version, 0],
    ]);
    m.xen.handlers[12] = (c) => {
      c.setArg(1, 77, 0);
      return c.restart();
    };
    m.cpu.setReg(0, X.__HYPERVISOR_multicall, 0);
    m.cpu.setRegVa(7, KDATA);
    m.cpu.setReg(6, 3, 0);
    m.cpu.rip = KCODE + 2;
    onSyscall(m.v);
    expect(m.cpu.rip).toBe(KCODE);
    expect(m.cpu.regLo(0)).toBe(X.__HYPERVISOR_multicall);
    expect(m.cpu.regVa(7)).toBe(KDATA + 64);
    expect(m.cpu.regLo(6)).toBe(2);
    expect(m.words(KDATA + 64 + 24, 1)[0]).toEqual([77, 0]);
  });
});

describe("traps", () => {
  it("set_trap_table takes entries up to a null address; a null table clears", () => {
    const m = new TestPv();
    m.mem.w8(m.kdata, 14);
    m.mem.w8(m.kdata + 1, 4 | 3);
    m.mem.w16(m.kdata + 2, 0x10);
    m.poke64(KDATA + 8, KCODE);
    expect(call(m, X.__HYPERVISOR_set_trap_table, KDATA)).toBe(0);
    expect(m.v.traps.address[14]).toBe(KCODE);
    expect(m.v.traps.masksEvents(14)).toBe(true);
    expect(m.v.traps.dpl(14)).toBe(3);
    call(m, X.__HYPERVISOR_set_trap_table, 0);
    expect(m.v.traps.address[14]).toBe(0);
  });
  it("callback_op registers by type with its mask flag", () => {
    const m = new TestPv();
    m.mem.w16(m.kdata, 2);
    m.mem.w16(m.kdata + 2, 1);
    m.poke64(KDATA + 8, KCODE + 5);
    expect(call(m, X.__HYPERVISOR_callback_op, 0, KDATA)).toBe(0);
    expect(m.v.traps.syscallCallback).toBe(KCODE + 5);
    expect(m.v.traps.syscallMasks).toBe(true);
    m.mem.w16(m.kdata, 9);
    expect(call(m, X.__HYPERVISOR_callback_op, 0, KDATA)).toBe(-ENOSYS);
    m.mem.w16(m.kdata, 0);
    m.mem.w64(m.kdata + 8, 0, 0x8000);
    expect(call(m, X.__HYPERVISOR_callback_op, 0, KDATA)).toBe(-EINVAL);
    expect(call(m, X.__HYPERVISOR_callback_op, 1, KDATA)).toBe(-EINVAL);
  });
  it("set_callbacks sets three", () => {
    const m = new TestPv();
    call(m, X.__HYPERVISOR_set_callbacks, KCODE, KCODE + 1, KCODE + 2);
    expect([m.v.traps.eventCallback, m.v.traps.failsafeCallback, m.v.traps.syscallCallback]).toEqual([
      KCODE,
      KCODE + 1,
      KCODE + 2,
    ]);
  });
  it("set_segment_base: FS and GS now, the user's GS later; canonical only", () => {
    const m = new TestPv();
    expect(call(m, X.__HYPERVISOR_set_segment_base, 2, KDATA)).toBe(0);
    expect([m.cpu.segBaseLo(GS), m.cpu.segBaseHi(GS)]).toEqual([KDATA | 0, -1]);
    call(m, X.__HYPERVISOR_set_segment_base, 1, 0x5000);
    expect(m.v.traps.gsUserLo).toBe(0x5000);
    expect(m.cpu.segBaseLo(GS)).toBe(KDATA | 0);
    m.cpu.setReg(0, X.__HYPERVISOR_set_segment_base, 0);
    m.cpu.setReg(6, 0, 0x8000);
    onSyscall(m.v);
    expect(m.cpu.regLo(0)).toBe(-EINVAL);
  });
  it("fpu_taskswitch sets and clears TS", () => {
    const m = new TestPv();
    call(m, X.__HYPERVISOR_fpu_taskswitch, 1);
    expect(m.cpu.s.ts).toBe(true);
    call(m, X.__HYPERVISOR_fpu_taskswitch, 0);
    expect(m.v.traps.ts).toBe(false);
  });
  it("debug registers", () => {
    const m = new TestPv();
    expect(call(m, X.__HYPERVISOR_set_debugreg, 0, KDATA)).toBe(0);
    expect(call(m, X.__HYPERVISOR_get_debugreg, 0)).toBe(KDATA);
    expect(call(m, X.__HYPERVISOR_set_debugreg, 0, -(2 ** 47))).toBe(-EPERM);
    expect(call(m, X.__HYPERVISOR_set_debugreg, 7, 0x2000)).toBe(-EPERM);
    expect(call(m, X.__HYPERVISOR_set_debugreg, 9, 0)).toBe(-ENODEV);
    expect(call(m, X.__HYPERVISOR_get_debugreg, 9)).toBe(-ENODEV);
  });
});

describe("physdev_op and the control interfaces", () => {
  it("set_iopl takes 0–3", () => {
    const m = new TestPv();
    m.poke64(KDATA, 1);
    expect(call(m, X.__HYPERVISOR_physdev_op, P.PHYSDEVOP_set_iopl, KDATA)).toBe(0);
    expect(m.v.traps.iopl).toBe(1);
    m.poke64(KDATA, 4);
    expect(call(m, X.__HYPERVISOR_physdev_op, P.PHYSDEVOP_set_iopl, KDATA)).toBe(-EINVAL);
  });
  it("pirq_eoi_gmfn takes a page once", () => {
    const m = new TestPv();
    m.poke64(KDATA, m.ustack / 4096);
    expect(call(m, X.__HYPERVISOR_physdev_op, P.PHYSDEVOP_pirq_eoi_gmfn_v2, KDATA)).toBe(0);
    expect(call(m, X.__HYPERVISOR_physdev_op, P.PHYSDEVOP_pirq_eoi_gmfn_v2, KDATA)).toBe(-16);
  });
  it("devices are refused", () => {
    const m = new TestPv();
    expect(call(m, X.__HYPERVISOR_physdev_op, P.PHYSDEVOP_apic_read, KDATA)).toBe(-EPERM);
    expect(call(m, X.__HYPERVISOR_physdev_op, P.PHYSDEVOP_pci_device_add, KDATA)).toBe(-EPERM);
    expect(call(m, X.__HYPERVISOR_physdev_op, 99, KDATA)).toBe(-ENOSYS);
    m.poke64(KDATA, 3);
    expect(call(m, X.__HYPERVISOR_physdev_op, P.PHYSDEVOP_irq_status_query, KDATA)).toBe(0);
    expect(m.words(KDATA, 1)[0]).toEqual([3, 1]);
  });
  it("the compat form takes the command from the structure", () => {
    const m = new TestPv();
    m.poke64(KDATA, P.PHYSDEVOP_set_iopl);
    m.poke64(KDATA + 8, 2);
    expect(call(m, X.__HYPERVISOR_physdev_op_compat, KDATA)).toBe(0);
    expect(m.v.traps.iopl).toBe(2);
  });
  it("control operations answer as to any domU", () => {
    const m = new TestPv();
    expect(call(m, X.__HYPERVISOR_platform_op, KDATA)).toBe(-EPERM);
    expect(call(m, X.__HYPERVISOR_sysctl, 0x1000)).toBe(-EFAULT);
    expect(call(m, X.__HYPERVISOR_sysctl, KDATA)).toBe(-13);
    expect(call(m, X.__HYPERVISOR_xenpmu_op, 0, KDATA)).toBe(-EOPNOTSUPP);
    expect(call(m, X.__HYPERVISOR_tmem_op)).toBe(-ENOSYS);
  });
});

describe("console_io", () => {
  it("shows complete lines with the domain's number, control characters dropped", () => {
    const m = new TestPv();
    m.poke(
      0,
      KDATA,
      [..."hi\x1b[1m\nthere"].map((c) => c.charCodeAt(0)),
    );
    expect(call(m, X.__HYPERVISOR_console_io, 0, 12, KDATA)).toBe(0);
    expect(m.lines).toEqual([`(d${m.domain.domid}) hi[1m`]);
    expect(call(m, X.__HYPERVISOR_console_io, 1, 5, KDATA)).toBe(-EPERM);
    expect(call(m, X.__HYPERVISOR_console_io, 0, 5, 0x1000)).toBe(-EFAULT);
  });
});

describe("from user mode", () => {
  it("a syscall is never a hypercall", () => {
    const m = new TestPv();
    m.user(UCODE, USTACK);
    m.v.traps.setTrap(6, 0, 0, KCODE);
    m.v.traps.kernelSpLo = (KSTACK + 0x2000) >>> 0;
    m.v.traps.kernelSpHi = -1;
    m.cpu.setReg(0, X.__HYPERVISOR_fpu_taskswitch, 0);
    m.cpu.setReg(7, 1, 0);
    onSyscall(m.v);
    expect(m.v.traps.ts).toBe(false);
    expect(Exit.SYSCALL).toBe(3);
  });
});
