/**
 * The 0F opcode map (SDM vol. 2, table A-3). The row language is described in `table.ts`.
 *
 * Left out on purpose, so that they decode as "ud" (the CPUID promise): 3DNow!, SSE4A, VMX, SVM but for its two mnemonics
 * with an exit, XSAVE, FSGSBASE, RDRAND, CLFLUSHOPT/CLWB, MPX, CET. LZCNT and TZCNT decode as `bsr` and `bsf`, as on a
 * processor without them.
 */

/** MMX and SSE2 integer: the same operation on P,Q and (66) on V,W. */
const both = (opcode: string, op: string): string => `
${opcode} np ${op} P Qq
${opcode} 66 ${op} V Wx
`;
/** ps, pd, ss, sd. */
const four = (opcode: string, op: string): string => `
${opcode} np ${op}ps V Wx
${opcode} 66 ${op}pd V Wx
${opcode} f3 ${op}ss V Wd
${opcode} f2 ${op}sd V Wq
`;
const psd = (opcode: string, op: string): string => `
${opcode} np ${op}ps V Wx
${opcode} 66 ${op}pd V Wx
`;

const SYSTEM = `
00/0 sldt Rv/Mw
00/1 str  Rv/Mw
00/2 lldt Ew
00/3 ltr  Ew
00/4 verr Ew
00/5 verw Ew
01/0 sgdt Mp native
01/1 sidt Mp native
01/2 lgdt Mp native
01/3 lidt Mp native
01/4 smsw Rv/Mw
01/6 lmsw Ew
01/7 invlpg M
01:c1 np vmcall
01:c8 np monitor
01:c9 np mwait
01:d9 vmmcall
01:df invlpga
01:f8 swapgs o64
01:f9 rdtscp
02 lar Gv Ew
03 lsl Gv Ew
05 syscall
06 clts
07 sysret no66
08 invd
09 wbinvd
0b ud2
0d nop E_
18-1f nop E_
20 mov_cr Rn Cn
21 mov_dr Rn Dn
22 mov_cr Cn Rn
23 mov_dr Dn Rn
30 wrmsr
31 rdtsc
32 rdmsr
33 rdpmc
34 sysenter
35 sysexit no66
a2 cpuid
ae/0 np fxsave  M
ae/1 np fxrstor M
ae/2 np ldmxcsr Md
ae/3 np stmxcsr Md
ae/7 np clflush Mb
ae/5r np lfence
ae/6r np mfence
ae/7r np sfence
b9 ud1 Gv Ev
ff ud0 Gv Ev
`;

const GENERAL = `
40-4f cmovcc Gv Ev cc
80-8f jcc Jz cc f64
90-9f setcc Eb cc
a0 push_sreg FS d64
a1 pop_sreg  FS d64
a3 bt   Ev Gv
a4 shld Ev Gv Ib
a5 shld Ev Gv CL
a8 push_sreg GS d64
a9 pop_sreg  GS d64
ab bts  Ev Gv lock
ac shrd Ev Gv Ib
ad shrd Ev Gv CL
af imul Gv Ev
b0 cmpxchg Eb Gb lock
b1 cmpxchg Ev Gv lock
b2 lss  Gv Mp
b3 btr  Ev Gv lock
b4 lfs  Gv Mp
b5 lgs  Gv Mp
b6 movzx Gv Eb
b7 movzx Gv Ew
b8 f3 popcnt Gv Ev o66
ba/4 bt  Ev Ib
ba/5 bts Ev Ib lock
ba/6 btr Ev Ib lock
ba/7 btc Ev Ib lock
bb btc  Ev Gv lock
bc bsf  Gv Ev
bd bsr  Gv Ev
be movsx Gv Eb
bf movsx Gv Ew
c0 xadd Eb Gb lock
c1 xadd Ev Gv lock
c3 np movnti My Gy
c7/1 cmpxchg8b|cmpxchg16b Mc lock
c8-cf bswap Zv
`;

const SSE =
  `
10 np movups V Wx
10 66 movupd V Wx
10 f3 movss  V Wd
10 f2 movsd  V Wq
11 np movups Wx V
11 66 movupd Wx V
11 f3 movss  Wd V
11 f2 movsd  Wq V
12 np movlps V Mq
12 np movhlps V U
12 66 movlpd V Mq
12 f3 movsldup V Wx
12 f2 movddup V Wq
13 np movlps Mq V
13 66 movlpd Mq V
14 np unpcklps V Wx
14 66 unpcklpd V Wx
15 np unpckhps V Wx
15 66 unpckhpd V Wx
16 np movhps V Mq
16 np movlhps V U
16 66 movhpd V Mq
16 f3 movshdup V Wx
17 np movhps Mq V
17 66 movhpd Mq V
28 np movaps V Wx
28 66 movapd V Wx
29 np movaps Wx V
29 66 movapd Wx V
2a np cvtpi2ps V Qq
2a 66 cvtpi2pd V Qq
2a f3 cvtsi2ss V Ey
2a f2 cvtsi2sd V Ey
2b np movntps Mx V
2b 66 movntpd Mx V
2c np cvttps2pi P Wq
2c 66 cvttpd2pi P Wx
2c f3 cvttss2si Gy Wd
2c f2 cvttsd2si Gy Wq
2d np cvtps2pi P Wq
2d 66 cvtpd2pi P Wx
2d f3 cvtss2si Gy Wd
2d f2 cvtsd2si Gy Wq
2e np ucomiss V Wd
2e 66 ucomisd V Wq
2f np comiss V Wd
2f 66 comisd V Wq
50 np movmskps Gd U
50 66 movmskpd Gd U
` +
  four("51", "sqrt") +
  `
52 np rsqrtps V Wx
52 f3 rsqrtss V Wd
53 np rcpps V Wx
53 f3 rcpss V Wd
` +
  psd("54", "and") +
  psd("55", "andn") +
  psd("56", "or") +
  psd("57", "xor") +
  four("58", "add") +
  four("59", "mul") +
  `
5a np cvtps2pd V Wq
5a 66 cvtpd2ps V Wx
5a f3 cvtss2sd V Wd
5a f2 cvtsd2ss V Wq
5b np cvtdq2ps V Wx
5b 66 cvtps2dq V Wx
5b f3 cvttps2dq V Wx
` +
  four("5c", "sub") +
  four("5d", "min") +
  four("5e", "div") +
  four("5f", "max") +
  `
60 np punpcklbw P Qd
60 66 punpcklbw V Wx
61 np punpcklwd P Qd
61 66 punpcklwd V Wx
62 np punpckldq P Qd
62 66 punpckldq V Wx
` +
  both("63", "packsswb") +
  both("64", "pcmpgtb") +
  both("65", "pcmpgtw") +
  both("66", "pcmpgtd") +
  both("67", "packuswb") +
  both("68", "punpckhbw") +
  both("69", "punpckhwd") +
  both("6a", "punpckhdq") +
  both("6b", "packssdw") +
  `
6c 66 punpcklqdq V Wx
6d 66 punpckhqdq V Wx
6e np movd|movq P Ey
6e 66 movd|movq V Ey
6f np movq   P Qq
6f 66 movdqa V Wx
6f f3 movdqu V Wx
70 np pshufw  P Qq Ib
70 66 pshufd  V Wx Ib
70 f3 pshufhw V Wx Ib
70 f2 pshuflw V Wx Ib
71/2 np psrlw N Ib
71/2 66 psrlw U Ib
71/4 np psraw N Ib
71/4 66 psraw U Ib
71/6 np psllw N Ib
71/6 66 psllw U Ib
72/2 np psrld N Ib
72/2 66 psrld U Ib
72/4 np psrad N Ib
72/4 66 psrad U Ib
72/6 np pslld N Ib
72/6 66 pslld U Ib
73/2 np psrlq N Ib
73/2 66 psrlq U Ib
73/3 66 psrldq U Ib
73/6 np psllq N Ib
73/6 66 psllq U Ib
73/7 66 pslldq U Ib
` +
  both("74", "pcmpeqb") +
  both("75", "pcmpeqw") +
  both("76", "pcmpeqd") +
  `
77 np emms
7c 66 haddpd V Wx
7c f2 haddps V Wx
7d 66 hsubpd V Wx
7d f2 hsubps V Wx
7e np movd|movq Ey P
7e 66 movd|movq Ey V
7e f3 movq V Wq
7f np movq   Qq P
7f 66 movdqa Wx V
7f f3 movdqu Wx V
c2 np cmpps V Wx Ib
c2 66 cmppd V Wx Ib
c2 f3 cmpss V Wd Ib
c2 f2 cmpsd V Wq Ib
c4 np pinsrw P Rd/Mw Ib
c4 66 pinsrw V Rd/Mw Ib
c5 np pextrw Gd N Ib
c5 66 pextrw Gd U Ib
c6 np shufps V Wx Ib
c6 66 shufpd V Wx Ib
d0 66 addsubpd V Wx
d0 f2 addsubps V Wx
` +
  both("d1", "psrlw") +
  both("d2", "psrld") +
  both("d3", "psrlq") +
  both("d4", "paddq") +
  both("d5", "pmullw") +
  `
d6 66 movq Wq V
d6 f3 movq2dq V N
d6 f2 movdq2q P U
d7 np pmovmskb Gd N
d7 66 pmovmskb Gd U
` +
  both("d8", "psubusb") +
  both("d9", "psubusw") +
  both("da", "pminub") +
  both("db", "pand") +
  both("dc", "paddusb") +
  both("dd", "paddusw") +
  both("de", "pmaxub") +
  both("df", "pandn") +
  both("e0", "pavgb") +
  both("e1", "psraw") +
  both("e2", "psrad") +
  both("e3", "pavgw") +
  both("e4", "pmulhuw") +
  both("e5", "pmulhw") +
  `
e6 66 cvttpd2dq V Wx
e6 f3 cvtdq2pd V Wq
e6 f2 cvtpd2dq V Wx
e7 np movntq  Mq P
e7 66 movntdq Mx V
` +
  both("e8", "psubsb") +
  both("e9", "psubsw") +
  both("ea", "pminsw") +
  both("eb", "por") +
  both("ec", "paddsb") +
  both("ed", "paddsw") +
  both("ee", "pmaxsw") +
  both("ef", "pxor") +
  `
f0 f2 lddqu V Mx
` +
  both("f1", "psllw") +
  both("f2", "pslld") +
  both("f3", "psllq") +
  both("f4", "pmuludq") +
  both("f5", "pmaddwd") +
  both("f6", "psadbw") +
  `
f7 np maskmovq   P N string
f7 66 maskmovdqu V U string
` +
  both("f8", "psubb") +
  both("f9", "psubw") +
  both("fa", "psubd") +
  both("fb", "psubq") +
  both("fc", "paddb") +
  both("fd", "paddw") +
  both("fe", "paddd");

export const TWO_BYTE = SYSTEM + GENERAL + SSE;
