/* Guest kernels for the translator: each is `uint64_t k_name(uint64_t n)`. Built twice: freestanding flat binary, and natively. */
typedef unsigned char u8; typedef unsigned int u32; typedef unsigned long u64;
#define NOINLINE __attribute__((noinline))
static u8 pool[1 << 21] __attribute__((aligned(4096)));

static u64 next(u64 *s) { u64 x = *s; x ^= x << 13; x ^= x >> 7; x ^= x << 17; return *s = x; }

/* Pure register arithmetic. */
u64 k_alu(u64 n) {
  u64 a = 1, b = 0x9e3779b97f4a7c15UL, c = 7;
  for (u64 i = 0; i < n; i++) { a += b ^ i; b = (b << 13) | (b >> 51); c = c * 3 + (a & 0xff); if (c & 16) a -= c; else b ^= a; }
  return a ^ b ^ c;
}
/* Copy in words and bytes. */
u64 k_copy(u64 n) {
  u64 *s = (u64 *)pool, *d = (u64 *)(pool + 65536), sum = 0;
  for (int i = 0; i < 4096; i++) s[i] = i * 0x9e3779b97f4a7c15UL;
  for (u64 k = 0; k < n; k++) {
    for (int i = 0; i < 4096; i++) d[i] = s[i] + k;
    u8 *p = (u8 *)d, *q = pool + 131072;
    for (int i = 0; i < 4096; i++) q[i] = p[i] ^ 0x55;
    sum += d[k & 4095] + q[k & 4095];
  }
  return sum;
}
/* Pointer chase in 256 KiB. */
u64 k_chase(u64 n) {
  u64 *t = (u64 *)pool; const u64 m = 32768; u64 s = 88172645463325252UL;
  for (u64 i = 0; i < m; i++) t[i] = i;
  for (u64 i = m - 1; i > 0; i--) { u64 j = next(&s) % i; u64 x = t[i]; t[i] = t[j]; t[j] = x; }
  u64 p = 0, sum = 0;
  for (u64 i = 0; i < n; i++) { p = t[p]; sum += p; }
  return sum;
}
NOINLINE static u64 fib(u64 n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
u64 k_fib(u64 n) { u64 r = 0; for (u64 i = 0; i < n; i++) r += fib(20 + (i & 3)); return r; }

/* MD5 of 64-byte blocks. */
static const u32 K5[64] = {
0xd76aa478,0xe8c7b756,0x242070db,0xc1bdceee,0xf57c0faf,0x4787c62a,0xa8304613,0xfd469501,0x698098d8,0x8b44f7af,0xffff5bb1,0x895cd7be,0x6b901122,0xfd987193,0xa679438e,0x49b40821,
0xf61e2562,0xc040b340,0x265e5a51,0xe9b6c7aa,0xd62f105d,0x02441453,0xd8a1e681,0xe7d3fbc8,0x21e1cde6,0xc33707d6,0xf4d50d87,0x455a14ed,0xa9e3e905,0xfcefa3f8,0x676f02d9,0x8d2a4c8a,
0xfffa3942,0x8771f681,0x6d9d6122,0xfde5380c,0xa4beea44,0x4bdecfa9,0xf6bb4b60,0xbebfbc70,0x289b7ec6,0xeaa127fa,0xd4ef3085,0x04881d05,0xd9d4d039,0xe6db99e5,0x1fa27cf8,0xc4ac5665,
0xf4292244,0x432aff97,0xab9423a7,0xfc93a039,0x655b59c3,0x8f0ccc92,0xffeff47d,0x85845dd1,0x6fa87e4f,0xfe2ce6e0,0xa3014314,0x4e0811a1,0xf7537e82,0xbd3af235,0x2ad7d2bb,0xeb86d391};
#define ROL(x, r) (((x) << (r)) | ((x) >> (32 - (r))))
#define STEP(f, a, b, c, d, k, i, r) a += f + w[k] + K5[i]; a = ROL(a, r) + b;
#define F1 (d ^ (b & (c ^ d)))
#define R4(F, G, H, I, k0, k1, k2, k3, i, r0, r1, r2, r3)
NOINLINE static void md5(u32 *h, const u32 *w) {
  u32 a = h[0], b = h[1], c = h[2], d = h[3];
#pragma GCC unroll 16
  for (int i = 0; i < 16; i++) { static const int r[4] = {7,12,17,22}; u32 f = (d ^ (b & (c ^ d))) + a + K5[i] + w[i]; a = d; d = c; c = b; b += ROL(f, r[i & 3]); }
#pragma GCC unroll 16
  for (int i = 16; i < 32; i++) { static const int r[4] = {5,9,14,20}; u32 f = (c ^ (d & (b ^ c))) + a + K5[i] + w[(5 * i + 1) & 15]; a = d; d = c; c = b; b += ROL(f, r[i & 3]); }
#pragma GCC unroll 16
  for (int i = 32; i < 48; i++) { static const int r[4] = {4,11,16,23}; u32 f = (b ^ c ^ d) + a + K5[i] + w[(3 * i + 5) & 15]; a = d; d = c; c = b; b += ROL(f, r[i & 3]); }
#pragma GCC unroll 16
  for (int i = 48; i < 64; i++) { static const int r[4] = {6,10,15,21}; u32 f = (c ^ (b | ~d)) + a + K5[i] + w[(7 * i) & 15]; a = d; d = c; c = b; b += ROL(f, r[i & 3]); }
  h[0] += a; h[1] += b; h[2] += c; h[3] += d;
}
u64 k_md5(u64 n) {
  u32 h[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
  for (int i = 0; i < 65536; i++) pool[i] = i * 7;
  for (u64 i = 0; i < n; i++) md5(h, (u32 *)(pool + (i & 1023) * 64));
  return ((u64)h[0] << 32 | h[1]) ^ ((u64)h[2] << 32 | h[3]);
}
/* Quicksort with a comparison callback. */
typedef int (*cmp_t)(const void *, const void *);
NOINLINE static int cmp64(const void *a, const void *b) { u64 x = *(u64 *)a, y = *(u64 *)b; return (x > y) - (x < y); }
NOINLINE static void qs(u64 *v, long lo, long hi, cmp_t c) {
  while (lo < hi) {
    u64 p = v[(lo + hi) / 2]; long i = lo, j = hi;
    do { while (c(&v[i], &p) < 0) i++; while (c(&v[j], &p) > 0) j--; if (i <= j) { u64 t = v[i]; v[i++] = v[j]; v[j--] = t; } } while (i <= j);
    if (j - lo < hi - i) { qs(v, lo, j, c); lo = i; } else { qs(v, i, hi, c); hi = j; }
  }
}
u64 k_qsort(u64 n) {
  u64 *v = (u64 *)pool, s = 88172645463325252UL, sum = 0;
  for (u64 k = 0; k < n; k++) { for (int i = 0; i < 1000; i++) v[i] = next(&s); qs(v, 0, 999, cmp64); sum += v[0] ^ v[500] ^ v[999]; }
  return sum;
}
/* A bytecode machine with a switch. */
u64 k_vm(u64 n) {
  static const u8 prog[] = {0, 10, 1, 3, 2, 4, 7, 5, 1, 6, 3, 1, 7, 0, 8, 2, 9, 9};
  u64 acc = 1, x = 3, y = 5, steps = 0; u32 pc = 0;
  for (u64 i = 0; i < n; i++) {
    switch (prog[pc++]) {
      case 0: acc += prog[pc++]; break;
      case 1: x += prog[pc++]; break;
      case 2: y ^= acc * prog[pc++]; break;
      case 3: acc ^= x >> prog[pc++]; break;
      case 4: x = x * 5 + 1; break;
      case 5: y += prog[pc++]; break;
      case 6: if (acc & 1) acc += y; break;
      case 7: acc = (acc << 3) | (acc >> 61); break;
      case 8: steps += prog[pc++]; break;
      case 9: pc = 0; break;
      default: steps++;
    }
  }
  return acc ^ x ^ y ^ steps;
}
u64 k_sieve(u64 n) {
  u64 c = 0;
  for (u64 k = 0; k < n; k++) {
    for (int i = 0; i < 65536; i++) pool[i] = 1;
    for (u32 i = 2; i * i < 65536; i++) if (pool[i]) for (u32 j = i * i; j < 65536; j += i) pool[j] = 0;
    for (int i = 2; i < 65536; i++) c += pool[i];
  }
  return c;
}
u64 k_matrix(u64 n) {
  int (*a)[64] = (void *)pool, (*b)[64] = (void *)(pool + 16384), (*c)[64] = (void *)(pool + 32768); u64 s = 0;
  for (int i = 0; i < 64; i++) for (int j = 0; j < 64; j++) { a[i][j] = i * j + 1; b[i][j] = i - j; }
  for (u64 k = 0; k < n; k++) {
    for (int i = 0; i < 64; i++) for (int j = 0; j < 64; j++) { int t = 0; for (int l = 0; l < 64; l++) t += a[i][l] * b[l][j]; c[i][j] = t + k; }
    s += c[k & 63][(k >> 6) & 63];
  }
  return s;
}
/* Montgomery-like multiply-accumulate: the RSA inner loop. */
NOINLINE static u64 mulacc(u64 *r, const u64 *a, long n, u64 m) {
  u64 carry = 0;
  for (long i = 0; i < n; i++) { unsigned __int128 p = (unsigned __int128)a[i] * m + r[i] + carry; r[i] = (u64)p; carry = (u64)(p >> 64); }
  return carry;
}
NOINLINE static u64 addn(u64 *r, const u64 *a, const u64 *b, long n) {
  u64 c = 0;
  __asm__ volatile("clc\n1: mov (%1),%%rax\n adc (%2),%%rax\n mov %%rax,(%0)\n lea 8(%0),%0\n lea 8(%1),%1\n lea 8(%2),%2\n dec %3\n jnz 1b\n setc %b4"
    : "+r"(r), "+r"(a), "+r"(b), "+r"(n), "+r"(c) : : "rax", "cc", "memory");
  return c;
}
u64 k_rsa(u64 n) {
  u64 *a = (u64 *)pool, *r = (u64 *)(pool + 4096), s = 88172645463325252UL, x = 0;
  for (int i = 0; i < 64; i++) { a[i] = next(&s); r[i] = next(&s); }
  for (u64 k = 0; k < n; k++) { x += mulacc(r, a, 32, x ^ k); x += addn(r + 16, r + 16, a, 32); }
  return x ^ r[5];
}
/* Strings: length, compare, hash. */
NOINLINE static u64 slen(const char *s) { const char *p = s; while (*p) p++; return p - s; }
NOINLINE static int scmp(const char *a, const char *b) { while (*a && *a == *b) a++, b++; return (u8)*a - (u8)*b; }
u64 k_string(u64 n) {
  char *s = (char *)pool; u64 h = 5381;
  for (int i = 0; i < 200; i++) { for (int j = 0; j < 60; j++) s[i * 64 + j] = 'a' + ((j < 50 ? j : i * j) % 26); s[i * 64 + 60 + (i & 3)] = 0; }
  for (u64 k = 0; k < n; k++) {
    char *p = s + (k % 200) * 64, *q = s + ((k * 7) % 200) * 64;
    h += slen(p) + (scmp(p, q) < 0);
    for (char *t = p; *t; t++) h = h * 33 + (u8)*t;
  }
  return h;
}
