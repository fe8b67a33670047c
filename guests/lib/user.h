/*
 * User mode of a 64-bit PV guest: a page-table root of its own, in which nothing of the kernel is mapped. Both modes run in ring 3;
 * Xen switches the root at `syscall`, at traps and at HYPERVISOR_iret.
 */
#ifndef USER_H
#define USER_H
#include "guest.h"

#define USER_CODE 0x400000ul
#define USER_STACK 0x401000ul
#define USER_STACK_TOP 0x402000ul
#define USER_HOLE 0x403000ul /* the same L1, not mapped */

/* Make the user's address space and put a copy of [code, end) at USER_CODE. */
void user_init(const char *code, const char *end);
extern char *user_code_page, *user_stack_page;
extern u64 user_l4;
/* Enter user mode; returns when a handler calls leave_user(value). */
u64 enter_user(u64 rip, u64 rsp, u64 rdi);
/* What enter_user loads: 0x202 and FLAT_USER_CS64 unless a test wants others. */
extern u64 enter_user_flags, enter_user_cs;
void leave_user(u64 value) __attribute__((noreturn));
static inline int from_user(const struct regs *r) { return (r->cs & 3) == 3; }
#endif
