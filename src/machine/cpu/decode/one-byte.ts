/**
 * The one-byte opcode map (SDM vol. 2, table A-2), D8–DF excepted (`x87.ts`). The row language is described in `table.ts`.
 */
const arith = (base: number, op: string, lock: string): string => {
  const h = (n: number): string => (base + n).toString(16).padStart(2, "0");
  return `
${h(0)} ${op} Eb Gb ${lock}
${h(1)} ${op} Ev Gv ${lock}
${h(2)} ${op} Gb Eb
${h(3)} ${op} Gv Ev
${h(4)} ${op} AL Ib
${h(5)} ${op} rAX Iz
80/${base >> 3} ${op} Eb Ib ${lock}
81/${base >> 3} ${op} Ev Iz ${lock}
82/${base >> 3} ${op} Eb Ib ${lock} n64
83/${base >> 3} ${op} Ev Is ${lock}
`;
};

const shift = (reg: number, op: string): string => `
c0/${reg} ${op} Eb Ib
c1/${reg} ${op} Ev Ib
d0/${reg} ${op} Eb 1
d1/${reg} ${op} Ev 1
d2/${reg} ${op} Eb CL
d3/${reg} ${op} Ev CL
`;

export const ONE_BYTE =
  arith(0x00, "add", "lock") +
  arith(0x08, "or", "lock") +
  arith(0x10, "adc", "lock") +
  arith(0x18, "sbb", "lock") +
  arith(0x20, "and", "lock") +
  arith(0x28, "sub", "lock") +
  arith(0x30, "xor", "lock") +
  arith(0x38, "cmp", "") +
  shift(0, "rol") +
  shift(1, "ror") +
  shift(2, "rcl") +
  shift(3, "rcr") +
  shift(4, "shl") +
  shift(5, "shr") +
  shift(6, "shl") +
  shift(7, "sar") +
  `
06 push_sreg ES n64
07 pop_sreg  ES n64
0e push_sreg CS n64
16 push_sreg SS n64
17 pop_sreg  SS n64
1e push_sreg DS n64
1f pop_sreg  DS n64
27 daa n64
2f das n64
37 aaa n64
3f aas n64

40-47 inc Zv n64
48-4f dec Zv n64
50-57 push Zv d64
58-5f pop  Zv d64

60 pusha n64
61 popa  n64
62 bound Gv Ma n64
63 arpl  Ew Gw n64
63 movsxd Gv Ex o64
68 push Iz d64
69 imul Gv Ev Iz
6a push Is d64
6b imul Gv Ev Is
6c ins  byte string es
6d ins  z string es
6e outs byte string
6f outs z string
70-7f jcc Jb cc f64

84 test Eb Gb
85 test Ev Gv
86 xchg Eb Gb lock
87 xchg Ev Gv lock
88 mov  Eb Gb
89 mov  Ev Gv
8a mov  Gb Eb
8b mov  Gv Ev
8c mov_sreg Rv/Mw Sw
8d lea  Gv M
8e mov_sreg Sw Ew
8f/0 pop Ev d64

90-97 xchg Zv rAX
98 cbw
99 cwd
9a call_far_imm Ap n64
9b wait
9c pushf d64
9d popf  d64
9e sahf
9f lahf
a0 mov AL Ob
a1 mov rAX Ov
a2 mov Ob AL
a3 mov Ov rAX
a4 movs byte string
a5 movs string
a6 cmps byte string
a7 cmps string
a8 test AL Ib
a9 test rAX Iz
aa stos byte string es
ab stos string es
ac lods byte string
ad lods string
ae scas byte string es
af scas string es
b0-b7 mov Zb Ib
b8-bf mov Zv Iv

c2 ret Iw f64
c3 ret f64
c4 les Gv Mp n64
c5 lds Gv Mp n64
c6/0 mov Eb Ib
c7/0 mov Ev Iz
c8 enter Iw I2 d64
c9 leave d64
ca ret_far Iw
cb ret_far
cc int3
cd int Ib
ce into n64
cf iret
d4 aam Ib n64
d5 aad Ib n64
d6 salc n64
d7 xlat string

e0 loopne Jb f64
e1 loope  Jb f64
e2 loop   Jb f64
e3 jcxz   Jb f64
e4 in AL Ib
e5 in eAX Ib z
e6 out Ib AL byte
e7 out Ib eAX z
e8 call Jz f64
e9 jmp  Jz f64
ea jmp_far_imm Ap n64
eb jmp  Jb f64
ec in AL DX
ed in eAX DX z
ee out DX AL byte
ef out DX eAX z
f1 int1
f4 hlt
f5 cmc
f6/0 test Eb Ib
f6/1 test Eb Ib
f6/2 not  Eb lock
f6/3 neg  Eb lock
f6/4 mul  Eb
f6/5 imul1 Eb
f6/6 div  Eb
f6/7 idiv Eb
f7/0 test Ev Iz
f7/1 test Ev Iz
f7/2 not  Ev lock
f7/3 neg  Ev lock
f7/4 mul  Ev
f7/5 imul1 Ev
f7/6 div  Ev
f7/7 idiv Ev
f8 clc
f9 stc
fa cli
fb sti
fc cld
fd std
fe/0 inc Eb lock
fe/1 dec Eb lock
ff/0 inc Ev lock
ff/1 dec Ev lock
ff/2 call_ind Ev f64
ff/3 call_far Mp
ff/4 jmp_ind  Ev f64
ff/5 jmp_far  Mp
ff/6 push Ev d64
`;
