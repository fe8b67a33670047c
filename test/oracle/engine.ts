/**
 * The engine under test: a machine with the oracle's address space (two data pages, a code page), whose CPU runs one instruction. As
 * on the host, `int3` follows the instruction, so that reaching one in the code page means "completed here", and so does a failed
 * fetch at a branch target.
 */
import { VirtualClock } from "../../src/machine/clock.js";
import { engineCounters } from "../../src/machine/cpu/counters.js";
import { Cpu } from "../../src/machine/cpu/cpu.js";
import { decode } from "../../src/machine/cpu/decode/index.js";
import { CC_SAME, CC_UNKNOWN } from "../../src/machine/cpu/interpreter/sem.js";
import { Exit } from "../../src/machine/cpu/exits.js";
import { FCW, FPR, FSW, FTW, GPR, MXCSR, XMM } from "../../src/machine/layout.js";
import { PhysMem } from "../../src/machine/memory.js";
import {
  AREA,
  AREA_SIZE,
  CODE,
  CODE_PAGE,
  FX_SIZE,
  GS_BASE,
  PIECE,
  SELECTORS_32,
  SELECTORS_64,
  type Case,
  type EngineUnderTest,
  type Result,
} from "./case.js";

const PRESENT_USER = 5;
const WRITABLE = 2;
/** Descriptor attributes as in a VMCB: present, DPL 3, G; CS with L or D. */
const CODE_64 = 0xa0fb;
const CODE_32 = 0xc0fb;
const DATA = 0xc0f3;
/** Where "moved" has its regions made: the same frames, as far apart, where position-independent programs lie. */
const ELSEWHERE = 0x555500000000;
/** Does not end: an own "vector" so that it shows as a difference. */
const ENDLESS = 254;

class Engine {
  readonly #mem = new PhysMem(16 << 20);
  readonly #cpu: Cpu;
  /** Machine addresses of the area (two frames in a row) and of the code page. */
  readonly #area: number;
  readonly #code: number;
  #base: Uint8Array = new Uint8Array(AREA_SIZE);
  /** The code is translated somewhere else than where it runs. */
  readonly #moved: boolean;
  readonly #expected = new Uint8Array(AREA_SIZE);
  /** The area and what it should hold, for comparing. */
  readonly #seen: Buffer;
  readonly #wanted = Buffer.from(this.#expected.buffer);
  #bits = 0;
  #text: Uint8Array | undefined;
  readonly #result: Result;

  constructor(kind: EngineName) {
    const mem = this.#mem;
    this.#moved = kind === "moved";
    this.#cpu = new Cpu(mem, new VirtualClock(), { engine: kind === "moved" ? "translator" : kind });
    let next = mem.firstFrame;
    const frame = (): number => {
      const at = next++ * 4096;
      mem.zeroFrame(at / 4096);
      return at;
    };
    this.#area = frame();
    frame();
    this.#code = frame();
    const root = frame();
    const map = (va: number, maddr: number, flags: number): void => {
      let table = root;
      for (let level = 3; level > 0; level--) {
        const at: number = table + (Math.floor(va / 2 ** (12 + 9 * level)) & 511) * 8;
        if (mem.r32(at) === 0) mem.w64(at, frame() | PRESENT_USER | WRITABLE, 0);
        table = mem.r32(at) & ~4095;
      }
      mem.w64(table + (Math.floor(va / 4096) & 511) * 8, maddr | flags, 0);
    };
    for (const at of this.#moved ? [0, ELSEWHERE] : [0]) {
      map(at + AREA, this.#area, PRESENT_USER | WRITABLE);
      map(at + AREA + 4096, this.#area + 4096, PRESENT_USER | WRITABLE);
      map(at + CODE_PAGE, this.#code, PRESENT_USER);
    }
    this.#cpu.setRoot(0, root, 4);
    mem.fill(this.#code, 0xcc, 4096);
    this.#seen = Buffer.from(mem.u8.buffer, this.#area, AREA_SIZE);
    const fx = new Uint8Array(FX_SIZE);
    this.#result = {
      gpr: new Uint32Array(32),
      ripLo: 0,
      ripHi: 0,
      cr2Lo: 0,
      cr2Hi: 0,
      rflags: 0,
      vector: -1,
      error: 0,
      fx,
      fxWords: new Uint32Array(fx.buffer),
      changes: NO_CHANGES,
    };
  }

  setMemory(base: Uint8Array): void {
    this.#base = base;
    this.#expected.set(base);
    this.#mem.write(this.#area, base);
  }

  /** Regions translated so far; entered elsewhere than where they were made. */
  get translated(): number {
    return this.#moved ? engineCounters(this.#cpu).moved : this.#cpu.counters.regions;
  }

  #mode(bits: 64 | 32): void {
    if (this.#bits === bits) return;
    this.#bits = bits;
    const cpu = this.#cpu;
    const selectors = bits === 64 ? SELECTORS_64 : SELECTORS_32;
    for (let s = 0; s < 6; s++)
      cpu.setSegment(s, selectors[s], 0, 0xffffffff, s === 1 ? (bits === 64 ? CODE_64 : CODE_32) : DATA);
    cpu.setSegBase(5, GS_BASE, 0);
    cpu.setMode({ bits, cpl: 3, space: 0 });
  }

  /** The FPU state goes straight into the state block: `fxsave` and `fxrstor` are under test themselves. */
  #loadFx(fx: Uint8Array): void {
    const { u8, u32 } = this.#mem;
    u32[FCW >>> 2] = fx[0] | (fx[1] << 8);
    u32[FSW >>> 2] = fx[2] | (fx[3] << 8);
    u32[FTW >>> 2] = fx[4];
    u32[MXCSR >>> 2] = fx[24] | (fx[25] << 8) | (fx[26] << 16) | (fx[27] << 24);
    // Both in one go; the registers above TOP come first in the image.
    const top = ((fx[3] >> 3) & 7) * 16;
    u8.set(fx.subarray(32, 160 - top), FPR + top);
    if (top > 0) u8.set(fx.subarray(160 - top, 160), FPR);
    u8.set(fx.subarray(160, FX_SIZE), XMM);
  }

  #saveFx(fx: Uint32Array): void {
    const { u32 } = this.#mem;
    fx[0] = u32[FCW >>> 2] | (u32[FSW >>> 2] << 16);
    fx[1] = u32[FTW >>> 2];
    fx[6] = u32[MXCSR >>> 2];
    const top = (u32[FSW >>> 2] >> 11) & 7;
    for (let i = 0; i < 8; i++) {
      const from = (FPR >>> 2) + ((top + i) & 7) * 4;
      fx[8 + i * 4] = u32[from];
      fx[9 + i * 4] = u32[from + 1];
      fx[10 + i * 4] = u32[from + 2] & 0xffff;
    }
    for (let i = 0; i < 64; i++) fx[40 + i] = u32[(XMM >>> 2) + i];
  }

  /** Put the instruction where it is executed. Cases of one encoding come one after the other and find it there. */
  #place(code: Uint8Array): void {
    if (code === this.#text) return;
    this.#text = code;
    // Its old neighbourhood becomes int3 again.
    const bytes = new Uint8Array(96).fill(0xcc);
    bytes.set(code);
    this.#mem.write(this.#code + (CODE - CODE_PAGE), bytes);
    // It must not count as code that could not be translated because the last case at this address could not.
    this.#cpu.regions.reset();
  }

  /** Make all handlers that the cases need in one module; V8 takes its time for each. */
  prepare(cases: readonly Case[]): void {
    const handlers = this.#cpu["handlers"];
    let last: Uint8Array | undefined;
    for (const c of cases) {
      if (c.code === last) continue;
      last = c.code;
      this.#mode(c.bits);
      const buffer = new Uint8Array(96).fill(0xcc);
      buffer.set(c.code);
      let known = CC_UNKNOWN;
      for (let at = 0; at <= c.code.length;) {
        const insn = decode(buffer, at, 96, c.bits);
        if (!insn) break;
        const { ccAfter } = handlers.get(insn, this.#cpu.mode, known);
        if (ccAfter !== CC_SAME) known = ccAfter;
        at += insn.len;
      }
    }
    handlers.flush();
  }

  run(c: Case): Result {
    const fresh = c.code !== this.#text;
    this.#mode(c.bits);
    this.#place(c.code);
    // What it does there is of no interest: it is translated where it first runs.
    if (this.#moved && fresh && c.bits === 64) this.#runAt(ELSEWHERE + CODE, c);
    return this.#runAt(CODE, c);
  }

  #runAt(start: number, c: Case): Result {
    const cpu = this.#cpu;
    const { patches } = c;
    const { u8, u32 } = this.#mem;
    for (let at = 0; at < patches.length; at += PIECE) {
      const offset = patches[at] | (patches[at + 1] << 8);
      for (let i = 0; i < 8; i++) this.#expected[offset + i] = u8[this.#area + offset + i] = patches[at + 4 + i];
    }
    u32.set(c.gpr, GPR >>> 2);
    this.#loadFx(c.fx);
    cpu.rflags = c.rflags | 0x202;
    cpu.rip = start;

    const result = this.#result;
    result.vector = -1;
    result.error = 0;
    result.cr2Lo = 0;
    result.cr2Hi = 0;
    let rounds = 0;
    loop: for (;;) {
      const reason = cpu.run(1000);
      const e = cpu.exit;
      switch (reason) {
        case Exit.BUDGET:
          if (++rounds > 20) {
            result.vector = ENDLESS;
            break loop;
          }
          break;
        case Exit.PAUSE:
          break loop;
        case Exit.EXCEPTION: {
          const rip = cpu.rip;
          if (e.vector === 3 && c.insn.op !== "int3" && rip > CODE_PAGE && rip <= CODE_PAGE + 4096) {
            cpu.rip = rip - 1;
            break loop;
          }
          if (e.vector === 14 && e.errorCode & 16 && e.cr2Lo >>> 0 === rip % 2 ** 32) break loop;
          result.vector = e.vector;
          result.error = Math.max(e.errorCode, 0);
          result.cr2Lo = e.cr2Lo >>> 0;
          result.cr2Hi = e.cr2Hi >>> 0;
          break loop;
        }
        default:
          result.vector = 200 + reason;
          break loop;
      }
    }
    const rip = cpu.rip;
    result.ripLo = rip >>> 0;
    result.ripHi = Math.floor(rip / 2 ** 32) >>> 0;
    for (let i = 0; i < 32; i++) result.gpr[i] = u32[(GPR >>> 2) + i];
    result.rflags = cpu.rflags;
    this.#saveFx(result.fxWords);
    this.#collect(result, patches);
    return result;
  }

  /** Find what changed in the area, and put it back. */
  #collect(result: Result, patches: Uint8Array): void {
    const { u8 } = this.#mem;
    const area = this.#area;
    result.changes = NO_CHANGES;
    if (this.#seen.compare(this.#wanted) !== 0) {
      const changed: number[] = [];
      for (let block = 0; block < AREA_SIZE; block += 256) {
        if (this.#seen.compare(this.#wanted, block, block + 256, block, block + 256) === 0) continue;
        for (let at = block; at < block + 256; at += 8) {
          let i = 0;
          while (i < 8 && u8[area + at + i] === this.#expected[at + i]) i++;
          if (i < 8) changed.push(at);
        }
      }
      const changes = (result.changes = new Uint8Array(changed.length * PIECE));
      changed.forEach((offset, i) => {
        changes[i * PIECE] = offset & 0xff;
        changes[i * PIECE + 1] = offset >> 8;
        for (let k = 0; k < 8; k++) {
          changes[i * PIECE + 4 + k] = u8[area + offset + k];
          u8[area + offset + k] = this.#base[offset + k];
        }
      });
    }
    for (let at = 0; at < patches.length; at += PIECE) {
      const offset = patches[at] | (patches[at + 1] << 8);
      for (let i = 0; i < 8; i++) this.#expected[offset + i] = u8[area + offset + i] = this.#base[offset + i];
    }
  }
}
export type EngineName = "interpreter" | "translator" | "moved";
const NO_CHANGES = new Uint8Array(0);

/** An engine that is made anew after it threw (what it had half compiled then is of no use to anyone). */
export function openEngine(kind: EngineName): EngineUnderTest {
  let engine = new Engine(kind);
  let memory: Uint8Array = new Uint8Array(AREA_SIZE);
  let before = 0;
  return {
    name: kind,
    get translated() {
      return before + engine.translated;
    },
    setMemory(base) {
      memory = base;
      engine.setMemory(base);
    },
    prepare(cases) {
      engine.prepare(cases);
    },
    run(c) {
      try {
        return engine.run(c);
      } catch (e) {
        before += engine.translated;
        engine = new Engine(kind);
        engine.setMemory(memory);
        throw e;
      }
    },
  };
}
