/* Runs x87 and SSE operations on the host CPU over random and corner operands and writes records for batch.ts to check.
 * usage: native <kind 0 x87 | 1 sse scalar | 2 sse unmasked> <count> <seed>  > records
 * Record, 112 bytes: 0 op u32, 4 env u32, 8 a[16], 24 b[16], 40 r0[16], 56 r1[16], 72 mem[16], 88 status u32, 92 tags u32, 96 flags u32, 100 pad. */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
typedef struct { uint32_t op, env; uint8_t a[16], b[16], r0[16], r1[16], mem[16]; uint32_t status, tags, flags, pad[3]; } rec;
static uint64_t s;
static uint64_t rnd(void) { s ^= s << 13; s ^= s >> 7; s ^= s << 17; return s * 0x2545F4914F6CDD1Dull; }
static uint64_t mant(int bits) { /* interesting mantissa patterns */
  uint64_t m = rnd();
  switch (rnd() % 8) {
    case 0: m = 0; break;
    case 1: m = ~0ull; break;
    case 2: m = 1ull << (rnd() % 64); break;
    case 3: m = ~0ull << (rnd() % 64); break;
    case 4: m = ~0ull >> (rnd() % 64); break;
    case 5: m &= ~0ull << (rnd() % 64); break;
    default: break;
  }
  return bits == 64 ? m : m & ((1ull << bits) - 1);
}
static uint32_t expo(int max, int bias, int around) {
  switch (rnd() % 12) {
    case 0: return 0;
    case 1: return max;
    case 2: return 1 + rnd() % 4;
    case 3: return max - 1 - rnd() % 4;
    case 4: return rnd() % (max + 1);
    case 5: return (bias + around + (int)(rnd() % 8) - 4) & max;
    default: return bias + (int)(rnd() % 40) - 20;
  }
}
static uint32_t f32v(void) { return (uint32_t)(rnd() & 1) << 31 | expo(255, 127, 31) << 23 | (uint32_t)mant(23); }
static uint64_t f64v(void) { return (rnd() & 1) << 63 | (uint64_t)expo(2047, 1023, rnd() & 1 ? 63 : 31) << 52 | mant(52); }
static void f80v(uint8_t *p) {
  memset(p, 0, 16);
  uint64_t m = mant(64);
  uint32_t e = expo(32767, 16383, 63);
  if (rnd() % 16 == 0) e = 16383 + (rnd() & 1 ? 1023 : 127) * (rnd() & 1 ? 1 : -1) + rnd() % 5 - 2;
  if (rnd() % 16 == 0) e = 16383 - (rnd() & 1 ? 1023 + rnd() % 54 : 127 + rnd() % 25);
  if (e == 0 ? rnd() % 8 == 0 : rnd() % 64 != 0) m |= 1ull << 63;
  else m &= ~(1ull << 63);
  uint16_t se = e | (rnd() & 1) << 15;
  memcpy(p, &m, 8);
  memcpy(p + 8, &se, 2);
}
static const int x87ops[] = {0, 1, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35};
static struct { uint8_t x[512]; } fx __attribute__((aligned(16)));
static void x87(rec *r) {
  uint16_t cw = r->env;
  uint8_t *a = r->a, *b = r->b, *m = r->mem;
  memset(m, 0xa5, 16);
  __asm__ volatile("fninit; fldt %0; fldt %1; fldcw %2" ::"m"(*b), "m"(*a), "m"(cw));
#define X(n, ins) case n: __asm__ volatile(ins : "+m"(*(struct { uint8_t q[16]; } *)m)); break;
  switch (r->op) {
    X(0, "fadd %%st(1),%%st") X(1, "fmul %%st(1),%%st") X(4, "fsub %%st(1),%%st") X(5, "fsubr %%st(1),%%st")
    X(6, "fdiv %%st(1),%%st") X(7, "fdivr %%st(1),%%st") X(10, "fsqrt") X(11, "frndint") X(12, "fscale") X(13, "fprem") X(14, "fprem1")
    X(15, "fxtract") X(17, "fcomp %%st(1)") X(18, "fucomp %%st(1)") X(19, "ftst") X(20, "fxam")
    X(21, "fstps %0") X(22, "fstpl %0") X(23, "fistps %0") X(24, "fistpl %0") X(25, "fistpll %0") X(26, "fbstp %0")
    X(27, "fisttps %0") X(28, "fisttpl %0") X(29, "fisttpll %0")
    X(40, "fsin") X(41, "fcos") X(42, "fptan") X(43, "f2xm1") X(44, "fyl2x") X(45, "fyl2xp1") X(46, "fpatan") X(47, "fsincos")
    case 30: __asm__ volatile("flds %0" ::"m"(*a)); break;
    case 31: __asm__ volatile("fldl %0" ::"m"(*a)); break;
    case 32: __asm__ volatile("fildll %0" ::"m"(*a)); break;
    case 33: __asm__ volatile("fadds %0" ::"m"(*b)); break;
    case 34: __asm__ volatile("fdivl %0" ::"m"(*b)); break;
    case 35: __asm__ volatile("fisubl %0" ::"m"(*b)); break;
  }
  __asm__ volatile("fxsave %0; fninit" : "=m"(fx));
  memcpy(r->r0, fx.x + 32, 10);
  memcpy(r->r1, fx.x + 48, 10);
  memcpy(&r->status, fx.x + 2, 2);
  r->tags = fx.x[4];
}
static void genX87(rec *r, int trans) {
  memset(r, 0, sizeof *r);
  r->op = trans ? 40 + rnd() % 8 : x87ops[rnd() % (sizeof x87ops / sizeof *x87ops)];
  uint32_t pc = rnd() % 4;
  if (pc == 1) pc = 3;
  uint32_t mask = rnd() % 4 ? 0x3f : rnd() & 0x3f;
  if (trans) pc = 3, mask = 0x3f;
  r->env = 0x40 | mask | pc << 8 | (trans ? 0 : rnd() % 4) << 10;
  f80v(r->a);
  f80v(r->b);
  uint16_t se;
  if (r->op == 13 || r->op == 14) { /* AMD and Intel differ in how much an incomplete step reduces */
    memcpy(&se, r->b + 8, 2);
    int e = (se & 0x7fff) + (int)(rnd() % 66) - 3;
    if (e > 0 && e < 0x7fff && (se & 0x7fff) && rnd() % 8) { se = (se & 0x8000) | e; memcpy(r->a + 8, &se, 2); }
  }
  if (trans && rnd() % 8) { /* mostly in the domain */
    uint64_t m = rnd() | 1ull << 63;
    int e = 16383 + (int)(rnd() % 30) - 25;
    if (r->op == 43) e = 16382 - (int)(rnd() % 8);
    if (r->op == 45) e = 16380 - (int)(rnd() % 70), m = rnd() | 1ull << 63;
    se = e | (r->op == 44 ? 0 : (rnd() & 1) << 15);
    memcpy(r->a, &m, 8);
    memcpy(r->a + 8, &se, 2);
    m = rnd() | 1ull << 63;
    se = 16383 + (int)(rnd() % 20) - 10;
    if (rnd() & 1) se |= 0x8000;
    memcpy(r->b, &m, 8);
    memcpy(r->b + 8, &se, 2);
  }
  if (r->op == 45) { /* beyond 1 - sqrt(1/2) the result is undefined */
    memcpy(&se, r->a + 8, 2);
    if ((se & 0x7fff) >= 16381 && (se & 0x7fff) < 0x7fff) { se = (se & 0x8000) | (16380 - (se & 15)); memcpy(r->a + 8, &se, 2); }
  }
  if (r->op == 43) { /* beyond 1 too */
    memcpy(&se, r->a + 8, 2);
    if ((se & 0x7fff) >= 16383 && (se & 0x7fff) < 0x7fff) { se = (se & 0x8000) | (16382 - (se & 15)); memcpy(r->a + 8, &se, 2); }
  }
  if (r->op == 30) { uint32_t v = f32v(); memcpy(r->a, &v, 4); }
  if (r->op == 31) { uint64_t v = f64v(); memcpy(r->a, &v, 8); }
  if (r->op == 33) { uint32_t v = f32v(); memcpy(r->b, &v, 4); }
  if (r->op == 34) { uint64_t v = f64v(); memcpy(r->b, &v, 8); }
  if (r->op >= 30 && r->op < 40) { /* the stack holds a and b as they are: keep the 80-bit parts canonical */
    r->a[9] &= 0xbf; r->a[7] |= 0x80; r->b[9] &= 0xbf; r->b[7] |= 0x80; r->a[9] |= 0x20; r->b[9] |= 0x20;
    if (r->op <= 31) { r->a[7] |= 0; }
  }
}
static jmp_buf jb;
static volatile uint32_t trapped;
static void onfpe(int sig, siginfo_t *si, void *u) {
  (void)sig; (void)si;
  trapped = ((ucontext_t *)u)->uc_mcontext.fpregs->mxcsr | 0x80000000u;
  siglongjmp(jb, 1);
}
/* SSE scalar and conversions. ops: 0-6 add mul sub div min max sqrt; +16 double; 32+pred cmpss, 40+pred cmpsd; 48 ucomiss 49 comiss
 * 50 ucomisd 51 comisd; 52 cvtss2sd 53 cvtsd2ss; 54 cvtss2si32 55 cvttss2si32 56 ss64 57 tss64; 58-61 same for sd;
 * 62 cvtsi2ss(64) 63 cvtsi2sd(64); 64-68 roundss imm 0-4; 69-73 roundsd; 74 roundsd imm 12 */
static void sse(rec *r) {
  uint32_t cs = r->env, def = 0x1f80, st = 0;
  uint64_t fl = 0, g = 0;
  trapped = 0;
  __asm__ volatile("movups %0,%%xmm0; movups %1,%%xmm1" ::"m"(*(struct { uint8_t q[16]; } *)r->a), "m"(*(struct { uint8_t q[16]; } *)r->b) : "xmm0", "xmm1");
  if ((cs & 0x1f80) != 0x1f80 && sigsetjmp(jb, 1)) {
    __asm__ volatile("ldmxcsr %0" ::"m"(def));
    r->status = trapped & 0xffff;
    r->tags = 1;
    return;
  }
#define S(n, ins) case n: __asm__ volatile("movups %3,%%xmm0; movups %4,%%xmm1; ldmxcsr %5; " ins "; stmxcsr %0; ldmxcsr %6; movups %%xmm0,%1" : "=m"(st), "=m"(*(struct { uint8_t q[16]; } *)r->r0), "+r"(g) : "m"(*(struct { uint8_t q[16]; } *)r->a), "m"(*(struct { uint8_t q[16]; } *)r->b), "m"(cs), "m"(def) : "xmm0", "xmm1", "cc"); break;
#define F(n, ins) case n: __asm__ volatile("movups %3,%%xmm0; movups %4,%%xmm1; ldmxcsr %5; " ins "; pushfq; popq %2; stmxcsr %0; ldmxcsr %6; movups %%xmm0,%1" : "=m"(st), "=m"(*(struct { uint8_t q[16]; } *)r->r0), "=&r"(fl) : "m"(*(struct { uint8_t q[16]; } *)r->a), "m"(*(struct { uint8_t q[16]; } *)r->b), "m"(cs), "m"(def) : "xmm0", "xmm1", "cc", "memory"); break;
#define P(b, t) S(b, "cmpeq" t " %%xmm1,%%xmm0") S(b + 1, "cmplt" t " %%xmm1,%%xmm0") S(b + 2, "cmple" t " %%xmm1,%%xmm0") S(b + 3, "cmpunord" t " %%xmm1,%%xmm0") S(b + 4, "cmpneq" t " %%xmm1,%%xmm0") S(b + 5, "cmpnlt" t " %%xmm1,%%xmm0") S(b + 6, "cmpnle" t " %%xmm1,%%xmm0") S(b + 7, "cmpord" t " %%xmm1,%%xmm0")
#define A(b, t) S(b, "add" t " %%xmm1,%%xmm0") S(b + 1, "mul" t " %%xmm1,%%xmm0") S(b + 2, "sub" t " %%xmm1,%%xmm0") S(b + 3, "div" t " %%xmm1,%%xmm0") S(b + 4, "min" t " %%xmm1,%%xmm0") S(b + 5, "max" t " %%xmm1,%%xmm0") S(b + 6, "sqrt" t " %%xmm1,%%xmm0")
  switch (r->op) {
    A(0, "ss") A(16, "sd") P(32, "ss") P(40, "sd")
    A(80, "ps") A(87, "pd") P(96, "ps") P(104, "pd")
    S(112, "addsubps %%xmm1,%%xmm0") S(113, "addsubpd %%xmm1,%%xmm0")
    S(114, "dpps $0xf1,%%xmm1,%%xmm0") S(115, "dppd $0x33,%%xmm1,%%xmm0") S(116, "dpps $0x75,%%xmm1,%%xmm0")
    F(48, "ucomiss %%xmm1,%%xmm0") F(49, "comiss %%xmm1,%%xmm0") F(50, "ucomisd %%xmm1,%%xmm0") F(51, "comisd %%xmm1,%%xmm0")
    S(52, "cvtss2sd %%xmm1,%%xmm0") S(53, "cvtsd2ss %%xmm1,%%xmm0")
    S(54, "cvtss2si %%xmm1,%k2") S(55, "cvttss2si %%xmm1,%k2") S(56, "cvtss2si %%xmm1,%q2") S(57, "cvttss2si %%xmm1,%q2")
    S(58, "cvtsd2si %%xmm1,%k2") S(59, "cvttsd2si %%xmm1,%k2") S(60, "cvtsd2si %%xmm1,%q2") S(61, "cvttsd2si %%xmm1,%q2")
    S(62, "movq %%xmm1,%q2; cvtsi2ssq %q2,%%xmm0") S(63, "movq %%xmm1,%q2; cvtsi2sdq %q2,%%xmm0")
    S(64, "roundss $0,%%xmm1,%%xmm0") S(65, "roundss $1,%%xmm1,%%xmm0") S(66, "roundss $2,%%xmm1,%%xmm0") S(67, "roundss $3,%%xmm1,%%xmm0") S(68, "roundss $4,%%xmm1,%%xmm0")
    S(69, "roundsd $0,%%xmm1,%%xmm0") S(70, "roundsd $1,%%xmm1,%%xmm0") S(71, "roundsd $2,%%xmm1,%%xmm0") S(72, "roundsd $3,%%xmm1,%%xmm0") S(73, "roundsd $4,%%xmm1,%%xmm0") S(74, "roundsd $12,%%xmm1,%%xmm0")
  }
  r->status = st;
  r->flags = fl & 0x8d5;
  if (r->op >= 54 && r->op < 62) memcpy(r->r1, &g, 8);
}
static const int packed[] = {80, 81, 82, 83, 84, 85, 86, 87, 88, 89, 90, 91, 92, 93, 96, 97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 116};
static void genSse(rec *r, int unmasked) {
  memset(r, 0, sizeof *r);
  int n;
  if (rnd() % 4 == 0) n = packed[rnd() % (sizeof packed / sizeof *packed)];
  else do n = rnd() % 75; while ((n > 6 && n < 16) || (n > 22 && n < 32));
  r->op = n;
  r->env = (unmasked ? (rnd() & 0x3f) << 7 : 0x1f80) | (rnd() % 4) << 13 | (rnd() % 4 == 0 ? 0x40 : 0) | (rnd() % 4 == 0 ? 0x8000 : 0);
  int single = n < 16 || (n >= 32 && n < 40) || n == 48 || n == 49 || n == 52 || (n >= 54 && n < 58) || (n >= 64 && n < 69) || (n >= 80 && n < 87) || (n >= 96 && n < 104) || n == 112 || n == 114 || n == 116;
  for (int i = 0; i < (single ? 4 : 2); i++) {
    if (single) { uint32_t a = f32v(), b = f32v(); memcpy(r->a + 4 * i, &a, 4); memcpy(r->b + 4 * i, &b, 4); }
    else { uint64_t a = f64v(), b = f64v(); memcpy(r->a + 8 * i, &a, 8); memcpy(r->b + 8 * i, &b, 8); }
  }
  if (rnd() % 16 == 0) memcpy(r->b, r->a, 16);
  if (n == 62 || n == 63) { int64_t v = (int64_t)mant(64) >> (rnd() % 64); memcpy(r->b, &v, 8); }
}
int main(int argc, char **argv) {
  int kind = atoi(argv[1]), count = atoi(argv[2]);
  s = argc > 3 ? strtoull(argv[3], 0, 0) : 88172645463325252ull;
  struct sigaction sa;
  memset(&sa, 0, sizeof sa);
  sa.sa_sigaction = onfpe;
  sa.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGFPE, &sa, 0);
  static char buf[1 << 20];
  setvbuf(stdout, buf, _IOFBF, sizeof buf);
  for (int i = 0; i < count; i++) {
    rec r;
    if (kind == 0 || kind == 3) { genX87(&r, kind == 3); x87(&r); }
    else { genSse(&r, kind == 2); sse(&r); }
    fwrite(&r, sizeof r, 1, stdout);
  }
  return 0;
}
