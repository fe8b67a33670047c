/**
 * The host's own arithmetic where its result is exact: nothing is rounded, so that no flag is raised whatever MXCSR masks or has recorded.
 * Programs that compute with whole numbers would go through soft floating point for ever otherwise, since the precision flag never comes.
 *
 * Exactness is shown by the error of the operation, which the classic transformations compute without error themselves (Knuth's two-sum, Dekker's
 * product by Veltkamp's splitting): they hold while nothing overflows or becomes denormal, hence the bounds on the operands.
 */
const ADD = 0;
const MUL = 1;
const SUB = 2;
const DIV = 3;
const SQRT = 6;

/** Results of the last calls that returned true. */
export let result64: f64 = 0;
export let result32: f32 = 0;

/** Within 2^±400, or zero: products and quotients of two of them are normal, and so are the parts they are split into. */
// @ts-ignore: decorator
@inline
function tame64(x: f64): bool {
  const m = abs(x);
  return (m >= 3.872591914849318e-121 && m <= 2.582249878086909e120) || m == 0;
}
/** Within 2^±40, or zero. */
// @ts-ignore: decorator
@inline
function tame32(x: f32): bool {
  const m = abs(x);
  return (m >= <f32>9.094947017729282e-13 && m <= <f32>1099511627776.0) || m == 0;
}

/** a × b is p without rounding. */
function productIs(a: f64, b: f64, p: f64): bool {
  const s = a * 134217729.0;
  const ah = s - (s - a);
  const al = a - ah;
  const t = b * 134217729.0;
  const bh = t - (t - b);
  const bl = b - bh;
  return ((ah * bh - p) + ah * bl + al * bh) + al * bl == 0;
}

/** a + c is r without rounding. */
// @ts-ignore: decorator
@inline
function sumIs<T>(a: T, c: T, r: T): bool {
  const v = r - a;
  return a - (r - v) + (c - v) == 0;
}

export function exact64(op: i32, a: f64, b: f64): bool {
  if (!tame64(b)) return false;
  if (op == SQRT) {
    if (b < 0) return false;
    result64 = Math.sqrt(b);
    return b == 0 || productIs(result64, result64, b);
  }
  if (!tame64(a)) return false;
  if (op == MUL) {
    result64 = a * b;
    return productIs(a, b, result64);
  }
  if (op == DIV) {
    if (b == 0) return false;
    result64 = a / b;
    return productIs(result64, b, a);
  }
  if (op != ADD && op != SUB) return false;
  const c = op == SUB ? -b : b;
  result64 = a + c;
  return sumIs<f64>(a, c, result64);
}

export function exact32(op: i32, a: f32, b: f32): bool {
  if (!tame32(b)) return false;
  // A double holds the product of two singles.
  if (op == SQRT) {
    if (b < 0) return false;
    result32 = Mathf.sqrt(b);
    return <f64>result32 * <f64>result32 == <f64>b;
  }
  if (!tame32(a)) return false;
  if (op == MUL) {
    result32 = a * b;
    return <f64>a * <f64>b == <f64>result32;
  }
  if (op == DIV) {
    if (b == 0) return false;
    result32 = a / b;
    return <f64>result32 * <f64>b == <f64>a;
  }
  if (op != ADD && op != SUB) return false;
  const c = op == SUB ? -b : b;
  result32 = a + c;
  return sumIs<f32>(a, c, result32);
}
