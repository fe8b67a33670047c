#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#ifdef SEPARATE
typedef unsigned long u64;
#define D(n) u64 k_##n(u64);
D(alu)D(copy)D(chase)D(fib)D(md5)D(qsort)D(vm)D(sieve)D(matrix)D(rsa)D(string)
#else
#include "kernels.c"
#endif
#define X(n) {#n, k_##n}
static struct { const char *n; u64 (*f)(u64); } t[] = {X(alu),X(copy),X(chase),X(fib),X(md5),X(qsort),X(vm),X(sieve),X(matrix),X(rsa),X(string)};
#include <string.h>
int main(int c, char **v) {
  for (int i = 1; i + 1 < c; i += 2) for (unsigned k = 0; k < sizeof t / sizeof *t; k++) if (!strcmp(t[k].n, v[i])) {
    struct timespec a, b; clock_gettime(CLOCK_MONOTONIC, &a); u64 r = t[k].f(strtoull(v[i + 1], 0, 0)); clock_gettime(CLOCK_MONOTONIC, &b);
    printf("%s %lu %.3f\n", v[i], r, (b.tv_sec - a.tv_sec) * 1e3 + (b.tv_nsec - a.tv_nsec) / 1e6);
  }
}
