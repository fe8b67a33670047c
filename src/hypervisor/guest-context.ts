/**
 * vcpu_guest_context (public/arch-x86/xen.h), both ways: VCPUOP_initialise, the domain builder, save and restore.
 *
 * Rules of setting: every address must be canonical, the GDT, LDT and roots are validated as by their hypercalls, reserved
 * control bits are Xen's, selectors get RPL 3; a vCPU is initialised once. Nothing is changed by a context that is refused before its GDT is taken.
 */
import { EINVAL, EOPNOTSUPP } from "../abi/errno.js";
import {
  trap_info,
  vcpu_guest_context as C,
  VGCF_failsafe_disables_events,
  VGCF_i387_valid,
  VGCF_in_kernel,
  VGCF_online,
  VGCF_syscall_disables_events,
} from "../abi/arch_x86_xen.js";
import { CS, DS, ES, FS, GS, SS } from "../machine/cpu/insn.js";
import { IF, VM } from "../machine/cpu/flags.js";
import { CR0, CR4, EFER, FCW, FTW, MXCSR } from "../machine/layout.js";
import { getDebugReg, setDebugReg } from "./traps/debug-registers.js";
import { loadCode, loadSegment } from "./traps/load-segments.js";
import { KERNEL_MODE, KERNEL_MODE_32, USER_MODE, USER_MODE_32 } from "./traps/mode.js";
import { FLAT_CODE64, FLAT_DATA } from "./traps/segments.js";
import { CR0_HOST, CR0_TS, CR4_GUEST, CR4_VISIBLE } from "./traps/vcpu-traps.js";
import type { Va } from "../machine/cpu/api.js";
import type { Vcpu } from "./vcpu.js";
import type { CpuApi } from "../machine/cpu/api.js";

const IOPL = 0x3000;
/** Offsets of user_regs by register number. */
const GPR_OFFSET: readonly number[] = [
  C.user_regs_rax,
  C.user_regs_rcx,
  C.user_regs_rdx,
  C.user_regs_rbx,
  C.user_regs_rsp,
  C.user_regs_rbp,
  C.user_regs_rsi,
  C.user_regs_rdi,
  C.user_regs_r8,
  C.user_regs_r9,
  C.user_regs_r10,
  C.user_regs_r11,
  C.user_regs_r12,
  C.user_regs_r13,
  C.user_regs_r14,
  C.user_regs_r15,
];
const SEGMENTS: readonly (readonly [number, number])[] = [
  [ES, C.user_regs_es],
  [DS, C.user_regs_ds],
  [FS, C.user_regs_fs],
  [GS, C.user_regs_gs],
];

function canonicalAt(d: DataView, at: number): boolean {
  const hi = d.getInt32(at + 4, true) >> 15;
  return hi === 0 || hi === -1;
}
function vaAt(d: DataView, at: number): Va {
  return d.getInt32(at + 4, true) * 4294967296 + d.getUint32(at, true);
}
function numAt(d: DataView, at: number): number {
  return d.getUint32(at + 4, true) * 4294967296 + d.getUint32(at, true);
}

/** Set a vCPU's context from the guest's layout. 0 or a negative errno. */
export function setGuestContext(v: Vcpu, bytes: Uint8Array): number {
  if (bytes.length < C.size) return -EINVAL;
  const d = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const t = v.traps;
  const flags = d.getUint32(C.flags, true);
  const ldtEntries = numAt(d, C.ldt_ents);
  const gdtEntries = numAt(d, C.gdt_ents);
  const kernel = (flags & VGCF_in_kernel) !== 0;
  const userRoot = Math.floor(numAt(d, C.ctrlreg + 8) / 4096);
  const kernelRoot = Math.floor(numAt(d, C.ctrlreg + 24) / 4096);

  for (const at of [
    C.user_regs_rip,
    C.user_regs_rsp,
    C.kernel_sp,
    C.fs_base,
    C.gs_base_kernel,
    C.gs_base_user,
    C.event_callback_eip,
    C.syscall_callback_eip,
    C.failsafe_callback_eip,
  ])
    if (!canonicalAt(d, at)) return -EINVAL;
  if (ldtEntries !== 0 && !canonicalAt(d, C.ldt_base)) return -EINVAL;
  for (let i = 0; i < 256; i++)
    if (!canonicalAt(d, C.trap_ctxt + i * trap_info.size + trap_info.address)) return -EINVAL;
  if (ldtEntries > 8192 || (d.getUint32(C.ldt_base, true) & 4095) !== 0 || gdtEntries > 16 * 512) return -EINVAL;
  if (!v.initialised) {
    if (!kernel && userRoot === 0) return -EINVAL;
  } else if (v.mm.kernelRoot !== kernelRoot || v.mm.userRoot !== userRoot || v.mm.gdtEntries !== gdtEntries)
    return -EOPNOTSUPP;

  if (!v.initialised) {
    let rc = v.mm.setLdt(ldtEntries === 0 ? 0 : vaAt(d, C.ldt_base), ldtEntries);
    if (rc !== 0) return rc;
    const frames: number[] = [];
    for (let i = 0; i < Math.ceil(gdtEntries / 512); i++) frames.push(numAt(d, C.gdt_frames + i * 8));
    rc = v.mm.setGdt(frames, gdtEntries);
    if (rc !== 0) return rc;
    rc = v.mm.setRoots(kernelRoot, userRoot);
    if (rc !== 0) return rc;
    if (v.id === 0) v.domain.vmAssist = numAt(d, C.vm_assist) % 2 ** 33;
  }

  for (let i = 0; i < 256; i++) {
    const at = C.trap_ctxt + i * trap_info.size;
    t.setTrap(
      i,
      d.getUint8(at + trap_info.flags),
      d.getUint16(at + trap_info.cs, true),
      vaAt(d, at + trap_info.address),
    );
  }
  t.eventCallback = vaAt(d, C.event_callback_eip);
  t.failsafeCallback = vaAt(d, C.failsafe_callback_eip);
  t.syscallCallback = vaAt(d, C.syscall_callback_eip);
  t.failsafeMasks = (flags & VGCF_failsafe_disables_events) !== 0;
  t.syscallMasks = (flags & VGCF_syscall_disables_events) !== 0;
  t.kernelSs = d.getUint16(C.kernel_ss, true) | 3;
  t.kernelSpLo = d.getUint32(C.kernel_sp, true);
  t.kernelSpHi = d.getUint32(C.kernel_sp + 4, true);
  t.gsKernelLo = d.getUint32(C.gs_base_kernel, true);
  t.gsKernelHi = d.getUint32(C.gs_base_kernel + 4, true);
  t.gsUserLo = d.getUint32(C.gs_base_user, true);
  t.gsUserHi = d.getUint32(C.gs_base_user + 4, true);
  t.ts = (d.getUint32(C.ctrlreg, true) & CR0_TS) !== 0;
  t.cr2Lo = d.getUint32(C.ctrlreg + 16, true);
  t.cr2Hi = d.getUint32(C.ctrlreg + 20, true);
  t.cr4 = (d.getUint32(C.ctrlreg + 32, true) & CR4_GUEST) | CR4_VISIBLE;
  const rflags = d.getUint32(C.user_regs_rflags, true);
  t.iopl = (rflags >> 12) & 3;
  v.kernelMode = kernel;

  v.domain.xen.withLoaded(v, (cpu) => {
    hostState(v);
    cpu.setMode(kernel ? KERNEL_MODE : USER_MODE);
    if ((flags & VGCF_i387_valid) !== 0) cpu.fxrstor(bytes.slice(C.fpu_ctxt, C.fpu_ctxt + 512));
    for (let r = 0; r < 16; r++) {
      const at = GPR_OFFSET[r] as number;
      cpu.setReg(r, d.getUint32(at, true), d.getUint32(at + 4, true));
    }
    cpu.rip = vaAt(d, C.user_regs_rip);
    cpu.rflags = (rflags & ~(IOPL | VM)) | IF | 2;
    const bits = loadCode(v, d.getUint16(C.user_regs_cs, true) | 3);
    if (bits === 0) cpu.setSegment(CS, 0xe033, 0, 0xffffffff, FLAT_CODE64);
    else if (bits !== 64) cpu.setMode(kernel ? KERNEL_MODE_32 : USER_MODE_32);
    if (!loadSegment(v, SS, d.getUint16(C.user_regs_ss, true) | 3))
      cpu.setSegment(SS, 0xe02b, 0, 0xffffffff, FLAT_DATA);
    for (const [s, at] of SEGMENTS) if (!loadSegment(v, s, d.getUint16(at, true))) loadSegment(v, s, 0);
    cpu.setSegBase(FS, d.getUint32(C.fs_base, true), d.getUint32(C.fs_base + 4, true));
    if (kernel) cpu.setSegBase(GS, t.gsKernelLo, t.gsKernelHi);
    else cpu.setSegBase(GS, t.gsUserLo, t.gsUserHi);
    for (let i = 0; i < 4; i++)
      setDebugReg(v, i, d.getUint32(C.debugreg + i * 8, true), d.getUint32(C.debugreg + i * 8 + 4, true));
    setDebugReg(v, 6, d.getUint32(C.debugreg + 48, true), 0);
    setDebugReg(v, 7, d.getUint32(C.debugreg + 56, true), 0);
    cpu.setTaskSwitched(t.ts);
  });
  v.initialised = true;
  if ((flags & VGCF_online) !== 0) v.domain.xen.vcpuUp(v);
  return 0;
}

/** A vCPU's context in the guest's layout (save, XEN_DOMCTL_getvcpucontext). */
export function getGuestContext(v: Vcpu): Uint8Array {
  const out = new Uint8Array(C.size);
  const d = new DataView(out.buffer);
  const t = v.traps;
  const put = (at: number, lo: number, hi: number): void => {
    d.setUint32(at, lo >>> 0, true);
    d.setUint32(at + 4, hi >>> 0, true);
  };
  const putVa = (at: number, va: Va): void => put(at, va >>> 0, Math.floor(va / 4294967296) >>> 0);
  let flags = VGCF_i387_valid;
  if (v.kernelMode) flags |= VGCF_in_kernel;
  if (v.up) flags |= VGCF_online;
  if (t.failsafeMasks) flags |= VGCF_failsafe_disables_events;
  if (t.syscallMasks) flags |= VGCF_syscall_disables_events;
  put(C.flags, flags, 0);
  v.domain.xen.withLoaded(v, (cpu) => {
    out.set(cpu.fxsave(), C.fpu_ctxt);
    for (let r = 0; r < 16; r++) put(GPR_OFFSET[r] as number, cpu.regLo(r), cpu.regHi(r));
    putVa(C.user_regs_rip, cpu.rip);
    put(C.user_regs_rflags, (cpu.rflags & ~IOPL) | IF | (t.iopl << 12), 0);
    d.setUint16(C.user_regs_cs, cpu.selector(CS), true);
    d.setUint16(C.user_regs_ss, cpu.selector(SS), true);
    for (const [s, at] of SEGMENTS) d.setUint16(at, cpu.selector(s), true);
    put(C.fs_base, cpu.segBaseLo(FS), cpu.segBaseHi(FS));
    if (v.kernelMode) {
      put(C.gs_base_kernel, cpu.segBaseLo(GS), cpu.segBaseHi(GS));
      put(C.gs_base_user, t.gsUserLo, t.gsUserHi);
    } else {
      put(C.gs_base_kernel, t.gsKernelLo, t.gsKernelHi);
      put(C.gs_base_user, cpu.segBaseLo(GS), cpu.segBaseHi(GS));
    }
    for (let i = 0; i < 8; i++) {
      const dr = i === 4 || i === 5 ? null : getDebugReg(v, i);
      if (dr !== null) put(C.debugreg + i * 8, dr.lo, dr.hi);
    }
  });
  for (let i = 0; i < 256; i++) {
    const at = C.trap_ctxt + i * trap_info.size;
    d.setUint8(at + trap_info.vector, i);
    d.setUint8(at + trap_info.flags, t.flags[i] as number);
    d.setUint16(at + trap_info.cs, t.cs[i] as number, true);
    putVa(at + trap_info.address, t.address[i] as number);
  }
  putVa(C.ldt_base, v.mm.ldtBase);
  put(C.ldt_ents, v.mm.ldtEntries, 0);
  for (let i = 0; i < Math.ceil(v.mm.gdtEntries / 512); i++) put(C.gdt_frames + i * 8, v.mm.gdtFrames[i] as number, 0);
  put(C.gdt_ents, v.mm.gdtEntries, 0);
  put(C.kernel_ss, t.kernelSs, 0);
  put(C.kernel_sp, t.kernelSpLo, t.kernelSpHi);
  put(C.ctrlreg, CR0_HOST | (t.ts ? CR0_TS : 0), 0);
  putVa(C.ctrlreg + 8, v.mm.userRoot * 4096);
  put(C.ctrlreg + 16, t.cr2Lo, t.cr2Hi);
  putVa(C.ctrlreg + 24, v.mm.kernelRoot * 4096);
  put(C.ctrlreg + 32, t.cr4, 0);
  putVa(C.event_callback_eip, t.eventCallback);
  putVa(C.failsafe_callback_eip, t.failsafeCallback);
  putVa(C.syscall_callback_eip, t.syscallCallback);
  put(C.vm_assist, v.domain.vmAssist >>> 0, Math.floor(v.domain.vmAssist / 4294967296));
  return out;
}

/** The part of the CPU's state that is the host's: long mode, paging with NX and WP, a reset FPU. The vCPU is loaded. */
function hostState(v: Vcpu): void {
  const { mem } = v.domain.xen;
  const set = (at: number, lo: number): void => {
    mem.u32[at >>> 2] = lo;
    mem.u32[(at >>> 2) + 1] = 0;
  };
  set(CR0, CR0_HOST);
  set(CR4, CR4_VISIBLE);
  set(EFER, 0xd01);
  mem.u32[FCW >>> 2] = 0x37f;
  mem.u32[FTW >>> 2] = 0;
  mem.u32[MXCSR >>> 2] = 0x1f80;
}

/** Entry state of the first vCPU of a PV64 domain. */
export interface Pv64Entry {
  readonly rip: Va;
  readonly rsp: Va;
  /** Virtual address of start_info. */
  readonly rsi: Va;
}

/** rip, rsp, rsi; flat cs and ss, null ds–gs, IF set, all else zero. The roots must be set; the vCPU is up afterwards. */
export function initVcpuPv64(v: Vcpu, e: Pv64Entry): void {
  v.kernelMode = true;
  v.domain.xen.withLoaded(v, (cpu: CpuApi) => {
    hostState(v);
    cpu.setMode(KERNEL_MODE);
    for (let r = 0; r < 16; r++) cpu.setReg(r, 0, 0);
    cpu.rip = e.rip;
    cpu.setRegVa(4, e.rsp);
    cpu.setRegVa(6, e.rsi);
    cpu.rflags = IF | 2;
    cpu.setSegment(CS, 0xe033, 0, 0xffffffff, FLAT_CODE64);
    cpu.setSegment(SS, 0xe02b, 0, 0xffffffff, FLAT_DATA);
    for (const s of [ES, DS, FS, GS]) cpu.setSegment(s, 0, 0, 0, 0);
    setDebugReg(v, 6, 0, 0);
    setDebugReg(v, 7, 0, 0);
    cpu.setTaskSwitched(false);
  });
  v.initialised = true;
  v.domain.xen.vcpuUp(v);
}
