/**
 * A vCPU's state as a saved domain carries it: `vcpu_guest_context` with canonical frame numbers, the extended context (callbacks for 32-bit
 * user mode), and model-specific registers.
 *
 * Rules (libxc): GDT frames and CR3 hold pseudo-physical frames; CR1's place holds the user root with bit 0 set where there is one; vCPU 0's
 * rdx is the frame of the start info page, which the guest gave to the suspend hypercall.
 */
import { vcpu_guest_context as C, VGCF_online } from "../../abi/arch_x86_xen.js";
import { xen_domctl_ext_vcpucontext as E, xen_domctl_vcpu_msr as M } from "../../abi/domctl.js";
import { getGuestContext, setGuestContext } from "../../hypervisor/guest-context.js";
import type { Vcpu } from "../../hypervisor/vcpu.js";
import type { Va } from "../../machine/cpu/api.js";
import { viewOf } from "./bytes.js";
import { damaged, MigrationError } from "./errors.js";
import type { FrameMap } from "./page-tables.js";

const MSR_SPEC_CTRL = 0x48;
const MSR_TSC_AUX = 0xc0000103;
/** CR3 and the user root's place in `ctrlreg`. */
const CR3 = C.ctrlreg + 24;
const CR1 = C.ctrlreg + 8;
const GDT_PER_PAGE = 512;
const GDT_PAGES = 16;

export interface SavedVcpu {
  readonly id: number;
  /** `vcpu_guest_context`, canonical. */
  readonly basic: Uint8Array;
  /** `xen_domctl_ext_vcpucontext`. */
  readonly extended?: Uint8Array | undefined;
  /** Entries of `xen_domctl_vcpu_msr`. */
  readonly msrs?: Uint8Array | undefined;
}

function frameAt(d: DataView, at: number): number {
  return Math.floor((d.getUint32(at, true) + d.getUint32(at + 4, true) * 4294967296) / 4096);
}
function put(d: DataView, at: number, value: number): void {
  d.setUint32(at, value >>> 0, true);
  d.setUint32(at + 4, Math.floor(value / 4294967296) >>> 0, true);
}
function numAt(d: DataView, at: number): number {
  return d.getUint32(at, true) + d.getUint32(at + 4, true) * 4294967296;
}

/** Replace the frame numbers of a context with `map`; `wrong` is called with what has no counterpart, and throws. */
function translate(bytes: Uint8Array, map: FrameMap, wrong: (what: string) => never): void {
  const d = viewOf(bytes);
  const entries = numAt(d, C.gdt_ents);
  if (entries > GDT_PAGES * GDT_PER_PAGE) wrong("GDT");
  for (let i = 0; i < GDT_PAGES; i++) {
    const at = C.gdt_frames + i * 8;
    const used = i * GDT_PER_PAGE < entries;
    const frame = used ? map(numAt(d, at)) : 0;
    if (frame < 0) wrong(`GDT page ${i}`);
    put(d, at, frame);
  }
  const root = map(frameAt(d, CR3));
  if (root < 0) wrong("page tables");
  put(d, CR3, root * 4096);
}

/** What a suspended vCPU's record holds; `pfnOf` knows the domain's frames. */
export function saveVcpu(v: Vcpu, pfnOf: FrameMap): SavedVcpu {
  const basic = getGuestContext(v);
  const fail = (what: string): never => {
    throw new MigrationError("unsupported", `vCPU ${v.id}: its ${what} lies outside the domain's memory`);
  };
  translate(basic, pfnOf, fail);
  const d = viewOf(basic);
  const user = frameAt(d, CR1);
  if (user !== 0) {
    const pfn = pfnOf(user);
    if (pfn < 0) fail("user page tables");
    put(d, CR1, pfn * 4096 + 1);
  }
  if (v.id === 0) {
    const pfn = pfnOf(numAt(d, C.user_regs_rdx));
    if (pfn < 0) fail("start info page");
    put(d, C.user_regs_rdx, pfn);
  }
  return { id: v.id, basic, extended: saveExtended(v), msrs: saveMsrs(v) };
}

function saveExtended(v: Vcpu): Uint8Array {
  const out = new Uint8Array(E.size);
  const d = viewOf(out);
  const t = v.traps;
  d.setUint32(E.vcpu, v.id, true);
  d.setUint32(E.size_, E.size, true);
  const va = (at: number, a: Va): void => {
    d.setUint32(at, a >>> 0, true);
    d.setUint32(at + 4, Math.floor(a / 4294967296) >>> 0, true);
  };
  va(E.syscall32_callback_eip, t.syscall32Callback);
  va(E.sysenter_callback_eip, t.sysenterCallback);
  d.setUint8(E.syscall32_disables_events, t.syscall32Masks ? 1 : 0);
  d.setUint8(E.sysenter_disables_events, t.sysenterMasks ? 1 : 0);
  return out;
}

function saveMsrs(v: Vcpu): Uint8Array {
  const list: (readonly [number, number])[] = [
    [MSR_SPEC_CTRL, v.traps.specCtrl],
    [MSR_TSC_AUX, v.traps.tscAux],
  ];
  const set = list.filter(([, value]) => value !== 0);
  const out = new Uint8Array(set.length * M.size);
  const d = viewOf(out);
  set.forEach(([index, value], i) => {
    d.setUint32(i * M.size + M.index, index, true);
    d.setUint32(i * M.size + M.value, value, true);
  });
  return out;
}

/** The pseudo-physical frame of the start info page, by vCPU 0's record. */
export function startInfoPfn(saved: SavedVcpu): number {
  return numAt(viewOf(saved.basic), C.user_regs_rdx);
}

/**
 * Set a new vCPU from a record; frames are named by `mfnOf`, the start info page is at `startInfo`. The hypervisor checks the context as any
 * guest's: what it refuses is said with a MigrationError.
 */
export function restoreVcpu(v: Vcpu, saved: SavedVcpu, mfnOf: FrameMap, startInfo: number): void {
  const fail = (what: string): never => {
    throw damaged(`vCPU ${v.id}: its ${what} names memory that the domain does not have`);
  };
  const basic = saved.basic.slice();
  translate(basic, mfnOf, fail);
  const d = viewOf(basic);
  const user = numAt(d, CR1);
  if (user % 2 === 1) {
    const mfn = mfnOf(Math.floor(user / 4096));
    if (mfn < 0) fail("user root");
    put(d, CR1, mfn * 4096);
  } else put(d, CR1, 0);
  if (v.id === 0) put(d, C.user_regs_rdx, startInfo);
  const rc = setGuestContext(v, basic);
  if (rc !== 0) throw damaged(`vCPU ${v.id}: its context is refused (${rc})`);
  if (saved.extended !== undefined) restoreExtended(v, saved.extended);
  if (saved.msrs !== undefined) restoreMsrs(v, saved.msrs);
}

/** Is the vCPU of a record online? */
export function isOnline(saved: SavedVcpu): boolean {
  return (viewOf(saved.basic).getUint32(C.flags, true) & VGCF_online) !== 0;
}

function restoreExtended(v: Vcpu, bytes: Uint8Array): void {
  const whole = new Uint8Array(E.size);
  whole.set(bytes.subarray(0, E.size));
  const d = viewOf(whole);
  const va = (at: number): Va => {
    const hi = d.getInt32(at + 4, true);
    if (hi >> 15 !== 0 && hi >> 15 !== -1) throw damaged(`vCPU ${v.id}: a callback's address is not canonical`);
    return hi * 4294967296 + d.getUint32(at, true);
  };
  const t = v.traps;
  t.syscall32Callback = va(E.syscall32_callback_eip);
  t.sysenterCallback = va(E.sysenter_callback_eip);
  t.syscall32Masks = d.getUint8(E.syscall32_disables_events) !== 0;
  t.sysenterMasks = d.getUint8(E.sysenter_disables_events) !== 0;
}

function restoreMsrs(v: Vcpu, bytes: Uint8Array): void {
  const d = viewOf(bytes);
  for (let at = 0; at + M.size <= bytes.length; at += M.size) {
    const index = d.getUint32(at + M.index, true);
    const value = d.getUint32(at + M.value, true);
    const high = d.getUint32(at + M.value + 4, true) !== 0 || d.getUint32(at + M.reserved, true) !== 0;
    if (index === MSR_TSC_AUX && !high) v.traps.tscAux = value;
    else if (index === MSR_SPEC_CTRL && !high && (value & ~0x403) === 0) v.traps.specCtrl = value;
    else throw damaged(`vCPU ${v.id}: register 0x${index.toString(16)} cannot be set`);
  }
}
