/*
 * The 13 kernels as functions `u64 k_NAME(u64 n)`: those of the translator's own bench, and the four that only make sense with pages and caches.
 * Compiled with general registers only, so that what they measure is integer code.
 */
#include "../translator-kernels/kernels.c"

static u8 big[1 << 24] __attribute__((aligned(4096)));

/* The first byte that is not 'a', again and again. */
NOINLINE static const u8 *find(const u8 *p, u8 c, u64 n) {
  for (; n != 0; n--, p++) if (*p == c) return p;
  return 0;
}
u64 k_memchr(u64 n) {
  u64 sum = 0;
  for (int i = 0; i < 16384; i++) pool[i] = 'a' + (i & 7);
  for (u64 i = 0; i < n; i++) {
    u64 at = 8000 + (i * 37 & 4095);
    u8 was = pool[at];
    pool[at] = 'z';
    sum += (u64)(find(pool, 'z', 16384) - pool);
    pool[at] = was;
  }
  return sum;
}
/* Pointer chase in 16 MiB: a full cycle of a linear congruential generator. */
u64 k_far(u64 n) {
  u64 *t = (u64 *)big; const u64 m = sizeof big / 8;
  for (u64 i = 0; i < m; i++) t[i] = (i * 1664525 + 1013904223) & (m - 1);
  u64 p = 0, sum = 0;
  for (u64 i = 0; i < n; i++) { p = t[p]; sum += p; }
  return sum;
}
/* Lempel and Ziv with a hash of four bytes: 64 KiB of text to tokens and back. */
#define LZ_SIZE 65536
NOINLINE static u64 lz_pack(const u8 *s, u64 n, u8 *d) {
  u32 *table = (u32 *)(pool + 1048576); u8 *o = d; u64 i = 0, from = 0;
  for (int k = 0; k < 4096; k++) table[k] = 0xffffffff;
  while (i + 4 <= n) {
    u32 w = *(const u32 *)(s + i), h = w * 2654435761u >> 20, at = table[h];
    table[h] = (u32)i;
    if (at == 0xffffffff || i - at > 32767 || *(const u32 *)(s + at) != w) { i++; continue; }
    u64 len = 4;
    while (i + len < n && len < 255 && s[at + len] == s[i + len]) len++;
    while (from < i) { u64 k = i - from > 127 ? 127 : i - from; *o++ = (u8)k; while (k--) *o++ = s[from++]; }
    u64 back = i - at;
    *o++ = 128 + (back >> 8); *o++ = (u8)back; *o++ = (u8)len;
    i += len; from = i;
  }
  while (from < n) { u64 k = n - from > 127 ? 127 : n - from; *o++ = (u8)k; while (k--) *o++ = s[from++]; }
  return (u64)(o - d);
}
NOINLINE static u64 lz_unpack(const u8 *s, u64 n, u8 *d) {
  u8 *o = d; const u8 *end = s + n;
  while (s < end) {
    u32 k = *s++;
    if (k < 128) { while (k--) *o++ = *s++; continue; }
    u64 back = (u64)(k - 128) << 8 | *s++; u32 len = *s++;
    const u8 *p = o - back;
    while (len--) *o++ = *p++;
  }
  return (u64)(o - d);
}
u64 k_lz(u64 n) {
  static const char words[8][8] = {"domain ", "event ", "grant ", "ring ", "of the ", "frame ", "a ", "page, "};
  u8 *text = big, *packed = big + 131072, *back = big + 262144; u64 s = 88172645463325252UL, sum = 0, at = 0;
  while (at < LZ_SIZE) for (const char *p = words[next(&s) >> 61]; *p && at < LZ_SIZE; p++) text[at++] = (u8)*p;
  for (u64 k = 0; k < n; k++) {
    text[k & (LZ_SIZE - 1)] ^= 1;
    u64 size = lz_pack(text, LZ_SIZE, packed);
    sum += size + lz_unpack(packed, size, back);
    for (int i = 0; i < LZ_SIZE; i += 4096) if (back[i] != text[i]) return 0;
  }
  return sum;
}
/* A linked list: made, reversed, sorted by merging, walked. */
struct node { struct node *next; u64 key, value; };
NOINLINE static struct node *merge(struct node *a, struct node *b) {
  struct node head, *t = &head;
  while (a && b) { if (a->key <= b->key) { t->next = a; a = a->next; } else { t->next = b; b = b->next; } t = t->next; }
  t->next = a ? a : b;
  return head.next;
}
NOINLINE static struct node *sort_list(struct node *l) {
  if (!l || !l->next) return l;
  struct node *slow = l, *fast = l->next;
  while (fast && fast->next) { slow = slow->next; fast = fast->next->next; }
  struct node *right = slow->next;
  slow->next = 0;
  return merge(sort_list(l), sort_list(right));
}
u64 k_list(u64 n) {
  struct node *nodes = (struct node *)pool; u64 s = 88172645463325252UL, sum = 0;
  for (u64 k = 0; k < n; k++) {
    struct node *l = 0, *r = 0;
    for (int i = 0; i < 5000; i++) { nodes[i].key = next(&s) >> 40; nodes[i].value = (u64)i; nodes[i].next = l; l = &nodes[i]; }
    while (l) { struct node *t = l->next; l->next = r; r = l; l = t; }
    u64 place = 0;
    for (l = sort_list(r); l; l = l->next) sum += l->key * ++place + l->value;
  }
  return sum;
}

struct kernel { const char *name; u64 (*run)(u64); };
const struct kernel kernels[] = {
  {"alu", k_alu}, {"memcpy", k_copy}, {"memchr", k_memchr}, {"chase", k_chase}, {"far", k_far}, {"fib", k_fib}, {"md5", k_md5},
  {"qsort", k_qsort}, {"vm", k_vm}, {"lz", k_lz}, {"sieve", k_sieve}, {"matrix", k_matrix}, {"list", k_list}, {0, 0},
};
