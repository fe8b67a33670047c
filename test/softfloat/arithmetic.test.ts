/**
 * The softfloat helpers against the host CPU, bit for bit with all flags: SSE scalar, packed, compare, convert and round in every rounding
 * mode with DAZ and FTZ, masked and unmasked; x87 in every precision, rounding and masking; x87 transcendentals to one unit in
 * the last place. Millions of cases by running both sides in batches.
 */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compileCore, compileHost, hasHost, instantiate, runHost, workDir } from "./harness.js";

const REC = 112;
const BASE = 64 * 65536;

describe.skipIf(!hasHost)("floating point equals the host CPU (needs cc and x86-64)", () => {
  const dir = workDir();
  let module: WebAssembly.Module;
  let native = "";
  beforeAll(async () => {
    module = await compileCore(dir.path);
    native = compileHost(dir.path, "native", [join(import.meta.dirname, "native.c")]);
  }, 180_000);
  afterAll(() => dir.remove());

  const hex = (dv: DataView, p: number): string =>
    `${dv.getUint16(p + 8, true).toString(16)}:${dv.getBigUint64(p, true).toString(16)}`;

  function check(kind: number, count: number, seed: number, tolerance: number): string[] {
    const data = runHost(native, [String(kind), String(count), String(seed)]);
    const { memory, x } = instantiate(module, data.length);
    new Uint8Array(memory.buffer).set(data, BASE);
    const dv = new DataView(memory.buffer);
    const bad: string[] = [];
    for (let at = 0; bad.length < 5; at++) {
      const run =
        kind === 0 || kind === 3
          ? () => x["checkX87"]?.(BASE, count, at, BigInt(tolerance))
          : () => x["checkSse"]?.(BASE, count, at);
      at = run() ?? -1;
      if (at < 0) break;
      const p = BASE + at * REC;
      bad.push(
        `op ${dv.getUint32(p, true)} env ${dv.getUint32(p + 4, true).toString(16)} a ${hex(dv, p + 8)} b ${hex(dv, p + 24)}: host ` +
          `${hex(dv, p + 40)} ${hex(dv, p + 56)} ${dv.getUint32(p + 88, true).toString(16)}, here ${hex(dv, 0x300100)} ${hex(dv, 0x300110)} ` +
          dv.getUint32(0x300130, true).toString(16),
      );
    }
    return bad;
  }

  it("SSE, all exceptions masked", () => expect(check(1, 1_000_000, 12345, 0)).toEqual([]));
  it("SSE, random exceptions unmasked: MXCSR at the trap, destination kept", () =>
    expect(check(2, 200_000, 99, 0)).toEqual([]));
  it("x87 in all precisions, roundings and maskings", () => expect(check(0, 1_000_000, 4242, 0)).toEqual([]));
  it("x87 transcendentals to one unit in the last place", () => expect(check(3, 200_000, 7, 1)).toEqual([]));
});
