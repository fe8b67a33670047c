/*
 * The host CPU as an oracle: executes single instructions from given states and reports the states they leave.
 *
 * stdin, all little-endian:   8192 bytes: what the memory area holds before every case, then cases until end of file:
 *     u64 gpr[16]   rax rcx rdx rbx rsp rbp rsi rdi r8…r15
 *     u32 rflags    (only the arithmetic flags and DF are used)
 *     u8  bits      64 or 32
 *     u8  length    of the instruction
 *     u8  landing   1: a branch; int3 follows the instruction instead of the way back. 2: an int3 itself
 *     u8  patches   number of patches of the memory area
 *     u8  code[64]
 *     u8  fx[416]   fxrstor image as far as XMM15
 *     patches × { u32 offset (multiple of 8), u8 bytes[8] }
 * stdout, one record a case:
 *     u64 gpr[16], u64 rip, u64 cr2
 *     u32 rflags, i32 vector (-1 = none), u32 error code, u32 changes
 *     u8  fx[416]
 *     changes × { u32 offset, u8 bytes[8] }   8-byte pieces of the memory area that changed
 *
 * The instruction lies at CODE, in a page filled with int3. After it lies a jump to `oracle_exit` (native.S), so that the common case needs no
 * signal. An instruction that branches ends on an int3 or with a failed fetch: both count as completed at the target.
 * Faults of the instruction itself come as signals, on a stack of their own, and carry trap number, error code and CR2.
 */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define AREA 0x10000000UL
#define AREA_SIZE 0x2000UL
#define CODE_PAGE 0x20000000UL
#define CODE 0x20000800UL
#define GS_BASE 0x100UL
#define FLAGS_USED 0xcd5UL
#define FX_SIZE 416

struct state {
  uint64_t gpr[16];
  uint64_t rflags;
  uint64_t cs;
};
struct case_header {
  uint64_t gpr[16];
  uint32_t rflags;
  uint8_t bits, length, landing, patches;
  uint8_t code[64];
  uint8_t fx[FX_SIZE];
};
struct piece {
  uint32_t offset;
  uint8_t bytes[8];
};
struct result {
  uint64_t gpr[16];
  uint64_t rip, cr2;
  uint32_t rflags;
  int32_t vector;
  uint32_t error, changes;
  uint8_t fx[FX_SIZE];
};

/* Shared with native.S. */
struct state oracle_in, oracle_out;
uint8_t oracle_fx_in[512] __attribute__((aligned(64)));
uint8_t oracle_fx_out[512] __attribute__((aligned(64)));
void oracle_enter(void);
void oracle_exit(void);
void oracle_exit_fault(void);
void oracle_load_ds(void);

static struct result out;
static int faulted;
static int own_int3;

static void fail(const char *what) {
  fprintf(stderr, "oracle: %s: %s\n", what, strerror(errno));
  exit(2);
}

static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                              REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

static void on_signal(int sig, siginfo_t *info, void *context) {
  (void)sig;
  (void)info;
  ucontext_t *u = context;
  greg_t *g = u->uc_mcontext.gregs;
  for (int i = 0; i < 16; i++) out.gpr[i] = (uint64_t)g[order[i]];
  out.rip = (uint64_t)g[REG_RIP];
  out.rflags = (uint32_t)g[REG_EFL];
  out.vector = (int32_t)g[REG_TRAPNO];
  out.error = (uint32_t)g[REG_ERR];
  out.cr2 = (uint64_t)g[REG_CR2];
  memcpy(out.fx, u->uc_mcontext.fpregs, FX_SIZE);
  if (out.vector == 3 && !own_int3 && out.rip > CODE_PAGE && out.rip <= CODE_PAGE + 4096) {
    out.vector = -1; /* a landing */
    out.rip--;
  } else if (out.vector == 14 && (out.error & 16) && out.cr2 == out.rip) {
    out.vector = -1; /* the fetch at a branch target */
  }
  faulted = 1;
  g[REG_RIP] = (greg_t)oracle_exit_fault;
  g[REG_EFL] = 0x202;
  g[REG_CSGSFS] = (g[REG_CSGSFS] & ~0xffffL) | 0x33;
}

static volatile unsigned current;

static void on_alarm(int sig) {
  (void)sig;
  char text[64];
  int n = snprintf(text, sizeof text, "oracle: case %u of the batch does not end\n", current);
  if (write(2, text, (size_t)n)) {}
  _exit(3);
}

static uint8_t *input;
static size_t input_size, input_at;
static const void *take(size_t n) {
  if (input_at + n > input_size) {
    fprintf(stderr, "oracle: input ends within a record\n");
    exit(2);
  }
  const void *p = input + input_at;
  input_at += n;
  return p;
}

int main(void) {
  size_t room = 1 << 22;
  input = malloc(room);
  for (;;) {
    ssize_t n = read(0, input + input_size, room - input_size);
    if (n < 0) fail("read");
    if (n == 0) break;
    input_size += (size_t)n;
    if (input_size == room) input = realloc(input, room *= 2);
    if (!input) fail("malloc");
  }
  setvbuf(stdout, NULL, _IOFBF, 1 << 20);

  uint8_t *area = mmap((void *)AREA, AREA_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (area != (uint8_t *)AREA) fail("mmap of the memory area");
  int fd = memfd_create("code", 0);
  if (fd < 0 || ftruncate(fd, 4096)) fail("memfd_create");
  if (mmap((void *)CODE_PAGE, 4096, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0) != (void *)CODE_PAGE) fail("mmap of the code");
  uint8_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (page == MAP_FAILED) fail("mmap of the code");
  uint8_t *code = page + (CODE - CODE_PAGE);
  memset(page, 0xcc, 4096);

  stack_t stack = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16};
  sigaltstack(&stack, NULL);
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
  for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++) sigaction(signals[i], &action, NULL);
  struct sigaction alarm_action = {.sa_handler = on_alarm, .sa_flags = SA_ONSTACK};
  sigaction(SIGALRM, &alarm_action, NULL);
  if (syscall(SYS_arch_prctl, ARCH_SET_GS, GS_BASE)) fail("arch_prctl");
  oracle_load_ds();

  static uint8_t base[AREA_SIZE], expected[AREA_SIZE];
  memcpy(base, take(AREA_SIZE), AREA_SIZE);
  memcpy(expected, base, AREA_SIZE);
  memcpy(area, base, AREA_SIZE);

  for (; input_at < input_size; current++) {
    if (current % 1024 == 0) alarm(60);
    const struct case_header *c = take(sizeof *c);
    const struct piece *patches = take(c->patches * sizeof *patches);
    for (int i = 0; i < c->patches; i++) {
      memcpy(expected + patches[i].offset, patches[i].bytes, 8);
      memcpy(area + patches[i].offset, patches[i].bytes, 8);
    }
    memcpy(oracle_in.gpr, c->gpr, sizeof c->gpr);
    oracle_in.rflags = (c->rflags & FLAGS_USED) | 0x202;
    oracle_in.cs = c->bits == 64 ? 0x33 : 0x23;
    memcpy(oracle_fx_in, c->fx, FX_SIZE);
    memset(code, 0xcc, 96);
    memcpy(code, c->code, c->length);
    own_int3 = c->landing == 2;
    if (c->landing != 1) {
      if (c->bits == 64) {
        int32_t relative = (int32_t)((int64_t)(uintptr_t)oracle_exit - (int64_t)(CODE + c->length + 5));
        code[c->length] = 0xe9;
        memcpy(code + c->length + 1, &relative, 4);
      } else {
        uint32_t target = (uint32_t)(uintptr_t)oracle_exit;
        code[c->length] = 0xea;
        memcpy(code + c->length + 1, &target, 4);
        code[c->length + 5] = 0x33;
        code[c->length + 6] = 0;
      }
    }
    faulted = 0;
    oracle_enter();
    if (!faulted) {
      memcpy(out.gpr, oracle_out.gpr, sizeof out.gpr);
      out.rip = CODE + c->length;
      out.rflags = (uint32_t)oracle_out.rflags;
      out.vector = -1;
      out.error = 0;
      out.cr2 = 0;
      memcpy(out.fx, oracle_fx_out, FX_SIZE);
    }
    static struct piece changes[AREA_SIZE / 8];
    out.changes = 0;
    for (unsigned block = 0; block < AREA_SIZE; block += 256) {
      if (memcmp(area + block, expected + block, 256) == 0) continue;
      for (unsigned at = block; at < block + 256; at += 8) {
        if (memcmp(area + at, expected + at, 8) == 0) continue;
        struct piece *p = &changes[out.changes++];
        p->offset = at;
        memcpy(p->bytes, area + at, 8);
        memcpy(area + at, base + at, 8);
      }
    }
    for (int i = 0; i < c->patches; i++) {
      memcpy(expected + patches[i].offset, base + patches[i].offset, 8);
      memcpy(area + patches[i].offset, base + patches[i].offset, 8);
    }
    fwrite(&out, sizeof out, 1, stdout);
    fwrite(changes, sizeof *changes, out.changes, stdout);
  }
  fflush(stdout);
  return 0;
}
