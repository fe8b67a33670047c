/** Faults and state of the x87/SSE helpers that a native comparison in user mode cannot show. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AT, fpHelpers } from "../../src/machine/cpu/sem/helpers-fp.js";
import * as L from "../../src/machine/layout.js";
import { compileCore, instantiate, workDir, type Fn } from "./harness.js";

describe("x87 and SSE state", () => {
  const dir = workDir();
  let module: WebAssembly.Module;
  let dv: DataView;
  let x: Record<string, Fn>;
  beforeAll(async () => {
    module = await compileCore(dir.path);
    const i = instantiate(module, 0);
    dv = new DataView(i.memory.buffer);
    x = i.x;
  }, 180_000);
  afterAll(() => dir.remove());
  const call = (name: string, ...args: (number | bigint)[]): number => {
    const f = x[name];
    if (!f) throw new Error(`no ${name}`);
    return f(...args);
  };
  const MEM = 0x300000;

  it("every helper of the list is exported", () => {
    expect(Object.keys(fpHelpers).filter((n) => x[n] === undefined)).toEqual([]);
    for (const [n, t] of Object.entries(fpHelpers)) expect([n, (x[n] as Fn).length]).toEqual([n, t.params.length]);
  });
  it("results lie where the emitters look for them", () => {
    dv.setUint32(L.MXCSR, 0x1f80, true);
    call("sseComi64", 0, 0x3ff0000000000000n, 0x3ff0000000000000n);
    expect(dv.getUint32(AT.FLAGS, true)).toBe(0x40);
    call("sseOp64", 0, 0x3ff0000000000000n, 0x3ff0000000000000n);
    expect(dv.getBigUint64(AT.RESULT, true)).toBe(0x4000000000000000n);
  });
  it("a pending unmasked exception is #MF at the next waiting instruction, and not at a non-waiting one", () => {
    call("x87Init");
    call("x87Const", 0);
    call("x87Ldcw", 0x37b); // zero-divide unmasked
    expect(call("x87Arith32", 6, 0)).toBe(0);
    expect(dv.getUint32(L.FSW, true) & 0x80ff).toBe(0x8084);
    dv.setUint32(L.EXIT_VECTOR, 0, true);
    expect(call("x87Const", 6)).toBe(1);
    expect(dv.getUint32(L.EXIT_VECTOR, true)).toBe(16);
    expect(dv.getInt32(L.EXIT_ERROR, true)).toBe(-1);
    expect(call("mmxEnter")).toBe(1);
    expect(call("x87StoreEnv", BigInt(MEM), 4, 0)).toBe(0);
    call("x87Clex");
    expect(call("x87Wait")).toBe(0);
  });
  it("an unmasked SIMD exception is #XM, or #UD without CR4.OSXMMEXCPT", () => {
    for (const [cr4, vector] of [
      [0x400n, 19],
      [0n, 6],
    ] as const) {
      dv.setBigUint64(L.CR4, cr4, true);
      dv.setUint32(L.MXCSR, 0x1d80, true);
      expect(call("sseOp32", 3, 0x3f800000, 0)).toBe(1);
      expect(dv.getUint32(L.EXIT_VECTOR, true)).toBe(vector);
      expect(dv.getUint32(L.MXCSR, true)).toBe(0x1d84);
    }
  });
  it("ldmxcsr and fxrstor refuse reserved MXCSR bits, fxsave and fxrstor a misaligned area: #GP(0)", () => {
    dv.setUint32(L.MXCSR, 0x1f80, true);
    expect(call("sseLdmxcsr", 0x10000)).toBe(1);
    expect(dv.getUint32(L.EXIT_VECTOR, true)).toBe(13);
    expect(dv.getUint32(L.MXCSR, true)).toBe(0x1f80);
    expect(call("x87Fxsave", BigInt(MEM + 8), 1, 16)).toBe(1);
    expect(call("x87Fxsave", BigInt(MEM), 1, 16)).toBe(0);
    dv.setUint32(MEM + 24, 0x11f80, true);
    expect(call("x87Fxrstor", BigInt(MEM), 1, 16)).toBe(1);
    expect(dv.getUint32(L.EXIT_ERROR, true)).toBe(0);
  });
  it("fxsave writes the fields where the manual has them, and only the registers that the mode has", () => {
    const image = new Uint8Array(dv.buffer, MEM, 512);
    call("x87Init");
    call("x87Const", 0);
    dv.setUint32(L.MXCSR, 0x1fa0, true);
    for (let i = 0; i < 16; i++) dv.setBigUint64(L.XMM + 16 * i, BigInt(i + 1), true);
    image.fill(0xee);
    expect(call("x87Fxsave", BigInt(MEM), 1, 8)).toBe(0);
    expect(dv.getUint16(MEM, true)).toBe(0x37f);
    expect(dv.getUint16(MEM + 2, true)).toBe(0x3800);
    expect(dv.getUint8(MEM + 4)).toBe(0x80);
    expect(dv.getUint32(MEM + 24, true)).toBe(0x1fa0);
    expect(dv.getUint32(MEM + 28, true)).toBe(0xffff);
    expect(dv.getUint16(MEM + 40, true)).toBe(0x3fff);
    expect(dv.getBigUint64(MEM + 160 + 16 * 7, true)).toBe(8n);
    expect(dv.getUint8(MEM + 160 + 16 * 8)).toBe(0xee);
    call("fxsaveTo", MEM);
    call("x87Init");
    dv.setBigUint64(L.XMM + 240, 0n, true);
    expect(call("x87Fxrstor", BigInt(MEM), 1, 16)).toBe(0);
    expect(dv.getBigUint64(L.XMM + 240, true)).toBe(16n);
    expect(dv.getUint32(L.FTW, true)).toBe(0x80);
  });
  it("fbld and fbstp are inverse for eighteen digits and the sign", () => {
    for (const [lo, hi] of [
      [0x0123456789012345n, 0x8012],
      [0x9999999999999999n, 0x0099],
      [0n, 0x8000],
      [1n, 0],
    ] as const) {
      call("x87Init");
      expect(call("x87Fbld", lo, hi)).toBe(0);
      expect(call("x87Store", BigInt(MEM), 6, 1)).toBe(0);
      expect([dv.getBigUint64(MEM, true), dv.getUint16(MEM + 8, true)]).toEqual([lo, hi]);
    }
  });
  it("rcpss and rsqrtss are within 1.5 · 2^-12 and exact at the special values", () => {
    const f = new Float32Array(1);
    const u = new Uint32Array(f.buffer);
    const apply = (v: number, root: number): number => {
      f[0] = v;
      u[0] = call("sseApprox", u[0] as number, root);
      return f[0] as number;
    };
    for (let v = 1e-30; v < 1e30; v *= 1.00917) {
      f[0] = v;
      const w = f[0] as number;
      expect(Math.abs(apply(w, 0) * w - 1)).toBeLessThan(1.5 / 4096);
      expect(Math.abs(apply(w, 1) * Math.sqrt(w) - 1)).toBeLessThan(1.5 / 4096);
    }
    expect([apply(0, 0), apply(-0, 0), apply(Infinity, 0), apply(0, 1), apply(Infinity, 1), apply(-1, 1)]).toEqual([
      Infinity,
      -Infinity,
      0,
      Infinity,
      0,
      NaN,
    ]);
  });
});
