/*
 * The simplest kernel, its start: what the domain builder is to know, a stack, a jump to C.
 * VIRT_BASE 0: virtual address = pseudo-physical address. The hypercall page is page 2 of the image.
 */
#define __ASSEMBLY__
#include <xen/elfnote.h>

/* The form of the book's time: one string. Xen reads it where an image has no ELF notes. */
    .section __xen_guest, "a"
    .ascii "GUEST_OS=xenolith-hello"
    .ascii ",XEN_VER=xen-3.0"
    .ascii ",VIRT_BASE=0x0"
    .ascii ",ELF_PADDR_OFFSET=0x0"
    .ascii ",HYPERCALL_PAGE=0x2"
    .ascii ",LOADER=generic"
    .byte 0

#ifndef LEGACY
/* The form since 2006: ELF notes with the owner "Xen", each a type and a value. */
.macro XEN_NOTE type:req, desc:vararg
    .balign 4
    .long 2f - 1f, 4f - 3f, \type
1:  .asciz "Xen"
2:  .balign 4
3:  \desc
4:  .balign 4
.endm
    .section .note.Xen, "a", @note
    XEN_NOTE XEN_ELFNOTE_GUEST_OS, .asciz "xenolith-hello"
    XEN_NOTE XEN_ELFNOTE_XEN_VERSION, .asciz "xen-3.0"
    XEN_NOTE XEN_ELFNOTE_LOADER, .asciz "generic"
    XEN_NOTE XEN_ELFNOTE_VIRT_BASE, .quad 0
    XEN_NOTE XEN_ELFNOTE_PADDR_OFFSET, .quad 0
    XEN_NOTE XEN_ELFNOTE_ENTRY, .quad _start
    XEN_NOTE XEN_ELFNOTE_HYPERCALL_PAGE, .quad hypercall_page
#endif

    .section .text.start, "ax"
    .globl _start
_start:
    cld
    leaq stack_top(%rip), %rsp
    movq %rsi, %rdi              /* Xen gives the address of start_info in rsi */
    call kernel
1:  jmp 1b

    .bss
    .balign 16
    .skip 4096
stack_top:

    .section .note.GNU-stack, "", @progbits
