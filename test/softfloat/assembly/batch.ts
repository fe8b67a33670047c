/** Replays native.c's records on the helpers and compares; runs of millions of cases stay inside WebAssembly. */
import {
  FPS_ARGS,
  FPS_CR4,
  FPS_EXIT_VECTOR,
  FPS_FCW,
  FPS_FLAGS,
  FPS_FPR,
  FPS_FSW,
  FPS_FTW,
  FPS_MXCSR,
  FPS_RESULT,
} from "./fpstate";
import * as S from "./sse";
import * as X from "./x87";
import * as T from "./x87trans";
export * from "./sse";
export * from "./x87";
export * from "./x87trans";
export * from "./fxsave";
export { ccFlags, ccCond, ccCarry } from "./flags";
export { translateR, translateW, translateWx, commitW, recordFault, recordExit } from "./mmu";

const REC: usize = 112;
const MEM: usize = 0x300000;

function x87op(op: i32, p: usize): void {
  const a = load<u64>(p, 8),
    b = load<u64>(p, 24);
  switch (op) {
    case 0:
    case 1:
    case 4:
    case 5:
    case 6:
    case 7:
      X.x87Arith(op, 0, 1, 0);
      break;
    case 10:
      X.x87Unary(2);
      break;
    case 11:
      X.x87Unary(3);
      break;
    case 12:
      X.x87Scale();
      break;
    case 13:
      X.x87Prem(0);
      break;
    case 14:
      X.x87Prem(1);
      break;
    case 15:
      X.x87Xtract();
      break;
    case 17:
      X.x87Com(1, 0, 1);
      break;
    case 18:
      X.x87Com(1, 1, 1);
      break;
    case 19:
      X.x87Tst();
      break;
    case 20:
      X.x87Xam();
      break;
    case 21:
      X.x87Store(MEM, 0, 1);
      break;
    case 22:
      X.x87Store(MEM, 1, 1);
      break;
    case 23:
      X.x87Store(MEM, 3, 1);
      break;
    case 24:
      X.x87Store(MEM, 4, 1);
      break;
    case 25:
      X.x87Store(MEM, 5, 1);
      break;
    case 26:
      X.x87Store(MEM, 6, 1);
      break;
    case 27:
      X.x87Store(MEM, 7, 1);
      break;
    case 28:
      X.x87Store(MEM, 8, 1);
      break;
    case 29:
      X.x87Store(MEM, 9, 1);
      break;
    case 30:
      X.x87Fld32(<u32>a);
      break;
    case 31:
      X.x87Fld64(a);
      break;
    case 32:
      X.x87Fild(<i64>a);
      break;
    case 33:
      X.x87Arith32(0, <u32>b);
      break;
    case 34:
      X.x87Arith64(6, b);
      break;
    case 35:
      X.x87ArithInt(4, <i32>b);
      break;
    case 40:
      T.x87SinCos(0);
      break;
    case 41:
      T.x87SinCos(1);
      break;
    case 42:
      T.x87Trig2(1);
      break;
    case 43:
      T.x87F2xm1();
      break;
    case 44:
      T.x87Yl2x();
      break;
    case 45:
      T.x87Yl2xp1();
      break;
    case 46:
      T.x87Patan();
      break;
    case 47:
      T.x87Trig2(0);
      break;
    default:
      unreachable();
  }
}
/** Distance in units of the last place of two 80-bit values (large if the signs or classes differ). */
function ulps(m0: u64, e0: u32, m1: u64, e1: u32): u64 {
  if (e0 == e1) return m0 > m1 ? m0 - m1 : m1 - m0;
  if (e0 + 1 == e1) return m1 - 0x8000000000000000 + (0 - m0) < 1000 ? 1 : ~(<u64>0);
  if (e1 + 1 == e0) return m0 - 0x8000000000000000 + (0 - m1) < 1000 ? 1 : ~(<u64>0);
  return ~(<u64>0);
}
export let worst: u64 = 0;
export let worstAt: i32 = -1;

/** Index of the first differing record from `from` on, or −1. Actual values at 0x300100: r0, r1, mem, status, tags. */
export function checkX87(base: u32, count: i32, from: i32, tolerance: u64): i32 {
  for (let i = from; i < count; i++) {
    const p = <usize>base + <usize>i * REC;
    const op = load<i32>(p);
    store<u32>(FPS_FCW, 0x37f);
    store<u32>(FPS_FSW, 0);
    store<u32>(FPS_FTW, 0);
    memory.fill(FPS_FPR, 0, 128);
    X.x87Fld80(load<u64>(p, 24), <u32>load<u16>(p, 32));
    X.x87Fld80(load<u64>(p, 8), <u32>load<u16>(p, 16));
    X.x87Ldcw(load<u32>(p, 4));
    memory.fill(MEM, 0xa5, 16);
    x87op(op, p);
    const st = load<u32>(FPS_FSW),
      tags = load<u32>(FPS_FTW);
    const q0 = X.slot(0),
      q1 = X.slot(1);
    memory.copy(0x300100, q0, 16);
    memory.copy(0x300110, q1, 16);
    memory.copy(0x300120, MEM, 16);
    store<u32>(0x300130, st);
    store<u32>(0x300134, tags);
    let ok: bool;
    if (tolerance == 0) {
      ok =
        load<u64>(q0) == load<u64>(p, 40) &&
        load<u16>(q0, 8) == load<u16>(p, 48) &&
        load<u64>(q1) == load<u64>(p, 56) &&
        load<u16>(q1, 8) == load<u16>(p, 64) &&
        load<u64>(MEM) == load<u64>(p, 72) &&
        load<u16>(MEM, 8) == load<u16>(p, 80) &&
        st == load<u32>(p, 88) &&
        tags == load<u32>(p, 92);
    } else {
      const d0 = ulps(load<u64>(q0), <u32>load<u16>(q0, 8), load<u64>(p, 40), <u32>load<u16>(p, 48));
      const d1 = ulps(load<u64>(q1), <u32>load<u16>(q1, 8), load<u64>(p, 56), <u32>load<u16>(p, 64));
      const d = d0 > d1 ? d0 : d1;
      ok = d <= tolerance && ((st ^ load<u32>(p, 88)) & 0xfddf) == 0 && tags == load<u32>(p, 92);
      if (ok && d > worst) {
        worst = d;
        worstAt = i;
      }
    }
    if (!ok) return i;
  }
  return -1;
}

function sse(op: i32, p: usize): i32 {
  const a = load<u64>(p, 8),
    b = load<u64>(p, 24);
  memory.copy(FPS_RESULT, p + 8, 16);
  memory.copy(FPS_ARGS, p + 8, 32);
  if (op < 16) return S.sseOp32(op, <u32>a, <u32>b);
  if (op < 32) return S.sseOp64(op - 16, a, b);
  if (op < 40) return S.sseCmp32(op - 32, <u32>a, <u32>b);
  if (op < 48) return S.sseCmp64(op - 40, a, b);
  if (op >= 80 && op < 87) return S.sseTestVec(0, op - 80, 0, 0);
  if (op >= 87 && op < 96) return S.sseTestVec(1, op - 87, 0, 0);
  if (op >= 96 && op < 104) return S.sseTestVec(2, op - 96, 0, 0);
  if (op >= 104 && op < 112) return S.sseTestVec(3, op - 104, 0, 0);
  switch (op) {
    case 48:
      return S.sseComi32(1, <u32>a, <u32>b);
    case 49:
      return S.sseComi32(0, <u32>a, <u32>b);
    case 50:
      return S.sseComi64(1, a, b);
    case 51:
      return S.sseComi64(0, a, b);
    case 52:
      return S.sseSs2Sd(<u32>b);
    case 53:
      return S.sseSd2Ss(b);
    case 54:
      return S.sseToInt32(<u32>b, 32, 0);
    case 55:
      return S.sseToInt32(<u32>b, 32, 1);
    case 56:
      return S.sseToInt32(<u32>b, 64, 0);
    case 57:
      return S.sseToInt32(<u32>b, 64, 1);
    case 58:
      return S.sseToInt64(b, 32, 0);
    case 59:
      return S.sseToInt64(b, 32, 1);
    case 60:
      return S.sseToInt64(b, 64, 0);
    case 61:
      return S.sseToInt64(b, 64, 1);
    case 62:
      return S.sseFromInt32(<i64>b);
    case 63:
      return S.sseFromInt64(<i64>b);
    case 64:
    case 65:
    case 66:
    case 67:
    case 68:
      return S.sseRound32(<u32>b, op - 64);
    case 69:
    case 70:
    case 71:
    case 72:
    case 73:
      return S.sseRound64(b, op - 69);
    case 74:
      return S.sseRound64(b, 12);
    case 112:
      return S.sseTestVec(4, 2, 0, 0);
    case 113:
      return S.sseTestVec(5, 2, 0, 0);
    case 114:
      return S.sseTestVec(6, 0xf1, 0, 0);
    case 115:
      return S.sseTestVec(7, 0x33, 0, 0);
    case 116:
      return S.sseTestVec(6, 0x75, 0, 0);
  }
  return -1;
}
export function checkSse(base: u32, count: i32, from: i32): i32 {
  store<u64>(FPS_CR4, 0x400);
  for (let i = from; i < count; i++) {
    const p = <usize>base + <usize>i * REC;
    const op = load<i32>(p);
    store<u32>(FPS_MXCSR, load<u32>(p, 4));
    store<u32>(FPS_FLAGS, 0);
    store<u32>(FPS_EXIT_VECTOR, 0);
    const st = sse(op, p);
    const m = load<u32>(FPS_MXCSR);
    memory.copy(0x300100, FPS_RESULT, 16);
    store<u32>(0x300130, m);
    store<u32>(0x300134, st);
    let ok = m == load<u32>(p, 88) && st == load<i32>(p, 92);
    if (ok && st == 0) {
      if (op >= 48 && op < 52) ok = load<u32>(FPS_FLAGS) == load<u32>(p, 96);
      else if (op >= 54 && op < 62) {
        ok =
          load<u64>(FPS_RESULT) == load<u64>(p, 56) ||
          ((op < 56 || op == 58 || op == 59) && load<u32>(FPS_RESULT) == load<u32>(p, 56));
      } else ok = load<u64>(FPS_RESULT) == load<u64>(p, 40) && load<u64>(FPS_RESULT, 8) == load<u64>(p, 48);
    } else if (ok) ok = load<u32>(FPS_EXIT_VECTOR) == 19;
    if (!ok) return i;
  }
  return -1;
}
