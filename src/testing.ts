/** For all tests: numbers that look random and are the same in every run. */

/** Whole numbers from 0 to below `n`. */
export type Random = (n: number) => number;

export function seeded(seed: number): Random {
  let x = (seed * 2654435761 + 12345) >>> 0;
  return (n) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    x >>>= 0;
    return x % n;
  };
}
