/**
 * IEEE 754 arithmetic on 32-, 64- and 80-bit binary floating point, with rounding modes and the six exception flags, as x86 does
 * it (SDM vol. 1, ch. 4 and 8; tininess is detected after rounding).
 *
 * One intermediate form serves all formats: a finite value is (−1)^S · (H:L) · 2^(E−127) with bit 63 of H set (H:L 128 bits), so
 * E is the exponent of the leading bit. L's lowest bits may be a sticky summary. Results are kept in globals (`rS rE rH rL`)
 * because AssemblyScript has no multiple returns and nothing here may allocate.
 */

// Exception flags at their FSW/MXCSR positions.
export const IE: u32 = 1;
export const DE: u32 = 2;
export const ZE: u32 = 4;
export const OE: u32 = 8;
export const UE: u32 = 16;
export const PE: u32 = 32;

// Classes.
export const ZERO: i32 = 0;
export const FINITE: i32 = 1;
export const INF: i32 = 2;
export const QNAN: i32 = 3;
export const SNAN: i32 = 4;
/** Unnormals, pseudo-infinities and pseudo-NaNs of the 80-bit format. */
export const UNSUP: i32 = 5;

// Rounding control.
export const RN: u32 = 0;
export const RD: u32 = 1;
export const RU: u32 = 2;
export const RZ: u32 = 3;

/** Flags raised so far by the operation; the environment: rounding, masked exceptions (bit set = masked), FTZ, DAZ. */
export let fl: u32 = 0;
export let rc: u32 = 0;
export let masks: u32 = 0x3f;
export let ftz: bool = false;
export let daz: bool = false;
/** The last rounding went away from zero (x87's C1). */
export let up: bool = false;

export function setEnv(rounding: u32, masked: u32, flushToZero: bool, denormalsAreZero: bool): void {
  fl = 0;
  rc = rounding;
  masks = masked;
  ftz = flushToZero;
  daz = denormalsAreZero;
  up = false;
}
export function raiseFlags(f: u32): void {
  fl |= f;
}
export function dropFlags(f: u32): void {
  fl &= ~f;
}
export function setRc(r: u32): void {
  rc = r;
}
export function setUp(v: bool): void {
  up = v;
}

// Operands A and B: class, sign, exponent, mantissa (bit 63 set unless zero), "was denormal".
export let aC: i32 = 0;
export let aS: u32 = 0;
export let aE: i32 = 0;
export let aM: u64 = 0;
export let aD: bool = false;
export let bC: i32 = 0;
export let bS: u32 = 0;
export let bE: i32 = 0;
export let bM: u64 = 0;
export let bD: bool = false;

// Result.
export let rS: u32 = 0;
export let rE: i32 = 0;
export let rH: u64 = 0;
export let rL: u64 = 0;

export function setA(c: i32, s: u32, e: i32, m: u64): void {
  aC = c;
  aS = s;
  aE = e;
  aM = m;
  aD = false;
}
export function setB(c: i32, s: u32, e: i32, m: u64): void {
  bC = c;
  bS = s;
  bE = e;
  bM = m;
  bD = false;
}
export function setR(s: u32, e: i32, h: u64, l: u64): void {
  rS = s;
  rE = e;
  rH = h;
  rL = l;
}
export function copyAB(): void {
  bC = aC;
  bS = aS;
  bE = aE;
  bM = aM;
  bD = aD;
}
export function swapAB(): void {
  const c = aC,
    s = aS,
    e = aE,
    m = aM,
    d = aD;
  aC = bC;
  aS = bS;
  aE = bE;
  aM = bM;
  aD = bD;
  bC = c;
  bS = s;
  bE = e;
  bM = m;
  bD = d;
}

/** High half of a 64 × 64 product (low half is `a * b`). */
// @ts-ignore: decorator
@inline
export function mulhi(a: u64, b: u64): u64 {
  const al = a & 0xffffffff,
    ah = a >> 32,
    bl = b & 0xffffffff,
    bh = b >> 32;
  const ll = al * bl,
    lh = al * bh,
    hl = ah * bl,
    hh = ah * bh;
  const mid = (ll >> 32) + (lh & 0xffffffff) + (hl & 0xffffffff);
  return hh + (lh >> 32) + (hl >> 32) + (mid >> 32);
}

/** Remainder of the last `div128`. */
export let divRem: u64 = 0;
/** (hi:lo) / d for hi < d and d with bit 63 set (Knuth D in base 2^32). */
export function div128(hi: u64, lo: u64, d: u64): u64 {
  const dh = d >> 32,
    dl = d & 0xffffffff;
  let q1 = hi / dh;
  let r = hi - q1 * dh;
  const l1 = lo >> 32,
    l0 = lo & 0xffffffff;
  while (q1 > 0xffffffff || q1 * dl > ((r << 32) | l1)) {
    q1--;
    r += dh;
    if (r > 0xffffffff) break;
  }
  const mid = ((hi << 32) | l1) - q1 * d;
  let q0 = mid / dh;
  r = mid - q0 * dh;
  while (q0 > 0xffffffff || q0 * dl > ((r << 32) | l0)) {
    q0--;
    r += dh;
    if (r > 0xffffffff) break;
  }
  divRem = ((mid << 32) | l0) - q0 * d;
  return (q1 << 32) | q0;
}

// ---------------------------------------------------------------------------------------------- unpacking

export function unpack32(x: u32): void {
  const e = (x >> 23) & 0xff;
  const f = x & 0x7fffff;
  aS = x >> 31;
  aD = false;
  if (e == 0) {
    if (f == 0) {
      aC = ZERO;
      aM = 0;
      aE = 0;
    } else if (daz) {
      aC = ZERO;
      aM = 0;
      aE = 0;
    } else {
      const n = clz<u32>(f);
      aC = FINITE;
      aM = (<u64>f) << (32 + n);
      aE = -118 - <i32>n; // leading bit 31−n of f counts 2^(31−n−149)
      aD = true;
    }
  } else if (e == 0xff) {
    aM = ((<u64>f) << 40) | 0x8000000000000000;
    aE = 0;
    aC = f == 0 ? INF : (f & 0x400000) != 0 ? QNAN : SNAN;
  } else {
    aC = FINITE;
    aE = <i32>e - 127;
    aM = ((<u64>f) << 40) | 0x8000000000000000;
  }
}
export function unpack64(x: u64): void {
  const e = <i32>((x >> 52) & 0x7ff);
  const f = x & 0xfffffffffffff;
  aS = <u32>(x >> 63);
  aD = false;
  if (e == 0) {
    if (f == 0 || daz) {
      aC = ZERO;
      aM = 0;
      aE = 0;
    } else {
      const n = clz<u64>(f);
      aC = FINITE;
      aM = f << n;
      aE = -1011 - <i32>n; // leading bit 63−n of f counts 2^(63−n−1074)
      aD = true;
    }
  } else if (e == 0x7ff) {
    aM = (f << 11) | 0x8000000000000000;
    aE = 0;
    aC = f == 0 ? INF : (f & 0x8000000000000) != 0 ? QNAN : SNAN;
  } else {
    aC = FINITE;
    aE = e - 1023;
    aM = (f << 11) | 0x8000000000000000;
  }
}
export function unpack80(m: u64, se: u32): void {
  const e = <i32>(se & 0x7fff);
  aS = (se >> 15) & 1;
  aD = false;
  aM = m;
  if (e == 0) {
    if (m == 0) {
      aC = ZERO;
      aE = 0;
    } else {
      const n = clz<u64>(m);
      aC = FINITE;
      aM = m << n;
      aE = -16382 - <i32>n;
      aD = true;
    }
  } else if (m >> 63 == 0) {
    aC = UNSUP;
    aE = 0;
  } else if (e == 0x7fff) {
    aE = 0;
    aC = m << 1 == 0 ? INF : (m & 0x4000000000000000) != 0 ? QNAN : SNAN;
  } else {
    aC = FINITE;
    aE = e - 16383;
  }
}

// ---------------------------------------------------------------------------------------------- rounding

/** rH:rL >>= n, jamming what is lost into the lowest bit. */
function shiftRightJam(n: i32): void {
  if (n <= 0) return;
  if (n < 64) {
    const lost = rL << (64 - n);
    rL = (rL >> n) | (rH << (64 - n)) | <u64>(lost != 0);
    rH >>= n;
  } else if (n < 128) {
    const k = n - 64;
    const lost = k == 0 ? rL : rL | (rH << (64 - k));
    rL = (k == 0 ? rH : rH >> k) | <u64>(lost != 0);
    rH = 0;
  } else {
    rL = <u64>((rH | rL) != 0);
    rH = 0;
  }
}

/** Would the value round away from zero at precision p, and is it inexact? Sets `inexact`. */
let inexact: bool = false;
function roundsUp(p: i32, h: u64, l: u64): bool {
  let rest: u64, sticky: bool, odd: bool;
  if (p == 64) {
    rest = l;
    sticky = false;
    odd = (h & 1) != 0;
  } else {
    rest = h << p;
    sticky = l != 0;
    odd = ((h >> (64 - p)) & 1) != 0;
  }
  inexact = rest != 0 || sticky;
  if (!inexact) return false;
  if (rc == RN) return rest > 0x8000000000000000 || (rest == 0x8000000000000000 && (sticky || odd));
  if (rc == RD) return rS != 0;
  if (rc == RU) return rS == 0;
  return false;
}
/** Round rH:rL to its top p bits, in place (rL = 0); a carry out raises rE. */
function roundTo(p: i32): void {
  const u = roundsUp(p, rH, rL);
  const ulp: u64 = (<u64>1) << (64 - p);
  up = u;
  rH = p == 64 ? rH : rH & ~(ulp - 1);
  rL = 0;
  if (u) {
    rH += ulp;
    if (rH == 0) {
      rH = 0x8000000000000000;
      rE++;
    }
  }
}

/** What `finish` found: 0 normal, 1 denormal or zero (rH is the field, not normalised), 2 overflow to infinity, 3 to the largest. */
export const NORMAL: i32 = 0;
export const TINY: i32 = 1;
export const TO_INF: i32 = 2;
export const TO_MAX: i32 = 3;

/**
 * Round the result to precision p within exponents emin…emax and note OE, UE, PE. With `adjust` ≠ 0 an unmasked overflow or
 * underflow wraps the exponent by it (x87 registers); with 0 the value is not used after such an exception.
 */
export function finish(p: i32, emin: i32, emax: i32, adjust: i32): i32 {
  if (rE < emin) {
    // Tiny unless rounding with an unbounded exponent carries to the smallest normal.
    let tiny = true;
    if (rE == emin - 1) {
      const u = roundsUp(p, rH, rL);
      if (u && (p == 64 ? rH == 0xffffffffffffffff : rH >> (64 - p) == 0xffffffffffffffff >> (64 - p))) tiny = false;
    }
    if (tiny && (masks & UE) == 0) {
      fl |= UE;
      rE += adjust;
      if (adjust != 0 && rE < emin) {
        // Only fscale gets so low that the scaled value is tiny as well: zero.
        fl |= PE;
        rH = 0;
        up = false;
        return TINY;
      }
      roundTo(p);
      if (inexact) fl |= PE;
      return NORMAL;
    }
    if (tiny && ftz) {
      fl |= UE | PE;
      rH = 0;
      up = false;
      return TINY;
    }
    shiftRightJam(emin - rE);
    rE = emin;
    roundTo(p);
    if (inexact) fl |= tiny ? UE | PE : PE;
    return rH >> 63 != 0 ? NORMAL : TINY;
  }
  roundTo(p);
  if (rE > emax) {
    fl |= OE;
    if ((masks & OE) == 0 && (adjust == 0 || rE - adjust <= emax)) {
      rE -= adjust;
      if (inexact) fl |= PE;
      return NORMAL;
    }
    fl |= PE;
    const toInf = (masks & OE) == 0 || rc == RN || (rc == RD && rS != 0) || (rc == RU && rS == 0);
    up = toInf;
    return toInf ? TO_INF : TO_MAX;
  }
  if (inexact) fl |= PE;
  return NORMAL;
}

export function pack32(): u32 {
  const s = rS << 31;
  const k = finish(24, -126, 127, 0);
  if (k == NORMAL) return s | ((<u32>(rE + 127) & 0xff) << 23) | (<u32>(rH >> 40) & 0x7fffff);
  if (k == TINY) return s | <u32>(rH >> 40);
  return s | (k == TO_INF ? 0x7f800000 : 0x7f7fffff);
}
export function pack64(): u64 {
  const s = (<u64>rS) << 63;
  const k = finish(53, -1022, 1023, 0);
  if (k == NORMAL) return s | (<u64>((rE + 1023) & 0x7ff) << 52) | ((rH >> 11) & 0xfffffffffffff);
  if (k == TINY) return s | (rH >> 11);
  return s | (k == TO_INF ? 0x7ff0000000000000 : 0x7fefffffffffffff);
}
/** Result of an 80-bit operation: mantissa in rH, sign and exponent returned. */
export function pack80(p: i32): u32 {
  const s = rS << 15;
  const k = finish(p, -16382, 16383, 24576);
  if (k == NORMAL) return s | <u32>((rE + 16383) & 0x7fff);
  if (k == TINY) return s;
  if (k == TO_INF) {
    rH = 0x8000000000000000;
    return s | 0x7fff;
  }
  rH = p == 64 ? 0xffffffffffffffff : ~((<u64>1 << (64 - p)) - 1);
  return s | 0x7ffe;
}

// ---------------------------------------------------------------------------------------------- arithmetic

/** Outcome of an operation on non-NaN operands. */
export const R_FINITE: i32 = 0;
export const R_ZERO: i32 = 1;
export const R_INF: i32 = 2;
export const R_INVALID: i32 = 3;

/** A + B, or A − B. The sign of the result is in rS. */
export function opAdd(subtract: bool): i32 {
  const bs = bS ^ <u32>subtract;
  if (aC == INF) {
    if (bC == INF && aS != bs) return R_INVALID;
    rS = aS;
    return R_INF;
  }
  if (bC == INF) {
    rS = bs;
    return R_INF;
  }
  if (aC == ZERO) {
    if (bC == ZERO) {
      rS = aS == bs ? aS : <u32>(rc == RD);
      return R_ZERO;
    }
    setR(bs, bE, bM, 0);
    return R_FINITE;
  }
  if (bC == ZERO) {
    setR(aS, aE, aM, 0);
    return R_FINITE;
  }
  let bigM = aM,
    bigE = aE,
    bigS = aS,
    smallM = bM,
    smallE = bE;
  if (bE > aE || (bE == aE && bM > aM)) {
    bigM = bM;
    bigE = bE;
    bigS = bs;
    smallM = aM;
    smallE = aE;
  }
  setR(bigS, bigE, smallM, 0);
  shiftRightJam(bigE - smallE);
  if (aS == bs) {
    const sum = bigM + rH;
    if (sum < bigM) {
      rL = (rL >> 1) | (rL & 1) | (sum << 63);
      rH = (sum >> 1) | 0x8000000000000000;
      rE++;
    } else rH = sum;
    return R_FINITE;
  }
  const l: u64 = 0 - rL;
  let h = bigM - rH - <u64>(rL != 0);
  let lo = l;
  if ((h | lo) == 0) {
    rS = <u32>(rc == RD);
    return R_ZERO;
  }
  if (h == 0) {
    h = lo;
    lo = 0;
    rE -= 64;
  }
  const n = <i32>clz<u64>(h);
  if (n > 0) {
    h = (h << n) | (lo >> (64 - n));
    lo <<= n;
    rE -= n;
  }
  rH = h;
  rL = lo;
  return R_FINITE;
}

export function opMul(): i32 {
  rS = aS ^ bS;
  if (aC == INF || bC == INF) return aC == ZERO || bC == ZERO ? R_INVALID : R_INF;
  if (aC == ZERO || bC == ZERO) return R_ZERO;
  rE = aE + bE + 1;
  rH = mulhi(aM, bM);
  rL = aM * bM;
  if (rH >> 63 == 0) {
    rH = (rH << 1) | (rL >> 63);
    rL <<= 1;
    rE--;
  }
  return R_FINITE;
}

/** A / B; notes ZE. */
export function opDiv(): i32 {
  rS = aS ^ bS;
  if (aC == INF) return bC == INF ? R_INVALID : R_INF;
  if (bC == INF) return R_ZERO;
  if (bC == ZERO) {
    if (aC == ZERO) return R_INVALID;
    fl |= ZE;
    return R_INF;
  }
  if (aC == ZERO) return R_ZERO;
  if (aM >= bM) {
    rE = aE - bE;
    rH = div128(aM >> 1, aM << 63, bM);
  } else {
    rE = aE - bE - 1;
    rH = div128(aM, 0, bM);
  }
  const rem = divRem;
  if (rem == 0) rL = 0;
  else {
    const other = bM - rem; // rem ? bM/2
    rL = rem > other ? 0xc000000000000000 : rem == other ? 0x8000000000000000 : 0x4000000000000000;
  }
  return R_FINITE;
}

/** √A. */
export function opSqrt(): i32 {
  rS = aS;
  if (aC == ZERO) return R_ZERO;
  if (aS != 0) return R_INVALID;
  if (aC == INF) return R_INF;
  let hi: u64, lo: u64;
  if ((aE & 1) != 0) {
    hi = aM;
    lo = 0;
  } else {
    hi = aM >> 1;
    lo = aM << 63;
  }
  rE = aE >> 1;
  // A double's root has 52 good bits; one Newton step makes 64 but for the last few units.
  const d = sqrt<f64>(<f64>hi) * 4294967296.0;
  let s: u64 = d >= 18446744073709551615.0 ? 0xffffffffffffffff : <u64>d;
  if (s < 0x8000000000000000) s = 0x8000000000000000;
  const q: u64 = hi >= s ? 0xffffffffffffffff : div128(hi, lo, s);
  s = (s >> 1) + (q >> 1) + (s & q & 1);
  if (s < 0x8000000000000000) s = 0x8000000000000000;
  // Correct to the floor: s² ≤ N < (s + 1)².
  let ph = mulhi(s, s),
    pl = s * s;
  while (ph > hi || (ph == hi && pl > lo)) {
    s--;
    ph = mulhi(s, s);
    pl = s * s;
  }
  let rl = lo - pl;
  let rh = hi - ph - <u64>(lo < pl);
  // rem > 2s: the root is one larger.
  while (rh > 1 || (rh == 1 && rl > s << 1)) {
    const t = (s << 1) | 1;
    rh = rh - <u64>(s >> 63) - <u64>(rl < t);
    rl -= t;
    s++;
  }
  rH = s;
  rL = (rh | rl) == 0 ? 0 : rh != 0 || rl > s ? 0xc000000000000000 : 0x4000000000000000;
  return R_FINITE;
}

/** −1 less, 0 equal, 1 greater; operands are not NaN. */
export function compareAB(): i32 {
  if (aC == ZERO && bC == ZERO) return 0;
  if (aC == ZERO) return bS != 0 ? 1 : -1;
  if (bC == ZERO) return aS != 0 ? -1 : 1;
  if (aS != bS) return aS != 0 ? -1 : 1;
  let m = 0;
  if (aC == INF || bC == INF) m = aC == bC ? 0 : aC == INF ? 1 : -1;
  else if (aE != bE) m = aE > bE ? 1 : -1;
  else if (aM != bM) m = aM > bM ? 1 : -1;
  return aS != 0 ? -m : m;
}

/**
 * A (finite, non-zero) as an integer rounded by `mode`: magnitude in `intMag`; `inexact` and `up` set. Returns false when the
 * magnitude needs more than 64 bits.
 */
export let intMag: u64 = 0;
export let intInexact: bool = false;
export function toInteger(mode: u32): bool {
  up = false;
  intInexact = false;
  if (aE >= 64) return false;
  if (aE == 63) {
    intMag = aM;
    return true;
  }
  let frac: u64;
  let sticky = false;
  if (aE >= 0) {
    intMag = aM >> (63 - aE);
    frac = aM << (aE + 1);
  } else if (aE == -1) {
    intMag = 0;
    frac = aM;
  } else {
    intMag = 0;
    frac = 1;
  }
  if ((frac | <u64>sticky) == 0) return true;
  intInexact = true;
  let u = false;
  if (mode == RN) u = frac > 0x8000000000000000 || (frac == 0x8000000000000000 && (intMag & 1) != 0);
  else if (mode == RD) u = aS != 0;
  else if (mode == RU) u = aS == 0;
  up = u;
  if (u) {
    intMag++;
    if (intMag == 0) return false;
  }
  return true;
}

/** A signed integer as the result to round (returns R_ZERO or R_FINITE). */
export function fromInteger(x: i64): i32 {
  if (x == 0) {
    rS = 0;
    return R_ZERO;
  }
  const m: u64 = x < 0 ? 0 - <u64>x : <u64>x;
  const n = <i32>clz<u64>(m);
  setR(<u32>(x < 0), 63 - n, m << n, 0);
  return R_FINITE;
}
