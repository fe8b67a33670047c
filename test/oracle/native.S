/*
 * The way into a case and back (see native.c). Linked without PIE, so that every address fits 32 bits and the exit can save registers by
 * absolute address without having one free.
 */
    .set CODE, 0x20000800
    .text

    .globl oracle_load_ds
oracle_load_ds:             /* flat data segments for 32-bit code */
    mov $0x2b, %eax
    mov %eax, %ds
    mov %eax, %es
    ret

    .globl oracle_enter
oracle_enter:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, host_rsp
    fxrstor64 oracle_fx_in
    pushq $0x2b
    pushq oracle_in+4*8
    pushq oracle_in+16*8
    pushq oracle_in+17*8
    pushq $CODE
    mov oracle_in+0*8, %rax
    mov oracle_in+1*8, %rcx
    mov oracle_in+2*8, %rdx
    mov oracle_in+3*8, %rbx
    mov oracle_in+5*8, %rbp
    mov oracle_in+6*8, %rsi
    mov oracle_in+7*8, %rdi
    mov oracle_in+8*8, %r8
    mov oracle_in+9*8, %r9
    mov oracle_in+10*8, %r10
    mov oracle_in+11*8, %r11
    mov oracle_in+12*8, %r12
    mov oracle_in+13*8, %r13
    mov oracle_in+14*8, %r14
    mov oracle_in+15*8, %r15
    iretq

    .globl oracle_exit
oracle_exit:
    mov %rax, oracle_out+0*8
    mov %rcx, oracle_out+1*8
    mov %rdx, oracle_out+2*8
    mov %rbx, oracle_out+3*8
    mov %rsp, oracle_out+4*8
    mov %rbp, oracle_out+5*8
    mov %rsi, oracle_out+6*8
    mov %rdi, oracle_out+7*8
    mov %r8, oracle_out+8*8
    mov %r9, oracle_out+9*8
    mov %r10, oracle_out+10*8
    mov %r11, oracle_out+11*8
    mov %r12, oracle_out+12*8
    mov %r13, oracle_out+13*8
    mov %r14, oracle_out+14*8
    mov %r15, oracle_out+15*8
    mov host_rsp, %rsp
    pushfq
    popq oracle_out+16*8
    fxsave64 oracle_fx_out

    .globl oracle_exit_fault
oracle_exit_fault:
    mov host_rsp, %rsp
    pushq $0x202
    popfq
    fninit
    ldmxcsr default_mxcsr
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

    .data
    .align 8
host_rsp: .quad 0
default_mxcsr: .long 0x1f80
    .section .note.GNU-stack,"",@progbits
