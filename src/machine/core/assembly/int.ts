/**
 * Helpers of the integer instructions: 128-bit division, CRC-32C, and repeated string instructions.
 *
 * The string helpers work on the registers in the state block and keep them true whenever they return: 0 done; 1 a fault is recorded
 * and the registers are those of the faulting iteration; 2 the work of one go is spent (start the instruction again).
 * Plain pages are worked on directly; everything else goes element by element through the MMU.
 */
import { EFL, EXIT_REASON, SCRATCH } from "../generated/layout";
import { commitW, pageR, pageW, translateR, translateW } from "./mmu";
import { RAX, RCX, RDI, RSI } from "./registers";

const DF: u32 = 0x400;

const DONE: i32 = 0;
const FAULT: i32 = 1;
const AGAIN: i32 = 2;
/** Bytes that one call may work through. */
const WORK: i32 = 65536;

// ---- division ----

/** Quotient of hi:lo / d, hi < d: Knuth's algorithm D with two 32-bit digits (Hacker's Delight, divlu). */
export function div128(hi: u64, lo: u64, d: u64): u64 {
  const s = clz(d);
  d <<= s;
  const d1 = d >> 32;
  const d0 = d & 0xffffffff;
  const n: u64 = s == 0 ? hi : (hi << s) | (lo >> (64 - s));
  const l = lo << s;
  const l1 = l >> 32;
  const l0 = l & 0xffffffff;
  let q1 = n / d1;
  let r = n - q1 * d1;
  while (q1 >> 32 != 0 || q1 * d0 > ((r << 32) | l1)) {
    q1--;
    r += d1;
    if (r >> 32 != 0) break;
  }
  const m = ((n << 32) | l1) - q1 * d;
  let q0 = m / d1;
  r = m - q0 * d1;
  while (q0 >> 32 != 0 || q0 * d0 > ((r << 32) | l0)) {
    q0--;
    r += d1;
    if (r >> 32 != 0) break;
  }
  return (q1 << 32) + q0;
}

/** Signed quotient to SCRATCH; 1 if it does not fit. `d` is not zero. */
export function idiv128(hi: u64, lo: u64, d: u64): i32 {
  const negative = <i64>hi < 0;
  if (negative) {
    lo = 0 - lo;
    hi = ~hi + u64(lo == 0);
  }
  const opposite = negative != <i64>d < 0;
  const divisor: u64 = <i64>d < 0 ? 0 - d : d;
  if (hi >= divisor) return 1;
  const q = div128(hi, lo, divisor);
  if (q > 0x7fffffffffffffff + u64(opposite)) return 1;
  store<u64>(SCRATCH, opposite ? 0 - q : q);
  return 0;
}

// ---- CRC-32C ----

const crcTable: usize = memory.data(1024, 16);
let crcReady: bool = false;

function crcInit(): void {
  for (let i: u32 = 0; i < 256; i++) {
    let c = i;
    for (let k = 0; k < 8; k++) c = (c >>> 1) ^ (0x82f63b78 & (0 - (c & 1)));
    store<u32>(crcTable + (i << 2), c);
  }
  crcReady = true;
}

export function crc32(crc: u32, value: u64, bytes: i32): u32 {
  if (!crcReady) crcInit();
  for (let i = 0; i < bytes; i++) {
    crc = load<u32>(crcTable + (((crc ^ <u32>value) & 0xff) << 2)) ^ (crc >>> 8);
    value >>= 8;
  }
  return crc;
}

// ---- strings ----

// @ts-ignore: decorator
@inline
function maskOf(asize: i32): u64 {
  return asize == 8 ? ~(<u64>0) : asize == 4 ? 0xffffffff : 0xffff;
}

/** Write a counter or pointer at the address size. */
function put(at: u32, value: u64, asize: i32): void {
  if (asize == 8) store<u64>(at, value);
  else if (asize == 4) store<u64>(at, value & 0xffffffff);
  else store<u16>(at, <u16>value);
}

// @ts-ignore: decorator
@inline
function get(host: u32, size: i32): u64 {
  if (size == 1) return load<u8>(host);
  if (size == 2) return load<u16>(host);
  if (size == 4) return load<u32>(host);
  return load<u64>(host);
}
// @ts-ignore: decorator
@inline
function set(host: u32, size: i32, value: u64): void {
  if (size == 1) store<u8>(host, <u8>value);
  else if (size == 2) store<u16>(host, <u16>value);
  else if (size == 4) store<u32>(host, <u32>value);
  else store<u64>(host, value);
}

/** Bytes from `va` to the end of its page, and of the offset's range. */
// @ts-ignore: decorator
@inline
function room(va: u64, offset: u64, mask: u64): i32 {
  const page: u64 = 4096 - (va & 4095);
  const left = mask - offset;
  return <i32>(left < page - 1 ? left + 1 : page);
}

// @ts-ignore: decorator
@inline
function again(): i32 {
  store<u32>(EXIT_REASON, 0);
  return AGAIN;
}

/** Forward copy of `n` bytes, element by element where the destination overlaps the source ahead of it. */
function copyForward(dst: u32, src: u32, n: u32, size: i32): void {
  if (dst - src >= n) {
    memory.copy(dst, src, n);
    return;
  }
  if (dst == src) return;
  const end = src + n;
  if (size == 1) {
    for (; src != end; src++, dst++) store<u8>(dst, load<u8>(src));
  } else {
    for (; src != end; src += size, dst += size) set(dst, size, get(src, size));
  }
}

export function repMovs(shape: i32, srcBase: u64, dstBase: u64): i32 {
  const size = shape & 15;
  const asize = (shape >> 4) & 15;
  const mask = maskOf(asize);
  let count = load<u64>(RCX) & mask;
  if (count == 0) return DONE;
  const first = count;
  let si = load<u64>(RSI) & mask;
  let di = load<u64>(RDI) & mask;
  const backward = (load<u32>(EFL) & DF) != 0;
  const step: u64 = backward ? 0 - <u64>size : <u64>size;
  let work = WORK;
  let status = DONE;
  while (count != 0) {
    if (work <= 0) {
      status = again();
      break;
    }
    const src = srcBase + si;
    const dst = dstBase + di;
    if (!backward) {
      const bytes = min(min(room(src, si, mask), room(dst, di, mask)), work);
      let n: u64 = <u64>bytes / <u64>size;
      if (n > count) n = count;
      if (n != 0) {
        const hs = pageR(src);
        const hd = hs != 0 ? pageW(dst) : 0;
        if (hd != 0) {
          const len = <u32>n * <u32>size;
          copyForward(hd, hs, len, size);
          count -= n;
          si = (si + len) & mask;
          di = (di + len) & mask;
          work -= <i32>len;
          continue;
        }
      }
    }
    const hs = translateR(src, size);
    if (hs == 0) {
      status = FAULT;
      break;
    }
    const value = get(hs, size);
    const hd = translateW(dst, size);
    if (hd == 0) {
      status = FAULT;
      break;
    }
    set(hd, size, value);
    commitW();
    count--;
    si = (si + step) & mask;
    di = (di + step) & mask;
    work -= 16 + size;
  }
  // A fault of the first element leaves the registers whole, their upper halves too.
  if (count == first) return status;
  put(RCX, count, asize);
  put(RSI, si, asize);
  put(RDI, di, asize);
  return status;
}

export function repStos(shape: i32, dstBase: u64): i32 {
  const size = shape & 15;
  const asize = (shape >> 4) & 15;
  const mask = maskOf(asize);
  let count = load<u64>(RCX) & mask;
  if (count == 0) return DONE;
  const first = count;
  let di = load<u64>(RDI) & mask;
  const value = load<u64>(RAX);
  const backward = (load<u32>(EFL) & DF) != 0;
  const step: u64 = backward ? 0 - <u64>size : <u64>size;
  // The value in every byte of a 64-bit word, if its bytes are alike.
  const byte = value & 0xff;
  const spread = byte * 0x0101010101010101;
  const uniform = ((value ^ spread) << (64 - (size << 3))) == 0;
  let work = WORK;
  let status = DONE;
  while (count != 0) {
    if (work <= 0) {
      status = again();
      break;
    }
    const dst = dstBase + di;
    if (!backward) {
      let n: u64 = <u64>min(room(dst, di, mask), work) / <u64>size;
      if (n > count) n = count;
      if (n != 0) {
        let hd = pageW(dst);
        if (hd != 0) {
          const len = <u32>n * <u32>size;
          if (uniform) memory.fill(hd, <u8>byte, len);
          else for (const end = hd + len; hd != end; hd += size) set(hd, size, value);
          count -= n;
          di = (di + len) & mask;
          work -= <i32>len;
          continue;
        }
      }
    }
    const hd = translateW(dst, size);
    if (hd == 0) {
      status = FAULT;
      break;
    }
    set(hd, size, value);
    commitW();
    count--;
    di = (di + step) & mask;
    work -= 16 + size;
  }
  // A fault of the first element leaves the registers whole, their upper halves too.
  if (count == first) return status;
  put(RCX, count, asize);
  put(RDI, di, asize);
  return status;
}

export function repLods(shape: i32, srcBase: u64): i32 {
  const size = shape & 15;
  const asize = (shape >> 4) & 15;
  const mask = maskOf(asize);
  let count = load<u64>(RCX) & mask;
  if (count == 0) return DONE;
  const first = count;
  let si = load<u64>(RSI) & mask;
  const step: u64 = (load<u32>(EFL) & DF) != 0 ? 0 - <u64>size : <u64>size;
  let work = WORK;
  let status = DONE;
  while (count != 0) {
    if (work <= 0) {
      status = again();
      break;
    }
    const hs = translateR(srcBase + si, size);
    if (hs == 0) {
      status = FAULT;
      break;
    }
    const value = get(hs, size);
    if (size == 4) store<u64>(RAX, value);
    else set(RAX, size, value);
    count--;
    si = (si + step) & mask;
    work -= 8;
  }
  // A fault of the first element leaves the registers whole, their upper halves too.
  if (count == first) return status;
  put(RCX, count, asize);
  put(RSI, si, asize);
  return status;
}

/** Did the repetition end with this pair? `rep` 1: while equal, 2: while different. */
// @ts-ignore: decorator
@inline
function ends(a: u64, b: u64, rep: i32): bool {
  return (a == b) == (rep == 2);
}

/** The last pair compared, for the flags: SCRATCH = 1, then the two values. */
function keepPair(a: u64, b: u64): void {
  store<u32>(SCRATCH, 1);
  store<u64>(SCRATCH + 8, a);
  store<u64>(SCRATCH + 16, b);
}

export function repCmps(shape: i32, srcBase: u64, dstBase: u64, rep: i32): i32 {
  const size = shape & 15;
  const asize = (shape >> 4) & 15;
  const mask = maskOf(asize);
  store<u32>(SCRATCH, 0);
  let count = load<u64>(RCX) & mask;
  if (count == 0) return DONE;
  const first = count;
  let si = load<u64>(RSI) & mask;
  let di = load<u64>(RDI) & mask;
  const backward = (load<u32>(EFL) & DF) != 0;
  const step: u64 = backward ? 0 - <u64>size : <u64>size;
  let work = WORK;
  let status = DONE;
  for (;;) {
    const src = srcBase + si;
    const dst = dstBase + di;
    if (!backward) {
      const bytes = min(min(room(src, si, mask), room(dst, di, mask)), work);
      let n: u64 = <u64>bytes / <u64>size;
      if (n > count) n = count;
      if (n != 0) {
        let hs = pageR(src);
        let hd = hs != 0 ? pageR(dst) : 0;
        if (hd != 0) {
          const start = hs;
          const end = hs + <u32>n * <u32>size;
          // Equal stretches eight bytes at a time; the last word is left for the loop below.
          if (rep == 1) {
            while (hs + 16 <= end && load<u64>(hs) == load<u64>(hd)) {
              hs += 8;
              hd += 8;
            }
          }
          let a: u64 = 0;
          let b: u64 = 0;
          let stop = false;
          while (hs != end && !stop) {
            a = get(hs, size);
            b = get(hd, size);
            hs += size;
            hd += size;
            stop = ends(a, b, rep);
          }
          const len = hs - start;
          count -= <u64>(len / <u32>size);
          si = (si + len) & mask;
          di = (di + len) & mask;
          work -= <i32>len;
          if (stop || count == 0) {
            keepPair(a, b);
            break;
          }
          if (work <= 0) {
            status = again();
            break;
          }
          continue;
        }
      }
    }
    const hs = translateR(src, size);
    if (hs == 0) {
      status = FAULT;
      break;
    }
    const a = get(hs, size);
    const hd = translateR(dst, size);
    if (hd == 0) {
      status = FAULT;
      break;
    }
    const b = get(hd, size);
    count--;
    si = (si + step) & mask;
    di = (di + step) & mask;
    work -= 16 + size;
    if (ends(a, b, rep) || count == 0) {
      keepPair(a, b);
      break;
    }
    if (work <= 0) {
      status = again();
      break;
    }
  }
  // A fault of the first element leaves the registers whole, their upper halves too.
  if (count == first) return status;
  put(RCX, count, asize);
  put(RSI, si, asize);
  put(RDI, di, asize);
  return status;
}

export function repScas(shape: i32, dstBase: u64, rep: i32): i32 {
  const size = shape & 15;
  const asize = (shape >> 4) & 15;
  const mask = maskOf(asize);
  store<u32>(SCRATCH, 0);
  let count = load<u64>(RCX) & mask;
  if (count == 0) return DONE;
  const first = count;
  let di = load<u64>(RDI) & mask;
  const a = load<u64>(RAX) & (size == 8 ? ~(<u64>0) : (<u64>1 << (size << 3)) - 1);
  const backward = (load<u32>(EFL) & DF) != 0;
  const step: u64 = backward ? 0 - <u64>size : <u64>size;
  let work = WORK;
  let status = DONE;
  for (;;) {
    const dst = dstBase + di;
    if (!backward) {
      let n: u64 = <u64>min(room(dst, di, mask), work) / <u64>size;
      if (n > count) n = count;
      if (n != 0) {
        let hd = pageR(dst);
        if (hd != 0) {
          const start = hd;
          const end = hd + <u32>n * <u32>size;
          let b: u64 = 0;
          let stop = false;
          while (hd != end && !stop) {
            b = get(hd, size);
            hd += size;
            stop = ends(a, b, rep);
          }
          const len = hd - start;
          count -= <u64>(len / <u32>size);
          di = (di + len) & mask;
          work -= <i32>len;
          if (stop || count == 0) {
            keepPair(a, b);
            break;
          }
          if (work <= 0) {
            status = again();
            break;
          }
          continue;
        }
      }
    }
    const hd = translateR(dst, size);
    if (hd == 0) {
      status = FAULT;
      break;
    }
    const b = get(hd, size);
    count--;
    di = (di + step) & mask;
    work -= 16 + size;
    if (ends(a, b, rep) || count == 0) {
      keepPair(a, b);
      break;
    }
    if (work <= 0) {
      status = again();
      break;
    }
  }
  // A fault of the first element leaves the registers whole, their upper halves too.
  if (count == first) return status;
  put(RCX, count, asize);
  put(RDI, di, asize);
  return status;
}
