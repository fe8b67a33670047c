/**
 * The 0F 38 and 0F 3A opcode maps (SDM vol. 2, tables ): SSSE3, SSE4.1 and SSE4.2. The row language is described
 * in `table.ts`. MOVBE, ADX, AES, SHA, PCLMULQDQ and INVEPT/INVVPID/INVPCID are not exposed and so are absent.
 */
const both = (opcode: string, op: string): string => `
${opcode} np ${op} P Qq
${opcode} 66 ${op} V Wx
`;

export const MAP_0F38 =
  both("00", "pshufb") +
  both("01", "phaddw") +
  both("02", "phaddd") +
  both("03", "phaddsw") +
  both("04", "pmaddubsw") +
  both("05", "phsubw") +
  both("06", "phsubd") +
  both("07", "phsubsw") +
  both("08", "psignb") +
  both("09", "psignw") +
  both("0a", "psignd") +
  both("0b", "pmulhrsw") +
  both("1c", "pabsb") +
  both("1d", "pabsw") +
  both("1e", "pabsd") +
  `
10 66 pblendvb V Wx
14 66 blendvps V Wx
15 66 blendvpd V Wx
17 66 ptest    V Wx
20 66 pmovsxbw V Wq
21 66 pmovsxbd V Wd
22 66 pmovsxbq V Ww
23 66 pmovsxwd V Wq
24 66 pmovsxwq V Wd
25 66 pmovsxdq V Wq
28 66 pmuldq   V Wx
29 66 pcmpeqq  V Wx
2a 66 movntdqa V Mx
2b 66 packusdw V Wx
30 66 pmovzxbw V Wq
31 66 pmovzxbd V Wd
32 66 pmovzxbq V Ww
33 66 pmovzxwd V Wq
34 66 pmovzxwq V Wd
35 66 pmovzxdq V Wq
37 66 pcmpgtq  V Wx
38 66 pminsb   V Wx
39 66 pminsd   V Wx
3a 66 pminuw   V Wx
3b 66 pminud   V Wx
3c 66 pmaxsb   V Wx
3d 66 pmaxsd   V Wx
3e 66 pmaxuw   V Wx
3f 66 pmaxud   V Wx
40 66 pmulld   V Wx
41 66 phminposuw V Wx
f0 f2 crc32 Gy Eb o66
f1 f2 crc32 Gy Ev o66
`;

export const MAP_0F3A = `
08 66 roundps V Wx Ib
09 66 roundpd V Wx Ib
0a 66 roundss V Wd Ib
0b 66 roundsd V Wq Ib
0c 66 blendps V Wx Ib
0d 66 blendpd V Wx Ib
0e 66 pblendw V Wx Ib
0f np palignr P Qq Ib
0f 66 palignr V Wx Ib
14 66 pextrb Rd/Mb V Ib
15 66 pextrw Rd/Mw V Ib
16 66 pextrd|pextrq Ey V Ib
17 66 extractps Ed V Ib
20 66 pinsrb V Rd/Mb Ib
21 66 insertps V Wd Ib
22 66 pinsrd|pinsrq V Ey Ib
40 66 dpps V Wx Ib
41 66 dppd V Wx Ib
42 66 mpsadbw V Wx Ib
60 66 pcmpestrm V Wx Ib
61 66 pcmpestri V Wx Ib
62 66 pcmpistrm V Wx Ib
63 66 pcmpistri V Wx Ib
`;
