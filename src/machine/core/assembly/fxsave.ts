/**
 * The 512-byte FXSAVE image (SDM vol. 2, FXSAVE). `wide` is the form with REX.W: 64-bit pointers; otherwise 32-bit offsets with
 * selectors, which are stored as zero (as processors that deprecate FPU CS and DS do). Sixteen XMM registers in 64-bit code, else eight.
 */
import { FPS_FCW, FPS_FDP, FPS_FIP, FPS_FOP, FPS_FSW, FPS_FTW, FPS_MXCSR, FPS_XMM, fpRaise } from "./fpstate";
import { copyIn, copyOut, slot } from "./x87";

export const MXCSR_MASK: u32 = 0xffff;
const AREA = memory.data(512, 16);

function build(p: usize, wide: bool, xmms: i32): void {
  store<u16>(p, load<u16>(FPS_FCW));
  store<u16>(p, load<u16>(FPS_FSW), 2);
  store<u16>(p, load<u16>(FPS_FTW) & 0xff, 4);
  store<u16>(p, load<u16>(FPS_FOP) & 0x7ff, 6);
  if (wide) {
    store<u64>(p, load<u64>(FPS_FIP), 8);
    store<u64>(p, load<u64>(FPS_FDP), 16);
  } else {
    store<u64>(p, <u64>load<u32>(FPS_FIP), 8);
    store<u64>(p, <u64>load<u32>(FPS_FDP), 16);
  }
  store<u32>(p, load<u32>(FPS_MXCSR), 24);
  store<u32>(p, MXCSR_MASK, 28);
  for (let i = 0; i < 8; i++) {
    const q = slot(i);
    const o = p + 32 + ((<usize>i) << 4);
    store<u64>(o, load<u64>(q));
    store<u64>(o, <u64>load<u16>(q, 8), 8);
  }
  memory.copy(p + 160, FPS_XMM, xmms << 4);
}
function take(p: usize, wide: bool, xmms: i32): void {
  store<u32>(FPS_FCW, ((<u32>load<u16>(p)) & 0x1f3f) | 0x40);
  const fsw = <u32>load<u16>(p, 2);
  store<u32>(FPS_FSW, fsw & 0x7f7f);
  if ((fsw & ~load<u32>(FPS_FCW) & 0x3f) != 0) store<u32>(FPS_FSW, (fsw & 0x7f7f) | 0x8080);
  store<u32>(FPS_FTW, <u32>load<u8>(p, 4));
  store<u32>(FPS_FOP, (<u32>load<u16>(p, 6)) & 0x7ff);
  store<u64>(FPS_FIP, wide ? load<u64>(p, 8) : <u64>load<u32>(p, 8));
  store<u64>(FPS_FDP, wide ? load<u64>(p, 16) : <u64>load<u32>(p, 16));
  store<u32>(FPS_MXCSR, load<u32>(p, 24) & MXCSR_MASK);
  for (let i = 0; i < 8; i++) {
    const q = slot(i);
    const o = p + 32 + ((<usize>i) << 4);
    store<u64>(q, load<u64>(o));
    store<u64>(q, <u64>load<u16>(o, 8), 8);
  }
  memory.copy(FPS_XMM, p + 160, xmms << 4);
}

/**
 * Error code marker of mmu.ts (NON_CANONICAL): the host side decides between #GP and #SS. Unlike with SSE operands, a non-canonical
 * address in the stack segment comes before a misaligned one here (as processors do it).
 */
const ADDRESS: i32 = -2;

/** The guest's instruction. Only the defined bytes and not the software-available tail are written, but all 512 must be accessible. */
export function x87Fxsave(va: u64, wide: i32, xmms: i32): i32 {
  if ((va & 15) != 0) return fpRaise(13, ADDRESS);
  build(AREA, wide != 0, xmms);
  return copyOut(va, AREA, 160 + (xmms << 4), 512) ? 0 : 1;
}
export function x87Fxrstor(va: u64, wide: i32, xmms: i32): i32 {
  if ((va & 15) != 0) return fpRaise(13, ADDRESS);
  if (!copyIn(va, AREA, 512)) return 1;
  if ((load<u32>(AREA, 24) & ~MXCSR_MASK) != 0) return fpRaise(13, 0);
  take(AREA, wide != 0, xmms);
  return 0;
}

/** For the hypervisor: the 64-bit image at a host address, all 512 bytes (the tail zero). */
export function fxsaveTo(addr: u32): void {
  memory.fill(<usize>addr, 0, 512);
  build(<usize>addr, true, 16);
}
export function fxrstorFrom(addr: u32): void {
  take(<usize>addr, true, 16);
}
