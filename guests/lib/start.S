/* Entry, notes, trap stubs. rsi holds the VA of start_info when Xen enters here, with a boot stack of one page. */
#define __ASSEMBLY__
#include <xen/elfnote.h>
#include <xen/xen.h>

/* One ELF note with owner "Xen": type, then the description as an assembler directive. */
.macro XEN_NOTE type:req, desc:vararg
    .pushsection .note.Xen, "a", @note
    .balign 4
    .long 2f - 1f, 4f - 3f, \type
1:  .asciz "Xen"
2:  .balign 4
3:  \desc
4:  .balign 4
    .popsection
.endm

    XEN_NOTE XEN_ELFNOTE_GUEST_OS, .asciz "xenolith-guest"
    XEN_NOTE XEN_ELFNOTE_GUEST_VERSION, .asciz "1"
    XEN_NOTE XEN_ELFNOTE_LOADER, .asciz "generic"
    XEN_NOTE XEN_ELFNOTE_XEN_VERSION, .asciz "xen-3.0"
    XEN_NOTE XEN_ELFNOTE_VIRT_BASE, .quad virt_base
    XEN_NOTE XEN_ELFNOTE_PADDR_OFFSET, .quad 0
    XEN_NOTE XEN_ELFNOTE_ENTRY, .quad _start
    XEN_NOTE XEN_ELFNOTE_HYPERCALL_PAGE, .quad hypercall_page
    XEN_NOTE XEN_ELFNOTE_HV_START_LOW, .quad 0xffff800000000000
    XEN_NOTE XEN_ELFNOTE_PAE_MODE, .asciz "yes"
    XEN_NOTE XEN_ELFNOTE_L1_MFN_VALID, .quad 1, 1

    .section .text.start, "ax"
    .globl _start
_start:
    cld
    movq %rsi, start_info
    movq $kernel_stack_top, %rsp
    xorl %ebp, %ebp
    call guest_main
    ud2

    .bss
    .balign 4096
    .globl hypercall_page, kernel_stack, kernel_stack_top
hypercall_page:
    .skip 4096
kernel_stack:
    .skip 16384
kernel_stack_top:

/*
 * Xen's frame, from rsp up: rcx, r11, [error code], rip, cs, rflags, rsp, ss. The stubs make one form of it: vector, error code,
 * rip …, with rcx and r11 in their registers.
 */
    .text
.macro TRAP vector:req, error=0
    .balign 8
trap_\vector:
    popq %rcx
    popq %r11
    .if \error == 0
    pushq $0
    .endif
    pushq $\vector
    jmp trap_common
.endm

    TRAP 0
    TRAP 1
    TRAP 2
    TRAP 3
    TRAP 4
    TRAP 5
    TRAP 6
    TRAP 7
    TRAP 8, 1
    TRAP 9
    TRAP 10, 1
    TRAP 11, 1
    TRAP 12, 1
    TRAP 13, 1
    TRAP 14, 1
    TRAP 15
    TRAP 16
    TRAP 17, 1
    TRAP 18
    TRAP 19
    TRAP 20
    TRAP 21, 1
    TRAP 128
    TRAP 256
    TRAP 258

    .globl event_entry, syscall_entry, failsafe_entry
    .set event_entry, trap_256
    .set syscall_entry, trap_258

/* The failsafe frame has ds, es, fs, gs between r11 and rip: a segment that would not load when Xen returned to this kernel. */
failsafe_entry:
    popq %rcx
    popq %r11
    addq $32, %rsp
    pushq $0
    pushq $257
trap_common:
    cld
    pushq %rdi
    pushq %rsi
    pushq %rdx
    pushq %rcx
    pushq %rax
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, %rbx
    movq %rsp, %rdi
    andq $-16, %rsp
    call trap_dispatch
    movq %rbx, %rsp
    .globl trap_return
trap_return:
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rax
    popq %rcx
    popq %rdx
    popq %rsi
    popq %rdi
    addq $16, %rsp
    pushq $0                                      /* iret_context.flags */
    jmp hypercall_page + 23 * 32                  /* HYPERVISOR_iret: its slot pushes rcx, r11, rax */

/*
 * u64 enter_user(u64 rip, u64 rsp, u64 rdi): leave the kernel for user mode; back when some handler calls leave_user(value).
 * The callee-saved registers and rsp are kept in `user_return`, and the stack for traps starts below them.
 */
    .globl enter_user, leave_user, enter_user_flags, enter_user_cs
enter_user:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, user_return
    movq %rdi, %r12
    movq %rsi, %r13
    movq %rdx, %r14
    movl $0xe02b, %edi
    movq %rsp, %rsi
    andq $-16, %rsi
    call hypercall_page + 3 * 32                  /* stack_switch(ss, sp) */
    movq %r14, %rdi
    pushq $0xe02b                                 /* ss */
    pushq %r13                                    /* rsp */
    pushq enter_user_flags                        /* IF: events unmasked */
    pushq enter_user_cs                           /* RPL 3: user mode */
    pushq %r12                                    /* rip */
    pushq $0                                      /* flags */
    jmp hypercall_page + 23 * 32

leave_user:
    movq %rdi, %rax
    movq user_return, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

    .bss
    .balign 8
user_return:
    .skip 8

    .data
    .balign 8
enter_user_flags:
    .quad 0x202
enter_user_cs:
    .quad 0xe033

    .section .rodata
    .balign 8
    .globl trap_entries, trap_entry_80
trap_entries:
    .quad trap_0, trap_1, trap_2, trap_3, trap_4, trap_5, trap_6, trap_7, trap_8, trap_9, trap_10, trap_11
    .quad trap_12, trap_13, trap_14, trap_15, trap_16, trap_17, trap_18, trap_19, trap_20, trap_21
    .fill 10, 8, 0
trap_entry_80:
    .quad trap_128

    .section .note.GNU-stack, "", @progbits
