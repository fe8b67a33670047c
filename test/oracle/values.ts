/** Operand values: corners of every format, and random ones of different sizes. Written as little-endian bytes. */
import type { Random } from "./random.js";

const CORNERS: readonly (readonly [lo: number, hi: number])[] = [
  [0, 0],
  [1, 0],
  [2, 0],
  [0xffffffff, 0xffffffff],
  [0xfffffffe, 0xffffffff],
  [0x7f, 0],
  [0x80, 0],
  [0xff, 0],
  [0xffffff80, 0xffffffff],
  [0x7fff, 0],
  [0x8000, 0],
  [0xffff, 0],
  [0xffff8000, 0xffffffff],
  [0x7fffffff, 0],
  [0x80000000, 0],
  [0xffffffff, 0],
  [0x80000000, 0xffffffff],
  [0, 1],
  [0xffffffff, 0x7fffffff],
  [0, 0x80000000],
  [1, 0x80000000],
  [0x0f0f0f0f, 0x0f0f0f0f],
  [0xf0f0f0f0, 0xf0f0f0f0],
  [0x99999999, 0x99999999],
];

/** A 64-bit integer at `view[at]`. */
export function integer(r: Random, view: DataView, at: number): void {
  let lo = r.u32();
  let hi = r.u32();
  switch (r.below(8)) {
    case 0:
    case 1:
      [lo, hi] = r.pick(CORNERS);
      break;
    case 2:
      lo = r.below(256) - 128;
      hi = lo < 0 ? -1 : 0;
      break;
    case 3: {
      const bit = r.below(64);
      lo = bit < 32 ? 1 << bit : 0;
      hi = bit < 32 ? 0 : 1 << (bit - 32);
      if (r.chance(30)) {
        if (lo === 0) hi--;
        lo--;
      }
      break;
    }
    case 4:
      hi = 0;
      break;
    case 5: {
      // Different corners in the four words.
      const word = (): number => r.pick(CORNERS)[0] & 0xffff;
      lo = word() | (word() << 16);
      hi = word() | (word() << 16);
      break;
    }
    default:
      break;
  }
  view.setUint32(at, lo >>> 0, true);
  view.setUint32(at + 4, hi >>> 0, true);
}

const F32 = [
  0, 0x80000000, 0x3f800000, 0xbf800000, 0x3f000000, 0x3fc00000, 0x40200000, 1, 0x80000001, 0x7fffff, 0x807fffff, 0x800000,
  0x80800000, 0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00000, 0x7fc12345, 0x7f800001, 0xffa00000,
  0x4f000000, 0xcf000000, 0xcf000001, 0x5f000000, 0xdf000000, 0x4effffff, 0x4b000000, 0x4b7fffff, 0x40490fdb,
]; // prettier-ignore

export function float32(r: Random, view: DataView, at: number): void {
  let bits = r.u32();
  switch (r.below(4)) {
    case 0:
      bits = r.pick(F32);
      break;
    case 1: // near one
      bits = (bits & 0x807fffff) | ((127 - 8 + r.below(17)) << 23);
      break;
    case 2: // a small number of significant bits: exact and tied results
      bits = (bits & 0x80600000) | ((127 - 26 + r.below(53)) << 23);
      break;
    default:
      break;
  }
  view.setUint32(at, bits >>> 0, true);
}

const F64: readonly (readonly [lo: number, hi: number])[] = [
  [0, 0], [0, 0x80000000], [0, 0x3ff00000], [0, 0xbff00000], [0, 0x3fe00000], [0, 0x3ff80000], [0, 0x40040000], [1, 0], [1, 0x80000000],
  [0xffffffff, 0xfffff], [0, 0x100000], [0xffffffff, 0x7fefffff], [0xffffffff, 0xffefffff], [0, 0x7ff00000], [0, 0xfff00000],
  [0, 0x7ff80000], [0, 0xfff80000], [0x1234, 0x7ff80001], [1, 0x7ff00000], [0, 0xfff40000], [0, 0x41e00000], [0, 0xc1e00000],
  [0xffc00000, 0x41dfffff], [0, 0x43e00000], [0, 0xc3e00000], [0xffffffff, 0x43dfffff], [0, 0x47f00000], [0, 0x36900000],
  [0xe0000000, 0x47efffff], [0xf0000000, 0x47efffff], [0, 0x380fffff], [0x54442d18, 0x400921fb], [1, 0x43300000],
]; // prettier-ignore

export function float64(r: Random, view: DataView, at: number): void {
  let lo = r.u32();
  let hi = r.u32();
  switch (r.below(4)) {
    case 0:
      [lo, hi] = r.pick(F64);
      break;
    case 1:
      hi = (hi & 0x800fffff) | ((1023 - 8 + r.below(17)) << 20);
      break;
    case 2:
      lo = 0;
      hi = (hi & 0x800c0000) | ((1023 - 60 + r.below(121)) << 20);
      break;
    default:
      break;
  }
  view.setUint32(at, lo >>> 0, true);
  view.setUint32(at + 4, hi >>> 0, true);
}

const F80: readonly (readonly [lo: number, hi: number, exponent: number])[] = [
  [0, 0, 0], [0, 0, 0x8000], [0, 0x80000000, 0x3fff], [0, 0x80000000, 0xbfff], [0, 0x80000000, 0x3ffe], [0, 0xc0000000, 0x3fff],
  [0, 0xa0000000, 0x4000], [1, 0, 0], [1, 0, 0x8000], [0xffffffff, 0x7fffffff, 0], [0, 0x80000000, 0], [0, 0x80000000, 1],
  [0xffffffff, 0xffffffff, 0x7ffe], [0xffffffff, 0xffffffff, 0xfffe], [0, 0x80000000, 0x7fff], [0, 0x80000000, 0xffff],
  [0, 0xc0000000, 0x7fff], [0, 0xc0000000, 0xffff], [0x1234, 0xc0000001, 0x7fff], [1, 0x80000000, 0x7fff], [0, 0xa0000000, 0xffff],
  [0, 0, 0x7fff], [1, 0x40000000, 0x3fff], [0, 0, 0x3fff], [0, 0x80000000, 0x401e], [0, 0x80000000, 0xc01e], [0, 0x80000000, 0x403e],
  [0, 0x80000000, 0xc03e], [0xfffffffe, 0xffffffff, 0x403d], [0, 0x80000000, 0x43ff], [0, 0x80000000, 0x3c00], [0xfffffc00, 0xffffffff, 0x43fe],
  [0x2168c235, 0xc90fdaa2, 0x4000], [0xd1cf79ac, 0xb17217f7, 0x3ffe], [0, 0x80000000, 0x3f80], [0, 0xffffff80, 0x407e], [0, 0x80000000, 0x407f],
]; // prettier-ignore

/** Ten bytes. */
export function float80(r: Random, view: DataView, at: number): void {
  let lo = r.u32();
  let hi = r.u32() | 0x80000000;
  let exponent = r.u32() & 0xffff;
  switch (r.below(5)) {
    case 0:
      [lo, hi, exponent] = r.pick(F80);
      break;
    case 1:
      exponent = (exponent & 0x8000) | (0x3fff - 8 + r.below(17));
      break;
    case 2:
      lo = 0;
      hi &= 0xf0000000;
      exponent = (exponent & 0x8000) | (0x3fff - 70 + r.below(141));
      break;
    case 3: // what a 64-bit double can hold
      lo &= 0xfffff800;
      exponent = (exponent & 0x8000) | (0x3fff - 40 + r.below(81));
      break;
    default:
      break;
  }
  view.setUint32(at, lo >>> 0, true);
  view.setUint32(at + 4, hi >>> 0, true);
  view.setUint16(at + 8, exponent, true);
}

/** Packed decimal for fbld: nine bytes of two digits and a sign. */
export function decimal(r: Random, view: DataView, at: number): void {
  const any = r.chance(10);
  for (let i = 0; i < 9; i++) view.setUint8(at + i, any ? r.below(256) : r.below(10) | (r.below(10) << 4));
  view.setUint8(at + 9, any ? r.below(256) : r.chance(50) ? 0x80 : 0);
}
