/**
 * x87 transcendentals: f2xm1 fyl2x fyl2xp1 fsin fcos fsincos fptan fpatan.
 *
 * Values are carried as normalised 128-bit mantissas with an exponent and polynomials as 128-bit fractions, so the result before
 * the one final rounding is good to about 2^−80 relative: correctly rounded but for a case in some ten thousand. Arguments of
 * the trigonometric functions are reduced exactly by π to 66 bits, as the processors do (SDM vol. 1, 8.3.8).
 */
import {
  DE, FINITE, INF, PE, UE, ZERO,
  aC, aD, aE, aM, aS, bC, bD, bE, bM, bS, div128, mulhi, raiseFlags, setA, setR,
} from "./softfloat";
import { FPS_FSW } from "./fpstate";
import {
  begin, end, invalid, loadA, loadAB, nan1, nan2, oM, oSE, outIndef, outRounded, pop, push, put, setC1, setOut, stackOver, stackUnder,
  valid, condition, INDEF_M, INDEF_SE,
} from "./x87";
import {
  ATAN_C, ATAN_T, COS_C, EXP_C, INV_LN2_H, INV_LN2_L, LN2_H, LN2_L, LOG_C, PI_Q2_H, PI_Q2_L, SIN_C,
} from "./x87tables";

// The accumulator: a 128-bit value, as a fraction or as a mantissa with exponent `xe`.
let th: u64 = 0;
let tl: u64 = 0;
let xe: i32 = 0;

/** th:tl = (ah:al · bh:bl) >> 128. */
// @ts-ignore: decorator
@inline
function mulFrac(ah: u64, al: u64, bh: u64, bl: u64): void {
  const hl = ah * bh;
  const m1 = mulhi(ah, bl),
    m2 = mulhi(al, bh);
  let h = mulhi(ah, bh);
  let l = hl + m1;
  if (l < hl) h++;
  const l2 = l + m2;
  if (l2 < l) h++;
  th = h;
  tl = l2;
}
function normalise(): void {
  if (th == 0) {
    if (tl == 0) return;
    th = tl;
    tl = 0;
    xe -= 64;
  }
  const n = <i32>clz<u64>(th);
  if (n > 0) {
    th = (th << n) | (tl >> (64 - n));
    tl <<= n;
    xe -= n;
  }
}
/** h:l, n places down. */
function shiftRight(h: u64, l: u64, n: i32): void {
  th = 0;
  tl = 0;
  if (n >= 128) return;
  if (n >= 64) {
    l = h;
    h = 0;
    n -= 64;
  }
  if (n > 0) {
    l = (l >> n) | (h << (64 - n));
    h >>= n;
  }
  th = h;
  tl = l;
}
/** Mantissa h:l with exponent e as a fraction of 1 (e < 0), truncated. */
function toFraction(h: u64, l: u64, e: i32): void {
  shiftRight(h, l, -1 - e);
}
/** Σ ± c[i]·z^i for i < n, alternating if asked. */
function poly(table: usize, n: i32, zh: u64, zl: u64, alternate: bool): void {
  let p = table + (<usize>(n - 1) << 4);
  th = load<u64>(p);
  tl = load<u64>(p, 8);
  for (let i = n - 2; i >= 0; i--) {
    p -= 16;
    mulFrac(th, tl, zh, zl);
    const ch = load<u64>(p),
      cl = load<u64>(p, 8);
    if (alternate) {
      th = ch - th - <u64>(cl < tl);
      tl = cl - tl;
    } else {
      const l = cl + tl;
      th = ch + th + <u64>(l < cl);
      tl = l;
    }
  }
}

let qr1: u64 = 0; // remainder words of `digit`
let qr0: u64 = 0;
/** One base-2^64 digit of (u2:u1:u0) / (dh:dl), (u2:u1) < (dh:dl). */
function digit(u2: u64, u1: u64, u0: u64, dh: u64, dl: u64): u64 {
  let q: u64 = u2 >= dh ? 0xffffffffffffffff : div128(u2, u1, dh);
  // product q·D in p2:p1:p0
  let p0 = q * dl;
  const m = mulhi(q, dl);
  let p1 = q * dh + m;
  let p2 = mulhi(q, dh) + <u64>(p1 < m);
  while (p2 > u2 || (p2 == u2 && (p1 > u1 || (p1 == u1 && p0 > u0)))) {
    q--;
    const b0 = <u64>(p0 < dl);
    p0 -= dl;
    const t = p1 - dh;
    const b1 = <u64>(p1 < dh) | <u64>(t < b0);
    p1 = t - b0;
    p2 -= b1;
  }
  qr0 = u0 - p0;
  qr1 = u1 - p1 - <u64>(u0 < p0);
  return q;
}
/** th:tl, xe = (nh:nl, ne) / (dh:dl, de): normalised mantissas in, normalised out. */
function divMant(nh: u64, nl: u64, ne: i32, dh: u64, dl: u64, de: i32): void {
  xe = ne - de - 1;
  let lowest: u64 = 0;
  if (nh > dh || (nh == dh && nl >= dl)) {
    lowest = nl << 63;
    nl = (nl >> 1) | (nh << 63);
    nh >>= 1;
    xe++;
  }
  const q1 = digit(nh, nl, lowest, dh, dl);
  const q0 = digit(qr1, qr0, 0, dh, dl);
  th = q1;
  tl = q0;
}
/** Multiply two normalised mantissas. */
function mulMant(ah: u64, al: u64, ae: i32, bh: u64, bl: u64, be: i32): void {
  mulFrac(ah, al, bh, bl);
  xe = ae + be + 1;
  normalise();
}
/** Round the accumulator as an inexact result. */
function outInexact(sign: u32): void {
  setR(sign, xe, th, tl | 1);
  outRounded(64);
}

// ---------------------------------------------------------------------------------------------- sine, cosine, tangent

// Reduced argument: mantissa, exponent, sign, quadrant.
let gh: u64 = 0;
let gl: u64 = 0;
let ge: i32 = 0;
let gs: u32 = 0;
let gq: i32 = 0;
const PI66_H: u64 = 0xc90fdaa22168c234;
const PI66_L: u64 = 0xc000000000000000;

/** A (finite, non-zero, below 2^63) = quadrant · π/2 + reduced, |reduced| ≤ π/4. The sign of A is left out. */
function reduce(): void {
  gh = aM;
  gl = 0;
  ge = aE;
  gs = 0;
  gq = 0;
  if (aE < -1) return;
  let rh = aM,
    rl: u64 = 0;
  let q: u32 = 0;
  if (aE < 0) {
    rl = rh << 63;
    rh >>= 1;
  } else {
    let top = false;
    for (let i = 0; i <= aE; i++) {
      if (i > 0) {
        top = rh >> 63 != 0;
        rh = (rh << 1) | (rl >> 63);
        rl <<= 1;
      }
      q <<= 1;
      if (top || rh > PI66_H || (rh == PI66_H && rl >= PI66_L)) {
        rh = rh - PI66_H - <u64>(rl < PI66_L);
        rl -= PI66_L;
        q |= 1;
      }
    }
  }
  // To nearest: π/2 − r when r > π/4. Exponent of the remainder's unit is 0.
  const ol: u64 = PI66_L - rl;
  const oh = PI66_H - rh - <u64>(PI66_L < rl);
  if (rh > oh || (rh == oh && rl > ol)) {
    rh = oh;
    rl = ol;
    q++;
    gs = 1;
  }
  th = rh;
  tl = rl;
  xe = 0;
  normalise();
  gh = th;
  gl = tl;
  ge = xe;
  gq = <i32>(q & 3);
}
let zh: u64 = 0;
let zl: u64 = 0;
function square(): void {
  toFraction(gh, gl, ge);
  mulFrac(th, tl, th, tl);
  zh = th;
  zl = tl;
}
/** Sine and cosine of the reduced argument, magnitude only (cosine is positive, sine has sign gs). */
function sinMant(): void {
  poly(SIN_C, 13, zh, zl, true);
  mulMant(th, tl, -1, gh, gl, ge);
}
function cosMant(): void {
  poly(COS_C, 14, zh, zl, true);
  xe = -1;
  normalise();
}
/** sin (k = 0) or cos (k = 1) of A into the output. */
function sinCosOut(k: i32): void {
  const q = (gq + k) & 3;
  const neg: u32 = q >= 2 ? 1 : 0;
  const odd: u32 = k == 0 ? aS : 0;
  if ((q & 1) == 0) {
    sinMant();
    outInexact(neg ^ gs ^ odd);
  } else {
    cosMant();
    outInexact(neg ^ odd);
  }
}
/** Common front of fsin fcos fsincos fptan: false when the output or C2 is already decided. */
function trigBegin(): i32 {
  if (nan1()) return 1;
  if (aC == INF) {
    invalid();
    return 1;
  }
  if (aC == ZERO) return 2;
  if (aE >= 63) return 3;
  if (aD) raiseFlags(DE);
  reduce();
  square();
  return 0;
}
/** 0 fsin, 1 fcos. */
export function x87SinCos(k: i32): i32 {
  if (begin()) return 1;
  if (!valid(0)) {
    stackUnder();
    outIndef();
  } else {
    loadA(0);
    const c = trigBegin();
    if (c == 3) {
      end();
      condition(0x400);
      return 0;
    }
    if (c == 2) {
      if (k == 0) setOut(0, aS << 15);
      else setOut(0x8000000000000000, 0x3fff);
    } else if (c == 0) sinCosOut(k);
  }
  if (!end()) {
    put(0, oM, oSE);
    clearC2();
  }
  return 0;
}
function clearC2(): void {
  store<u32>(FPS_FSW, load<u32>(FPS_FSW) & ~0x400);
}
/** 0 fsincos (sine, then cosine pushed), 1 fptan (tangent, then 1 pushed). */
export function x87Trig2(op: i32): i32 {
  if (begin()) return 1;
  if (!valid(0) || valid(-1)) {
    if (!valid(0)) stackUnder();
    else stackOver();
    if (end()) return 0;
    put(0, INDEF_M, INDEF_SE);
    push(INDEF_M, INDEF_SE);
    clearC2();
    return 0;
  }
  loadA(0);
  const c = trigBegin();
  if (c == 3) {
    end();
    condition(0x400);
    return 0;
  }
  let m: u64 = 0x8000000000000000;
  let se: u32 = 0x3fff;
  if (c == 1) {
    m = oM;
    se = oSE;
  } else if (c == 2) setOut(0, aS << 15);
  else if (op == 0) {
    sinCosOut(1);
    m = oM;
    se = oSE;
    sinCosOut(0);
  } else if (ge < -50 && (gq & 1) == 0) {
    // x + x³/3: in the quotient the sign of what comes after x would be lost, and with it which way to round.
    mulFrac(gh, gl, zh, zl);
    const more = tl / 3 + 1;
    xe = ge;
    tl = gl + more;
    th = gh + <u64>(tl < gl);
    if (th < gh) {
      th = 0x8000000000000000;
      xe++;
    }
    outInexact(aS ^ gs);
  } else {
    cosMant();
    const ch = th,
      cl = tl,
      ce = xe;
    sinMant();
    if ((gq & 1) == 0) {
      divMant(th, tl, xe, ch, cl, ce);
      outInexact(aS ^ gs);
    } else {
      divMant(ch, cl, ce, th, tl, xe);
      outInexact(aS ^ gs ^ 1);
    }
  }
  if (end()) return 0;
  put(0, oM, oSE);
  push(m, se);
  clearC2();
  return 0;
}

// ---------------------------------------------------------------------------------------------- 2^x − 1

export function x87F2xm1(): i32 {
  if (begin()) return 1;
  if (!valid(0)) {
    stackUnder();
    outIndef();
  } else {
    loadA(0);
    if (!nan1()) {
      if (aC == ZERO) setOut(0, aS << 15);
      else if (aC == INF) {
        if (aS != 0) setOut(0x8000000000000000, 0xbfff);
        else setOut(0x8000000000000000, 0x7fff);
      } else {
        if (aD) raiseFlags(DE);
        if (aE >= 0) {
          // ±1 exactly; beyond it the manual leaves the result undefined.
          raiseFlags(PE);
          if (aE == 0 && aM == 0x8000000000000000 && aS != 0) setOut(0x8000000000000000, 0xbffe);
          else setOut(aM, (aS << 15) | <u32>(aE + 16383));
        } else {
          mulMant(aM, 0, aE, LN2_H, LN2_L, -1);
          const yh = th,
            yl = tl,
            ye = xe;
          toFraction(yh, yl, ye);
          poly(EXP_C, 25, th, tl, aS != 0);
          xe = 0; // coefficients are halved
          normalise();
          mulMant(th, tl, xe, yh, yl, ye);
          outInexact(aS);
        }
      }
    }
  }
  if (!end()) put(0, oM, oSE);
  return 0;
}

// ---------------------------------------------------------------------------------------------- logarithms

let ls: u32 = 0;
/** With s = th:tl, xe (|s| < 0.18, normalised): 2·atanh(s)/ln 2, normalised. */
function logSeries(): void {
  const sh = th,
    sl = tl,
    se = xe;
  toFraction(sh, sl, se);
  mulFrac(th, tl, th, tl);
  poly(LOG_C, 18, th, tl, false);
  xe = 0;
  normalise();
  mulMant(th, tl, xe, sh, sl, se);
  // INV_LN2 is a halved fraction: mantissa with exponent 0; one more for the factor two.
  mulMant(th, tl, xe, INV_LN2_H, INV_LN2_L, 1);
}
/** log2 of A (finite, positive) into th:tl, xe with sign ls. Returns 0 if it is zero, 1 exact, 2 inexact. */
function log2A(): i32 {
  let e = aE;
  if (aM == 0x8000000000000000) {
    if (e == 0) return 0;
    ls = <u32>(e < 0);
    th = <u64>(e < 0 ? -e : e);
    tl = 0;
    xe = 63;
    normalise();
    return 1;
  }
  let n: u64, d1: u64, d0: u64; // numerator; denominator 65 bits in the top of d1:d0
  let ne: i32;
  let neg: u32 = 0;
  if (aM > 0xb504f333f9de6484) {
    e++;
    neg = 1;
    n = 0 - aM; // 2^64 − m
    d1 = 0x8000000000000000 | (aM >> 1);
    d0 = aM << 63;
  } else {
    n = aM - 0x8000000000000000;
    // m + 2^63 is in [2^64, 2^64 + …): 65 bits
    const s = aM + 0x8000000000000000;
    d1 = 0x8000000000000000 | (s >> 1);
    d0 = s << 63;
  }
  const z = <i32>clz<u64>(n);
  ne = 63 - z;
  divMant(n << z, 0, ne, d1, d0, 64);
  logSeries();
  if (e == 0) {
    ls = neg;
    return 2;
  }
  // e ± fraction, |fraction| ≤ 1/2, at the scale of e's leading bit.
  const ae: u64 = <u64>(e < 0 ? -e : e);
  const same = (e < 0) == (neg != 0);
  const k = 63 - <i32>clz<u64>(ae); // exponent of |e|
  const big = ae << (63 - k);
  // fraction aligned to exponent k
  shiftRight(th, tl, k - xe);
  xe = k;
  if (same) {
    th += big;
    if (th < big) {
      tl = (tl >> 1) | (th << 63);
      th = (th >> 1) | 0x8000000000000000;
      xe++;
    }
  } else {
    th = big - th - <u64>(tl != 0);
    tl = 0 - tl;
  }
  ls = <u32>(e < 0);
  normalise();
  return 2;
}
/** th:tl·B (finite) into the output with sign. */
function timesB(exact: bool): void {
  mulMant(th, tl, xe, bM, 0, bE);
  setR(ls ^ bS, xe, th, exact ? tl : tl | 1);
  outRounded(64);
  // Processors report even exact logarithms as inexact.
  raiseFlags((oSE & 0x7fff) == 0 ? UE | PE : PE);
}
/** ST(1) · log2 ST(0), popped. */
export function x87Yl2x(): i32 {
  if (begin()) return 1;
  if (!valid(0) || !valid(1)) {
    stackUnder();
    outIndef();
  } else {
    loadAB(0, 1);
    if (!nan2()) {
      if (aS != 0 && aC != ZERO) invalid();
      else if (aC == ZERO) {
        if (bC == ZERO) invalid();
        else if (bC == INF) setOut(0x8000000000000000, ((bS ^ 1) << 15) | 0x7fff);
        else {
          raiseFlags(4);
          setOut(0x8000000000000000, ((bS ^ 1) << 15) | 0x7fff);
        }
      } else if (aC == INF) {
        if (bC == ZERO) invalid();
        else {
          if (bD) raiseFlags(DE);
          setOut(0x8000000000000000, (bS << 15) | 0x7fff);
        }
      } else if (bC == INF) {
        if (aE == 0 && aM == 0x8000000000000000) invalid();
        else {
          if (aD) raiseFlags(DE);
          setOut(0x8000000000000000, ((bS ^ <u32>(aE < 0)) << 15) | 0x7fff);
        }
      } else {
        if (aD || bD) raiseFlags(DE);
        if (bC == ZERO) setOut(0, (bS ^ <u32>(aE < 0)) << 15);
        else {
          const k = log2A();
          if (k == 0) setOut(0, bS << 15);
          else timesB(k == 1);
        }
      }
    }
  }
  if (!end()) {
    put(1, oM, oSE);
    pop();
  }
  return 0;
}
/** ST(1) · log2(ST(0) + 1), popped; for |ST(0)| < 1 − √½ (beyond, the manual promises nothing). */
export function x87Yl2xp1(): i32 {
  if (begin()) return 1;
  if (!valid(0) || !valid(1)) {
    stackUnder();
    outIndef();
  } else {
    loadAB(0, 1);
    if (!nan2()) {
      if (aC == INF) {
        if (aS != 0 || bC == ZERO) invalid();
        else {
          if (bD) raiseFlags(DE);
          setOut(0x8000000000000000, (bS << 15) | 0x7fff);
        }
      } else if (bC == INF) {
        if (aC == ZERO) invalid();
        else {
          if (aD) raiseFlags(DE);
          setOut(0x8000000000000000, ((aS ^ bS) << 15) | 0x7fff);
        }
      } else {
        if (aD || bD) raiseFlags(DE);
        if (aC == ZERO || bC == ZERO) setOut(0, (aS ^ bS) << 15);
        else if (aS != 0 && aE >= 0) {
          // Undefined by the manual; processors give the operand back.
          raiseFlags(PE);
          setOut(aM, 0x8000 | <u32>(aE + 16383));
        }
        else if (aE >= 0) {
          // Outside the domain: 1 + x in 64 bits is good enough.
          const e = aE;
          const one: u64 = e >= 64 ? 0 : 0x8000000000000000 >> e;
          const sum = aM + one;
          if (sum < aM) {
            aMset((sum >> 1) | 0x8000000000000000, e + 1);
          } else aMset(sum, e);
          const k = log2A();
          timesB(k == 1);
        } else {
          // s = x / (2 + x)
          const one: u64 = 0x8000000000000000;
          shiftRight(aM, 0, 1 - aE);
          if (aS == 0) th += one;
          else {
            th = one - th - <u64>(tl != 0);
            tl = 0 - tl;
          }
          xe = 1;
          normalise();
          divMant(aM, 0, aE, th, tl, xe);
          logSeries();
          ls = aS;
          timesB(false);
        }
      }
    }
  }
  if (!end()) {
    put(1, oM, oSE);
    pop();
  }
  return 0;
}
function aMset(m: u64, e: i32): void {
  setA(FINITE, 0, e, m);
}

// ---------------------------------------------------------------------------------------------- arctangent

/** π·k/4 with sign, rounded. */
function outPi(k: i32, sign: u32): void {
  th = PI_Q2_H;
  tl = PI_Q2_L;
  xe = 1;
  if (k == 2) xe = 0;
  else if (k == 1) xe = -1;
  else if (k == 3) {
    // 3π/4: (π + π/2) / 2
    const l = (tl >> 1) | (th << 63);
    const h = th >> 1;
    const sl = tl + l;
    let sh = th + h;
    const c1 = <u64>(sh < th);
    const sh2 = sh + <u64>(sl < tl);
    const c2 = <u64>(sh2 < sh);
    sh = sh2;
    if ((c1 | c2) != 0) {
      tl = (sl >> 1) | (sh << 63);
      th = (sh >> 1) | 0x8000000000000000;
      xe = 1;
    } else {
      th = sh;
      tl = sl;
      xe = 0;
    }
  }
  outInexact(sign);
}
/** arctan(ST(1) / ST(0)) by quadrant, popped. Here A is x = ST(0) and B is y = ST(1). */
export function x87Patan(): i32 {
  if (begin()) return 1;
  if (!valid(0) || !valid(1)) {
    stackUnder();
    outIndef();
  } else {
    loadAB(0, 1);
    if (!nan2()) {
      if (aD || bD) raiseFlags(DE);
      if (bC == INF) outPi(aC == INF ? (aS != 0 ? 3 : 1) : 2, bS);
      else if (aC == INF || bC == ZERO) {
        if (aS == 0) setOut(0, bS << 15);
        else outPi(4, bS);
      } else if (aC == ZERO) outPi(2, bS);
      else arctan();
    }
  }
  if (!end()) {
    put(1, oM, oSE);
    pop();
  }
  return 0;
}
function arctan(): void {
  const swap = bE > aE || (bE == aE && bM > aM);
  // t = min / max in (0, 1]
  if (swap) divMant(aM, 0, aE, bM, 0, bE);
  else divMant(bM, 0, bE, aM, 0, aE);
  let k = 0;
  let neg = false;
  if (xe >= 0) k = 16; // exactly 1
  else if (xe >= -5) {
    toFraction(th, tl, xe);
    const fh = th,
      fl = tl;
    k = <i32>((fh >> 59) + 1) >> 1;
    if (k > 0) {
      // r = (t − c) / (1 + t·c), c = k/16
      const ch: u64 = k == 16 ? 0 : <u64>k << 60;
      let nh: u64, nl: u64;
      neg = k == 16 || fh < ch;
      if (neg) {
        nl = 0 - fl;
        nh = ch - fh - <u64>(fl != 0);
      } else {
        nh = fh - ch;
        nl = fl;
      }
      // t·k/16 in fractions: 128 × 5 bits, then halved beside a halved 1
      const lo = (fl & 0xffffffff) * <u64>k;
      const mi = (fl >> 32) * <u64>k + (lo >> 32);
      const pl = (mi << 32) | (lo & 0xffffffff);
      const lo2 = (fh & 0xffffffff) * <u64>k + (mi >> 32);
      const mi2 = (fh >> 32) * <u64>k + (lo2 >> 32);
      const ph = (mi2 << 32) | (lo2 & 0xffffffff);
      const pt = mi2 >> 32;
      // (pt:ph:pl) >> 5
      const dl = (pl >> 5) | (ph << 59);
      const dh = (ph >> 5) | (pt << 59) | 0x8000000000000000;
      th = nh;
      tl = nl;
      xe = -1;
      if ((nh | nl) != 0) {
        normalise();
        divMant(th, tl, xe, dh, dl, 0);
      }
    }
  }
  let ah: u64 = 0,
    al: u64 = 0; // arctan as a fraction where k > 0
  if (k == 16 && xe >= 0) {
    th = 0;
    tl = 0;
  } else if ((th | tl) != 0) {
    const rh = th,
      rl = tl,
      re = xe;
    toFraction(rh, rl, re);
    mulFrac(th, tl, th, tl);
    poly(ATAN_C, 11, th, tl, true);
    mulMant(th, tl, -1, rh, rl, re);
  }
  if (k == 0 && !swap && aS == 0) {
    outInexact(bS);
    return;
  }
  const p = ATAN_T + (<usize>k << 4);
  ah = load<u64>(p);
  al = load<u64>(p, 8);
  if ((th | tl) != 0) toFraction(th, tl, xe);
  if (neg) {
    ah = ah - th - <u64>(al < tl);
    al -= tl;
  } else {
    al += tl;
    ah = ah + th + <u64>(al < tl);
  }
  // To two integer bits.
  al = (al >> 2) | (ah << 62);
  ah >>= 2;
  if (swap) {
    const hl: u64 = (PI_Q2_L >> 1) | (PI_Q2_H << 63);
    const hh: u64 = PI_Q2_H >> 1;
    ah = hh - ah - <u64>(hl < al);
    al = hl - al;
  }
  if (aS != 0) {
    ah = PI_Q2_H - ah - <u64>(PI_Q2_L < al);
    al = PI_Q2_L - al;
  }
  th = ah;
  tl = al;
  xe = 1;
  normalise();
  outInexact(bS);
}
