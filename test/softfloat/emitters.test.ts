/**
 * Every MMX, SSE and x87 emitter against the host CPU: the host runs each instruction on random states, the emitter's WebAssembly runs the same
 * bytes on the same states (decoded by the project's decoder, through the interpreter's `Sem` and again as a translated region), and the fxsave images, general registers,
 * flags and memory must be equal.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { decode } from "../../src/machine/cpu/decode/index.js";
import { helperTypes } from "../../src/machine/cpu/helpers.js";
import { InterpreterSem, registerAddress } from "../../src/machine/cpu/interpreter/sem.js";
import { K, type Insn } from "../../src/machine/cpu/insn.js";
import type { OpTable } from "../../src/machine/cpu/sem/context.js";
import { register } from "../../src/machine/cpu/sem/fp.js";
import * as L from "../../src/machine/layout.js";
import { translateRegion } from "../../src/machine/cpu/translator/index.js";
import type { CodeSource } from "../../src/machine/cpu/translator/types.js";
import { ModuleBuilder, type FuncType } from "../../src/machine/wasm/encoder.js";
import { compileCore, compileHost, hasHost, instantiate, runHost, workDir } from "./harness.js";

/** Both register files unless noted; x, y the vector registers of the form; m the memory operand. */
const BOTH =
  "paddb paddw paddd paddq psubb psubw psubd psubq paddsb paddsw paddusb paddusw psubsb psubsw psubusb psubusw pmullw pmulhw pmulhuw pmaddwd " +
  "pavgb pavgw pmaxub pmaxsw pminub pminsw pcmpeqb pcmpeqw pcmpeqd pcmpgtb pcmpgtw pcmpgtd pand por pxor pandn pmuludq psadbw pmulhrsw " +
  "pmaddubsw psignb psignw psignd pabsb pabsw pabsd phaddw phaddsw phaddd phsubw phsubsw phsubd packsswb packuswb packssdw pshufb " +
  "psllw pslld psllq psrlw psrld psrlq psraw psrad";
const UNPACK = "punpcklbw punpcklwd punpckldq punpckhbw punpckhwd punpckhdq";
const XMM_ONLY =
  "pmulld pmuldq pcmpeqq pcmpgtq pmaxsb pmaxuw pmaxud pmaxsd pminsb pminuw pminud pminsd packusdw punpcklqdq punpckhqdq unpcklps unpckhps " +
  "unpcklpd unpckhpd andps andpd andnps andnpd orps orpd xorps xorpd ptest phminposuw movaps movapd movdqa movups movupd movdqu movsldup " +
  "movshdup addps addpd subps subpd mulps mulpd divps divpd minps minpd maxps maxpd sqrtps sqrtpd addsubps addsubpd haddps haddpd hsubps hsubpd " +
  "cvtdq2ps cvtps2dq cvttps2dq cvtpd2dq cvttpd2dq cvtpd2ps pblendvb blendvps blendvpd";
/** Scalar or narrow memory operand: name, size word. */
const NARROW: [string, string][] = [
  ..."pmovsxbw pmovsxwd pmovsxdq pmovzxbw pmovzxwd pmovzxdq movddup cvtdq2pd cvtps2pd movsd addsd subsd mulsd divsd minsd maxsd sqrtsd comisd ucomisd cvtsd2ss"
    .split(" ")
    .map((n): [string, string] => [n, "qword ptr"]),
  ..."pmovsxbd pmovsxwq pmovzxbd pmovzxwq movss addss subss mulss divss minss maxss sqrtss comiss ucomiss cvtss2sd"
    .split(" ")
    .map((n): [string, string] => [n, "dword ptr"]),
  ["pmovsxbq", "word ptr"],
  ["pmovzxbq", "word ptr"],
];
const IMM: [string, number[]][] = [
  ["pshufd", [0, 0x1b, 0xd8, 0x4e]],
  ["pshuflw", [0x1b, 0x39]],
  ["pshufhw", [0x1b, 0x39]],
  ["shufps", [0x1b, 0xe4, 0x4e]],
  ["shufpd", [0, 1, 2, 3]],
  ["palignr", [0, 1, 7, 8, 15, 16, 20, 31, 32, 255]],
  ["pblendw", [0xa5, 0x0f]],
  ["blendps", [5, 10]],
  ["blendpd", [1, 2]],
  ["mpsadbw", [0, 1, 2, 3, 4, 5, 6, 7]],
  ["dpps", [0xff, 0x71, 0x55]],
  ["dppd", [0x33, 0x12]],
  ["roundps", [0, 1, 2, 3, 4, 8, 12]],
  ["roundpd", [0, 1, 2, 3, 4, 8, 12]],
  ["cmpps", [0, 1, 2, 3, 4, 5, 6, 7]],
  ["cmppd", [0, 1, 2, 3, 4, 5, 6, 7]],
  ["pcmpistri", [0, 1, 2, 3, 4, 8, 12, 13, 0x1a, 0x3a, 0x44, 0x58, 0x7f, 0x2c]],
  ["pcmpistrm", [0, 1, 6, 8, 0x0c, 0x1d, 0x3a, 0x48, 0x4d, 0x78]],
  ["pcmpestri", [0, 5, 8, 0x0c, 0x1a, 0x3a, 0x4d]],
  ["pcmpestrm", [0, 5, 8, 0x0c, 0x3a, 0x4d, 0x68]],
];

function texts(): string[] {
  const t: string[] = [];
  for (const op of BOTH.split(" "))
    t.push(`${op} xmm1,xmm2`, `${op} xmm1,[rsi]`, `${op} mm1,mm2`, `${op} mm1,[rsi]`, `${op} xmm1,xmm1`);
  for (const op of UNPACK.split(" "))
    t.push(
      `${op} xmm1,xmm2`,
      `${op} xmm1,[rsi]`,
      `${op} mm1,mm2`,
      `${op} mm1,${op[6] === "l" ? "dword" : "qword"} ptr [rsi]`,
    );
  for (const op of XMM_ONLY.split(" ")) t.push(`${op} xmm1,xmm2`, `${op} xmm1,xmmword ptr [rsi]`);
  for (const [op, size] of NARROW) t.push(`${op} xmm1,xmm2`, `${op} xmm1,${size} [rsi]`);
  for (const [op, imms] of IMM)
    for (const i of imms) t.push(`${op} xmm1,xmm2,${i}`, `${op} xmm1,xmmword ptr [rsi],${i}`);
  for (const i of [0, 3, 8, 15, 16, 40]) t.push(`palignr mm1,mm2,${i}`);
  for (const i of [0, 0x1b, 0xd8]) t.push(`pshufw mm1,mm2,${i}`, `pshufw mm1,[rsi],${i}`);
  for (const op of ["psllw", "pslld", "psllq", "psrlw", "psrld", "psrlq", "psraw", "psrad"])
    for (const i of [0, 1, 7, 15, 16, 31, 32, 63, 64, 200]) t.push(`${op} xmm1,${i}`, `${op} mm1,${i}`);
  for (const i of [0, 1, 7, 15, 16, 100]) t.push(`pslldq xmm1,${i}`, `psrldq xmm1,${i}`);
  for (const i of [0, 1, 2, 3, 4, 8, 12]) {
    t.push(`roundss xmm1,xmm2,${i}`, `roundsd xmm1,qword ptr [rsi],${i}`, `roundsd xmm1,xmm2,${i}`);
    t.push(`cmpss xmm1,xmm2,${i & 7}`, `cmpsd xmm1,qword ptr [rsi],${i & 7}`, `cmpsd xmm1,xmm2,${i & 7}`);
  }
  for (const i of [0, 0x4a, 0x9f, 0xe5]) t.push(`insertps xmm1,xmm2,${i}`, `insertps xmm1,dword ptr [rsi],${i}`);
  for (const i of [0, 3, 5, 15]) {
    t.push(
      `pextrb eax,xmm1,${i}`,
      `pextrb byte ptr [rsi],xmm1,${i}`,
      `pextrw eax,xmm1,${i}`,
      `pextrw word ptr [rsi],xmm1,${i}`,
      `pextrw eax,mm1,${i}`,
    );
    t.push(
      `pextrd eax,xmm1,${i & 3}`,
      `pextrd dword ptr [rsi],xmm1,${i & 3}`,
      `pextrq rax,xmm1,${i & 1}`,
      `extractps eax,xmm1,${i & 3}`,
    );
    t.push(
      `pinsrb xmm1,eax,${i}`,
      `pinsrb xmm1,byte ptr [rsi],${i}`,
      `pinsrw xmm1,eax,${i}`,
      `pinsrw xmm1,word ptr [rsi],${i}`,
      `pinsrw mm1,eax,${i}`,
    );
    t.push(`pinsrd xmm1,eax,${i & 3}`, `pinsrq xmm1,rax,${i & 1}`, `pinsrq xmm1,qword ptr [rsi],${i & 1}`);
  }
  t.push(
    "movups [rsi],xmm1",
    "movaps [rsi],xmm1",
    "movdqu [rsi+3],xmm1",
    "movntps [rsi],xmm1",
    "movntdq [rsi],xmm1",
    "movntdqa xmm1,[rsi]",
    "lddqu xmm1,[rsi+5]",
    "movss dword ptr [rsi],xmm1",
    "movsd qword ptr [rsi],xmm1",
    "movlps xmm1,[rsi]",
    "movlps [rsi],xmm1",
    "movhps xmm1,[rsi]",
    "movhps [rsi],xmm1",
    "movlpd xmm1,[rsi]",
    "movlpd [rsi],xmm1",
    "movhpd xmm1,[rsi]",
    "movhpd [rsi],xmm1",
    "movhlps xmm1,xmm2",
    "movlhps xmm1,xmm2",
    "movd xmm1,eax",
    "movd eax,xmm1",
    "movd xmm1,dword ptr [rsi]",
    "movd dword ptr [rsi],xmm1",
    "movq xmm1,rax",
    "movq rax,xmm1",
    "movq xmm1,xmm2",
    "movq xmm1,qword ptr [rsi]",
    "movq qword ptr [rsi],xmm1",
    "movd mm1,eax",
    "movd eax,mm1",
    "movd mm1,dword ptr [rsi]",
    "movd dword ptr [rsi],mm1",
    "movq mm1,rax",
    "movq rax,mm1",
    "movq mm1,mm2",
    "movq mm1,qword ptr [rsi]",
    "movq qword ptr [rsi],mm1",
    "movntq [rsi],mm1",
    "movdq2q mm1,xmm2",
    "movq2dq xmm1,mm2",
    "movmskps eax,xmm1",
    "movmskpd eax,xmm1",
    "pmovmskb eax,xmm1",
    "pmovmskb eax,mm1",
    "emms",
    "movnti [rsi],eax",
    "movnti [rsi],rax",
    "cvtsi2sd xmm1,eax",
    "cvtsi2sd xmm1,rax",
    "cvtsi2ss xmm1,eax",
    "cvtsi2ss xmm1,rax",
    "cvtsi2sd xmm1,dword ptr [rsi]",
    "cvtsi2ss xmm1,qword ptr [rsi]",
    "cvtsd2si eax,xmm1",
    "cvtsd2si rax,xmm1",
    "cvttsd2si eax,xmm1",
    "cvttsd2si rax,xmm1",
    "cvtss2si eax,xmm1",
    "cvtss2si rax,xmm1",
    "cvttss2si eax,xmm1",
    "cvttss2si rax,xmm1",
    "cvttsd2si eax,qword ptr [rsi]",
    "cvttss2si rax,dword ptr [rsi]",
    "cvtpi2ps xmm1,mm2",
    "cvtpi2pd xmm1,mm2",
    "cvtpi2ps xmm1,[rsi]",
    "cvtpi2pd xmm1,[rsi]",
    "cvtps2pi mm1,xmm2",
    "cvttps2pi mm1,xmm2",
    "cvtpd2pi mm1,xmm2",
    "cvttpd2pi mm1,xmm2",
    "stmxcsr [rsi]",
  );
  // x87 on whatever the random registers hold, all eight tagged valid or a random choice of them.
  for (const op of ["fadd", "fmul", "fsub", "fsubr", "fdiv", "fdivr"]) {
    t.push(`${op} st,st(1)`, `${op} st(2),st`, `${op}p st(1),st`, `${op} dword ptr [rsi]`, `${op} qword ptr [rsi]`);
    t.push(`fi${op.slice(1)} dword ptr [rsi]`, `fi${op.slice(1)} word ptr [rsi]`);
  }
  for (const op of ["fcom", "fcomp"])
    t.push(
      `${op} st(1)`,
      `${op} dword ptr [rsi]`,
      `${op} qword ptr [rsi]`,
      `fi${op.slice(1)} word ptr [rsi]`,
      `fi${op.slice(1)} dword ptr [rsi]`,
    );
  t.push(
    "fucom st(1)",
    "fucomp st(3)",
    "fcompp",
    "fucompp",
    "fcomi st,st(1)",
    "fcomip st,st(1)",
    "fucomi st,st(2)",
    "fucomip st,st(2)",
  );
  t.push(
    "ftst",
    "fxam",
    "fchs",
    "fabs",
    "fsqrt",
    "frndint",
    "fscale",
    "fxtract",
    "fld st(3)",
    "fld dword ptr [rsi]",
    "fld qword ptr [rsi]",
    "fld tbyte ptr [rsi]",
  );
  t.push(
    "fild word ptr [rsi]",
    "fild dword ptr [rsi]",
    "fild qword ptr [rsi]",
    "fld1",
    "fldl2t",
    "fldl2e",
    "fldpi",
    "fldlg2",
    "fldln2",
    "fldz",
  );
  t.push(
    "fst dword ptr [rsi]",
    "fst qword ptr [rsi]",
    "fstp dword ptr [rsi]",
    "fstp qword ptr [rsi]",
    "fstp tbyte ptr [rsi]",
    "fst st(4)",
    "fstp st(1)",
  );
  t.push(
    "fist word ptr [rsi]",
    "fist dword ptr [rsi]",
    "fistp word ptr [rsi]",
    "fistp dword ptr [rsi]",
    "fistp qword ptr [rsi]",
  );
  t.push(
    "fisttp word ptr [rsi]",
    "fisttp dword ptr [rsi]",
    "fisttp qword ptr [rsi]",
    "fbstp tbyte ptr [rsi]",
    "fxch st(2)",
    "ffree st(1)",
    "ffreep st(2)",
  );
  for (const c of ["b", "e", "be", "u", "nb", "ne", "nbe", "nu"]) t.push(`fcmov${c} st,st(2)`);
  t.push("fincstp", "fdecstp", "fnop", "fnstcw [rsi]", "fnstsw [rsi]", "fnstsw ax", "fnclex", "fninit", "fwait");
  t.push(
    "fnstenv [rsi]",
    "fnsave [rsi]",
    "fldenv [rsi]",
    "frstor [rsi]",
    "data16 fnstenv [rsi]",
    "data16 fnsave [rsi]",
    "data16 frstor [rsi]",
  );
  t.push("maskmovdqu xmm1,xmm2", "maskmovq mm1,mm2");
  return t;
}

/** State block: 512 fxsave image, rax rcx rdx rbx flags rsi rdi (8 each) at 512, 128 bytes of memory at 640. */
const STATE = 768;
const CASES = 64;

function assembly(list: readonly string[]): string {
  const out = [".intel_syntax noprefix", ".text"];
  list.forEach((text, i) => {
    out.push(
      `run_${i}: push rbx; push rbp; mov rbp,rdi; fxrstor64 [rbp]; mov rax,[rbp+512]; mov rcx,[rbp+520]; mov rdx,[rbp+528]; mov rbx,[rbp+536]`,
      "lea rsi,[rbp+640]; mov rdi,rsi; push [rbp+544]; popfq",
      `s_${i}: ${text}`,
      `e_${i}: pushfq; pop r8; mov [rbp+512],rax; mov [rbp+520],rcx; mov [rbp+528],rdx; mov [rbp+536],rbx; mov [rbp+544],r8; fxsave64 [rbp]`,
      "fninit; push 0x1f80; ldmxcsr [rsp]; pop r8; pop rbp; pop rbx; ret",
    );
  });
  for (const [name, label] of [
    ["runs", "run"],
    ["starts", "s"],
    ["ends", "e"],
  ])
    out.push(".data", ".balign 8", `.globl ${name}`, `${name}:`, ...list.map((_, i) => `.quad ${label}_${i}`));
  out.push(".section .note.GNU-stack");
  return out.join("\n") + "\n";
}
const MAIN = `
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
extern void (*runs[])(void *); extern uint8_t *starts[], *ends[];
static uint64_t s = 88172645463325252ull;
static uint64_t rnd(void) { s ^= s << 13; s ^= s >> 7; s ^= s << 17; return s * 0x2545F4914F6CDD1Dull; }
static uint32_t f32v(void) { uint32_t e = rnd() % 8 ? 100 + rnd() % 60 : rnd() % 3 ? (rnd() & 1 ? 255 : 0) : rnd() % 256; uint32_t m = rnd() % 4 ? rnd() & 0x7fffff : rnd() % 3 ? 0 : rnd() & 0x7f0000; return (uint32_t)(rnd() & 1) << 31 | e << 23 | m; }
static uint64_t f64v(void) { uint64_t e = rnd() % 8 ? 1000 + rnd() % 70 : rnd() % 3 ? (rnd() & 1 ? 2047 : 0) : rnd() % 2048; uint64_t m = rnd() % 4 ? rnd() & 0xfffffffffffffull : rnd() % 3 ? 0 : rnd() & 0xffff000000000ull; return (rnd() & 1) << 63 | e << 52 | m; }
static uint64_t lanes(int kind) {
  uint64_t r = 0; int i;
  switch (kind) {
    case 0: return rnd();
    case 1: return f32v() | (uint64_t)f32v() << 32;
    case 2: return f64v();
    case 3: for (i = 0; i < 8; i++) r = r << 8 | (uint8_t[]){0, 1, 0x7f, 0x80, 0xff, 0x81, 0xfe, 2}[rnd() % 8]; return r;
    case 4: for (i = 0; i < 4; i++) r = r << 16 | (uint16_t[]){0, 1, 0x7fff, 0x8000, 0xffff, 0x8001, 0x00ff, 0xff80}[rnd() % 8]; return r;
    case 5: return rnd() % 80;
    case 6: for (i = 0; i < 8; i++) r = r << 8 | "abc\\0"[rnd() % 4]; return r;
    default: return rnd() & rnd() & rnd();
  }
}
static uint8_t st[${STATE}] __attribute__((aligned(64)));
int main(void) {
  for (int i = 0; i < COUNT; i++) {
    uint8_t n = ends[i] - starts[i]; uint8_t b[16] = {n};
    memcpy(b + 1, starts[i], n);
    fwrite(b, 16, 1, stdout);
    for (int c = 0; c < ${CASES}; c++) {
      memset(st, 0, sizeof st);
      uint16_t fcw = 0x7f | (uint16_t[]){0, 2, 3, 3}[rnd() % 4] << 8 | rnd() % 4 << 10, fsw = (rnd() % 8) << 11 | (rnd() & 0x4700) | (rnd() & 0x3f), fop = 0;
      memcpy(st, &fcw, 2); memcpy(st + 2, &fsw, 2); memcpy(st + 6, &fop, 2);
      st[4] = rnd() % 4 ? 0xff : rnd();
      /* a free place below the top half of the time, so that loads do not only overflow */
      if (rnd() & 1) st[4] &= ~(1 << (((fsw >> 11) - 1) & 7));
      uint32_t mx = 0x1f80 | (rnd() & 0x3f) | (rnd() % 2 ? 0 : rnd() % 4 << 13) | (rnd() % 8 ? 0 : 0x40) | (rnd() % 8 ? 0 : 0x8000), mask = 0xffff;
      memcpy(st + 24, &mx, 4); memcpy(st + 28, &mask, 4);
      for (int r = 0; r < 8; r++) {
        uint64_t m = lanes(rnd() % 8); uint16_t e = rnd() % 6 ? 16383 - 20 + rnd() % 60 : rnd() % 3 ? 0xffff : rnd() & 1 ? 0 : rnd();
        if ((e & 0x7fff) && rnd() % 16) m |= 1ull << 63;
        e ^= (rnd() & 1) << 15;
        memcpy(st + 32 + 16 * r, &m, 8); memcpy(st + 40 + 16 * r, &e, 2);
      }
      int k = rnd() % 8;
      for (int r = 0; r < 16; r++) for (int h = 0; h < 2; h++) { uint64_t v = lanes(rnd() % 3 ? k : rnd() % 8); memcpy(st + 160 + 16 * r + 8 * h, &v, 8); }
      if (rnd() % 4 == 0) memcpy(st + 160 + 32, st + 160 + 16, 16);
      for (int r = 0; r < 4; r++) { uint64_t v = rnd() & 1 ? rnd() % 20 : rnd(); memcpy(st + 512 + 8 * r, &v, 8); }
      uint64_t fl = 2 | (rnd() & 0x8d5); memcpy(st + 544, &fl, 8);
      for (int r = 0; r < 16; r++) { uint64_t v = lanes(rnd() % 3 ? k : rnd() % 8); memcpy(st + 640 + 8 * r, &v, 8); }
      fwrite(st, sizeof st, 1, stdout);
      runs[i](st);
      fwrite(st, sizeof st, 1, stdout);
    }
  }
  return 0;
}`;

const MEM = 0x300800;
const IMAGE = 0x301000;
const RECORD = 0x302000;
const ENTRY = 0x1000;

describe.skipIf(!hasHost)("emitters equal the host CPU (needs cc and x86-64)", () => {
  const dir = workDir();
  let core: WebAssembly.Module;
  beforeAll(async () => {
    core = await compileCore(dir.path);
  }, 180_000);
  afterAll(() => dir.remove());

  const list = texts();
  let host: Uint8Array | undefined;
  const hostData = (): Uint8Array => {
    if (host) return host;
    writeFileSync(join(dir.path, "t.s"), assembly(list));
    writeFileSync(join(dir.path, "m.c"), `#define COUNT ${list.length}\n${MAIN}`);
    host = runHost(compileHost(dir.path, "host", [join(dir.path, "t.s"), join(dir.path, "m.c")]), []);
    return host;
  };

  it.each(["interpreter", "translator"])(
    "every form through the %s",
    (engine) => {
      const data = hostData();
      const ops: OpTable = new Map();
      register(ops);

      const size = 16 + CASES * 2 * STATE;
      const builder = new ModuleBuilder();
      builder.importMemory("env", "memory", true, 1, 65536);
      const indices = new Map<string, number>();
      const helpers = {
        type: (name: string): FuncType => {
          const t = helperTypes[name];
          if (!t) throw new Error(`no helper ${name}`);
          return t;
        },
        index: (name: string): number => {
          let i = indices.get(name);
          if (i === undefined) indices.set(name, (i = builder.importFunc("core", name, helpers.type(name))));
          return i;
        },
        wide: () => false,
      };
      const insns: Insn[] = [];
      const codes = list.map((text, i) => {
        const at = i * size;
        const n = decode(data, at + 1, at + 1 + (data[at] as number), 64);
        if (!n) throw new Error(`cannot decode ${text}`);
        insns.push(n);
        const def = ops.get(n.op);
        if (!def) throw new Error(`no semantics for ${n.op} (${text})`);
        if (engine === "interpreter") {
          const sem = new InterpreterSem(L.MODE_BITS_64, helpers, n, def.imm === true, -1);
          def.emit(sem);
          return sem.finish();
        }
        const source: CodeSource = {
          codeAddr: () => 0x310000,
          decodeAt: (va) => (va === ENTRY ? n : null),
          count: (va) => (va === ENTRY ? 1 : 0),
          targets: () => [],
        };
        const region = translateRegion(source, ops, helpers, ENTRY, L.MODE_BITS_64 | L.MODE_FLAT);
        if (!region) throw new Error(`cannot translate ${text}`);
        return region.code;
      });
      codes.forEach((code, i) => builder.addFunc(code, `f${i}`));
      const { memory, x } = instantiate(core, 0);
      const code = new WebAssembly.Instance(new WebAssembly.Module(builder.finish()), {
        env: { memory },
        core: x as unknown as WebAssembly.ModuleImports,
      }).exports as unknown as Record<string, (rec: number) => number>;
      const u8 = new Uint8Array(memory.buffer);
      const dv = new DataView(memory.buffer);

      const failures: string[] = [];
      list.forEach((text, i) => {
        const n = insns[i] as Insn;
        let bad = 0;
        for (let c = 0; c < CASES && bad < 1; c++) {
          const from = i * size + 16 + c * 2 * STATE;
          const input = data.subarray(from, from + STATE);
          const want = data.slice(from + STATE, from + 2 * STATE);
          const iv = new DataView(input.buffer, input.byteOffset, STATE);
          u8.set(input.subarray(0, 512), IMAGE);
          x["fxrstorFrom"]?.(IMAGE);
          for (let r = 0; r < 4; r++) dv.setBigUint64(L.GPR + 8 * r, iv.getBigUint64(512 + 8 * r, true), true);
          dv.setBigUint64(L.GPR + 8 * 6, BigInt(MEM), true);
          dv.setBigUint64(L.GPR + 8 * 7, BigInt(MEM), true);
          dv.setInt32(L.CC_OP, 0, true);
          dv.setBigUint64(L.CC_A, iv.getBigUint64(544, true) & 0x8d5n, true);
          u8.set(input.subarray(640, 768), MEM);
          u8.fill(0, RECORD, RECORD + L.REC_SIZE);
          n.ops.forEach((o, k) =>
            dv.setUint16(
              RECORD + L.REC_R0 + 2 * k,
              o.kind === K.MEM || o.kind === K.IMM ? 0 : registerAddress(o),
              true,
            ),
          );
          dv.setUint16(RECORD + L.REC_BASE, L.GPR + 8 * n.memBase, true);
          dv.setBigInt64(RECORD + L.REC_DISP, BigInt(n.disp), true);
          dv.setBigInt64(RECORD + L.REC_IMM, BigInt(n.imm), true);
          dv.setUint8(RECORD + L.REC_LEN, n.len);
          dv.setInt32(L.BUDGET, 1000, true);
          dv.setInt32(L.EXIT_REASON, 0, true);
          const status = code[`f${i}`]?.(engine === "interpreter" ? RECORD : 0);
          x["fxsaveTo"]?.(IMAGE);
          // Not compared: instruction and data pointers, the opcode, MXCSR_MASK.
          want.fill(0, 6, 24);
          u8.fill(0, IMAGE + 6, IMAGE + 24);
          want.fill(0, 28, 32);
          u8.fill(0, IMAGE + 28, IMAGE + 32);
          const differ: string[] = status === 0 ? [] : [`status ${status}`];
          const diff = (what: string, a: Uint8Array, b: Uint8Array): void => {
            const h = (e: Uint8Array): string =>
              [...e]
                .reverse()
                .map((q) => q.toString(16).padStart(2, "0"))
                .join("");
            if (h(a) !== h(b)) differ.push(`${what}: host ${h(a)} here ${h(b)}`);
          };
          diff("control", want.subarray(0, 32), u8.subarray(IMAGE, IMAGE + 32));
          for (let r = 0; r < 8; r++)
            diff(
              `st${r}`,
              want.subarray(32 + 16 * r, 42 + 16 * r),
              u8.subarray(IMAGE + 32 + 16 * r, IMAGE + 42 + 16 * r),
            );
          for (let r = 0; r < 16; r++)
            diff(
              `xmm${r}`,
              want.subarray(160 + 16 * r, 176 + 16 * r),
              u8.subarray(IMAGE + 160 + 16 * r, IMAGE + 176 + 16 * r),
            );
          for (let r = 0; r < 4; r++)
            diff(`gpr${r}`, want.subarray(512 + 8 * r, 520 + 8 * r), u8.subarray(L.GPR + 8 * r, L.GPR + 8 * r + 8));
          diff("memory", want.subarray(640, 768), u8.subarray(MEM, MEM + 128));
          const flags =
            x["ccFlags"]?.(
              dv.getInt32(L.CC_OP, true),
              dv.getBigInt64(L.CC_A, true),
              dv.getBigInt64(L.CC_B, true),
              dv.getBigInt64(L.CC_R, true),
            ) ?? 0;
          const wantFlags = Number(new DataView(want.buffer, want.byteOffset).getBigUint64(544, true) & 0x8d5n);
          if ((flags & 0x8d5) !== wantFlags)
            differ.push(`flags: host ${wantFlags.toString(16)} here ${flags.toString(16)}`);
          if (differ.length > 0) {
            bad++;
            failures.push(`${text} case ${c}: ${differ.slice(0, 3).join("; ")}`);
          }
        }
      });
      expect(failures.slice(0, 40)).toEqual([]);
    },
    180_000,
  );
});
