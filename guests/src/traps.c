/* The rules of traps: exceptions with their frames, software interrupts, system calls, iret, emulated instructions. */
#include "user.h"

const char guest_name[] = "traps";

/* --- what user mode runs: position-independent pieces, entered by their offset --- */

asm(".pushsection .rodata\n"
    "user_start:\n"
    "user_int80: movl $0x80808080, %ebx; int $0x80\n"
    "user_int80_next: int $0x80\n"
    "user_syscall: movl $0x1111, %edi; movl $0x2222, %esi; movl $0x3333, %ebp; movl $7, %eax; syscall\n"
    "user_syscall_next: lea 1(%rax), %rbx; movl $0x80808080, %eax; int $0x80\n"
    "user_int21: int $0x21\n"
    "user_hole: movb $1, (%rdi)\n"
    "user_kernel: movb (%rdi), %al\n"
    "user_cli: cli\n"
    "user_step: movl $1, %eax; movl $2, %eax; movl $3, %eax; movl $4, %eax; int $0x80\n"
    "user_forced: movl $0x40000000, %eax; .byte 0x0f, 0x0b, 0x78, 0x65, 0x6e; cpuid; int $0x80\n"
    "user_gs: movq %gs:0, %rax; int $0x80\n"
    "user_count: incl %eax; jnz user_count; int $0x80\n"
    "user_end:\n"
    ".popsection");
extern const char user_start[], user_end[], user_int80[], user_int80_next[], user_syscall[], user_syscall_next[], user_int21[],
    user_hole[], user_kernel[], user_cli[], user_step[], user_forced[], user_gs[];
#define AT(piece) (USER_CODE + (u64)((piece) - user_start))

/* The last trap by handler. */
static struct regs seen;
static int times;

static void record(struct regs *r)
{
    seen = *r;
    times++;
}
static void record_and_leave(struct regs *r)
{
    record(r);
    leave_user(r->rax);
}

/* --- exceptions in the kernel --- */

RULE(division_by_zero)
{
    TRY("divl %0", NOTHING, "r"(0), "a"(1), "d"(0));
    EXPECT_IS(tried.vector, 0);
    EXPECT_IS(tried.error, 0);
    return 0;
}

RULE(the_frame_shows_the_faulting_instruction)
{
    u64 at;
    asm volatile("movq $9f, try_fixup\n\tleaq 1f(%%rip), %0\n1:\tud2\n9:" : "=&r"(at) : : "memory");
    EXPECT_IS(tried.vector, 6);
    EXPECT_IS(tried.rip, at);
    return 0;
}

RULE(a_selector_beyond_the_table_is_gp_with_its_number)
{
    tried.vector = -1;
    TRY("movw %w0, %%ds", NOTHING, "r"(0x1238));
    EXPECT_IS(tried.vector, 13);
    EXPECT_IS(tried.error, 0x1238);
    return 0;
}

RULE(a_non_canonical_address_is_gp_0)
{
    EXPECT_IS(try_read((void *)0x8000000000000000ul), 13);
    EXPECT_IS(tried.error, 0);
    return 0;
}

RULE(a_non_canonical_stack_address_is_ss_0)
{
    tried.vector = -1;
    asm volatile("movq $9f, try_fixup; movq %%rbp, %%rcx; movq %0, %%rbp; movb (%%rbp), %%al\n9:\n\tmovq %%rcx, %%rbp; movq $0, try_fixup"
                 : : "r"(0x8000000000000000ul) : "rax", "rcx", "memory");
    EXPECT_IS(tried.vector, 12);
    EXPECT_IS(tried.error, 0);
    return 0;
}

RULE(a_read_of_nothing_is_a_page_fault)
{
    EXPECT_IS(try_read((void *)0x123456), 14);
    EXPECT_IS(tried.error, 0);
    EXPECT_IS(tried.cr2, 0x123456);
    return 0;
}

RULE(a_write_to_nothing_shows_in_the_error_code)
{
    EXPECT_IS(try_write((void *)0x123456, 1), 14);
    EXPECT_IS(tried.error, 2);
    return 0;
}

static char victim[4096] PAGE_ALIGNED;
RULE(a_write_to_a_read_only_page)
{
    EXPECT_IS(protect(victim, PTE_RO), 0);
    EXPECT_IS(try_read(victim + 8), -1);
    EXPECT_IS(try_write(victim + 9, 1), 14);
    EXPECT_IS(tried.error, 3);
    EXPECT_IS(tried.cr2, victim + 9);
    EXPECT_IS(protect(victim, PTE_RW), 0);
    EXPECT_IS(try_write(victim + 9, 1), -1);
    return 0;
}

RULE(a_jump_to_nothing_faults_there)
{
    TRY("jmp *%0", NOTHING, "r"(0x123000ul));
    EXPECT_IS(tried.vector, 14);
    EXPECT_IS(tried.error & ~0x10ul, 0);
    EXPECT_IS(tried.rip, 0x123000);
    EXPECT_IS(tried.cr2, 0x123000);
    return 0;
}

RULE(a_jump_to_a_no_execute_page)
{
    victim[0] = (char)0xc3;
    EXPECT_IS(protect(victim, PTE_RW | PTE_NX), 0);
    TRY("jmp *%0", NOTHING, "r"(victim));
    EXPECT_IS(protect(victim, PTE_RW), 0);
    EXPECT_IS(tried.vector, 14);
    EXPECT_IS(tried.error, 0x11);
    return 0;
}

RULE(xens_range_cannot_be_written)
{
    EXPECT_IS(try_write((void *)MACH2PHYS_VIRT_START, 1), 14);
    EXPECT_IS(try_read((void *)MACH2PHYS_VIRT_START), -1);
    return 0;
}

RULE(int3_reports_the_next_instruction)
{
    u64 next;
    handlers[3] = record;
    times = 0;
    asm volatile("leaq 1f(%%rip), %0\n\tint3\n1:" : "=&r"(next) : : "memory");
    handlers[3] = 0;
    EXPECT_IS(times, 1);
    EXPECT_IS(seen.rip, next);
    EXPECT_IS(seen.cs & 3, 0);
    return 0;
}

static u64 frame_end;
static void record_frame(struct regs *r) { frame_end = (u64)(r + 1); }
RULE(frames_start_on_16_bytes)
{
    handlers[3] = record_frame;
    asm volatile("int3" ::: "memory");
    u64 a = frame_end;
    asm volatile("subq $8, %%rsp\n\tint3\n\taddq $8, %%rsp" ::: "memory", "cc");
    handlers[3] = 0;
    EXPECT_IS(a & 15, 0);
    EXPECT_IS(frame_end & 15, 0);
    return 0;
}

RULE(every_register_survives_a_trap)
{
    u64 ok;
    handlers[3] = record;
    asm volatile("movl $1, %%eax; movl $2, %%ebx; movl $3, %%ecx; movl $4, %%edx; movl $5, %%esi; movl $6, %%edi\n\t"
                 "movl $8, %%r8d; movl $9, %%r9d; movl $10, %%r10d; movl $11, %%r11d; movl $12, %%r12d; movl $13, %%r13d\n\t"
                 "movl $14, %%r14d; movl $15, %%r15d; stc; int3; setc %%al\n\t"
                 "addq %%rbx, %%rax; addq %%rcx, %%rax; addq %%rdx, %%rax; addq %%rsi, %%rax; addq %%rdi, %%rax\n\t"
                 "addq %%r8, %%rax; addq %%r9, %%rax; addq %%r10, %%rax; addq %%r11, %%rax; addq %%r12, %%rax\n\t"
                 "addq %%r13, %%rax; addq %%r14, %%rax; addq %%r15, %%rax"
                 : "=a"(ok)
                 :
                 : "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
    handlers[3] = 0;
    EXPECT_IS(ok, 1 + 2 + 3 + 4 + 5 + 6 + 8 + 9 + 10 + 11 + 12 + 13 + 14 + 15);
    EXPECT_IS(seen.r11, 11);
    EXPECT_IS(seen.rcx, 3);
    return 0;
}

static int mask_in_handler;
static void look_at_mask(struct regs *r)
{
    record(r);
    mask_in_handler = vcpu_info(0)->evtchn_upcall_mask;
}
RULE(a_gate_can_mask_events)
{
    trap_info_t gate[] = { { 3, 3 | 4, FLAT_KERNEL_CS, (unsigned long)trap_entries[3] }, { 0, 0, 0, 0 } };
    trap_info_t plain[] = { { 3, 3, FLAT_KERNEL_CS, (unsigned long)trap_entries[3] }, { 0, 0, 0, 0 } };
    handlers[3] = look_at_mask;
    EXPECT_IS(set_trap_table(gate), 0);
    asm volatile("int3" ::: "memory");
    EXPECT_IS(mask_in_handler, 1);
    EXPECT_IS(seen.rflags >> 9 & 1, 1);
    EXPECT_IS(vcpu_info(0)->evtchn_upcall_mask, 0);
    EXPECT_IS(set_trap_table(plain), 0);
    asm volatile("int3" ::: "memory");
    EXPECT_IS(mask_in_handler, 0);
    handlers[3] = 0;
    return 0;
}

RULE(the_frame_shows_the_mask_as_the_interrupt_flag)
{
    handlers[3] = record;
    vcpu_info(0)->evtchn_upcall_mask = 1;
    asm volatile("int3" ::: "memory");
    int masked = seen.rflags >> 9 & 1, after = vcpu_info(0)->evtchn_upcall_mask;
    vcpu_info(0)->evtchn_upcall_mask = 0;
    asm volatile("int3" ::: "memory");
    handlers[3] = 0;
    EXPECT_IS(masked, 0);
    EXPECT_IS(after, 1);
    EXPECT_IS(seen.rflags >> 9 & 1, 1);
    return 0;
}

RULE(a_handler_at_no_address_is_refused)
{
    trap_info_t bad[] = { { 3, 3, FLAT_KERNEL_CS, 0x8000000000000000ul }, { 0, 0, 0, 0 } };
    EXPECT_IS(set_trap_table(bad), -XEN_EINVAL);
    return 0;
}

static int steps;
static void stop_stepping(struct regs *r)
{
    record(r);
    steps++;
    r->rflags &= ~0x100ul;
}
RULE(a_single_step_in_the_kernel)
{
    u64 at;
    handlers[1] = stop_stepping;
    steps = 0;
    asm volatile("leaq 1f(%%rip), %0\n\tpushfq\n\torq $0x100, (%%rsp)\n\tpopfq\n\tnop\n1:\tnop\n\tnop" : "=&r"(at) : : "memory", "cc");
    handlers[1] = 0;
    EXPECT_IS(steps, 1);
    EXPECT_IS(seen.rip, at);
    return 0;
}

/* void hot(u64 n): a loop that is translated long before it is stepped through. */
asm(".pushsection .text\n"
    "hot: decq %rdi\n"
    "    jnz hot\n"
    "hot_end: ret\n"
    ".popsection");
void hot(u64 n);
extern const char hot_end[];
static void count_steps(struct regs *r)
{
    if (r->rip >= (u64)hot && r->rip <= (u64)hot_end) steps++;
}
RULE(single_steps_through_hot_code)
{
    hot(1000000);
    handlers[1] = count_steps;
    steps = 0;
    asm volatile("pushfq\n\torq $0x100, (%%rsp)\n\tpopfq\n\tmovl $10, %%edi\n\tcall hot\n\tpushfq\n\tandq $~0x100, (%%rsp)\n\tpopfq"
                 : : : "rdi", "memory", "cc");
    handlers[1] = 0;
    EXPECT_IS(steps, 21); /* the call, ten times decq and jnz */
    return 0;
}

RULE(a_native_iretq_stays_in_the_kernel)
{
    u64 flags;
    asm volatile("movq %%rsp, %%rax\n\tpushq $0xe02b\n\tpushq %%rax\n\tpushfq\n\torq $1, (%%rsp)\n\tpushq $0xe033\n\tpushq $1f\n\tiretq\n"
                 "1:\tpushfq\n\tpopq %0" : "=r"(flags) : : "rax", "memory", "cc");
    EXPECT_IS(flags & 1, 1);
    return 0;
}

/* --- privileged instructions of the kernel --- */

RULE(hlt_is_refused)
{
    TRY("hlt", NOTHING, "a"(0));
    EXPECT_IS(tried.vector, 13);
    EXPECT_IS(tried.error, 0);
    return 0;
}

RULE(cli_needs_iopl)
{
    TRY("cli", NOTHING, "a"(0));
    EXPECT_IS(tried.vector, 13);
    struct physdev_set_iopl one = { .iopl = 1 }, zero = { .iopl = 0 };
    EXPECT_IS(HC(physdev_op, PHYSDEVOP_set_iopl, &one, 0, 0, 0), 0);
    TRY("cli; sti", NOTHING, "a"(0));
    EXPECT_IS(tried.vector, -1);
    EXPECT_IS(HC(physdev_op, PHYSDEVOP_set_iopl, &zero, 0, 0, 0), 0);
    return 0;
}

RULE(cr0_can_be_read_and_shows_paging)
{
    u64 cr0 = 0;
    TRY("movq %%cr0, %0", "=r"(cr0), "a"(0));
    EXPECT_IS(tried.vector, -1);
    EXPECT((cr0 & 0x80000001ul) == 0x80000001ul);
    return 0;
}

RULE(cr3_can_be_read_and_is_the_root)
{
    u64 cr3 = 0;
    TRY("movq %%cr3, %0", "=r"(cr3), "a"(0));
    EXPECT_IS(tried.vector, -1);
    EXPECT_IS(cr3, table_of(0, 4) * PAGE_SIZE);
    return 0;
}

RULE(cr2_holds_the_last_fault)
{
    u64 cr2 = 0;
    try_read((void *)0x654321);
    TRY("movq %%cr2, %0", "=r"(cr2), "a"(0));
    EXPECT_IS(cr2, 0x654321);
    return 0;
}

RULE(an_unknown_msr_is_refused)
{
    u32 lo, hi;
    TRY("rdmsr", "=a"(lo) COMMA "=d"(hi), "c"(0xdead0001));
    EXPECT_IS(tried.vector, 13);
    return 0;
}

RULE(efer_can_be_read)
{
    u32 lo = 0, hi;
    TRY("rdmsr", "=a"(lo) COMMA "=d"(hi), "c"(0xc0000080));
    EXPECT_IS(tried.vector, -1);
    EXPECT_IS(lo & 0x501, 0x501); /* SCE LME LMA */
    return 0;
}

RULE(debug_registers_keep_their_value)
{
    EXPECT_IS(HC(set_debugreg, 0, victim, 0, 0, 0), 0);
    EXPECT_IS(HC(get_debugreg, 0, 0, 0, 0, 0), victim);
    EXPECT_IS(HC(set_debugreg, 0, 0, 0, 0, 0), 0);
    return 0;
}

RULE(a_breakpoint_in_xens_range_is_refused)
{
    EXPECT(HC(set_debugreg, 0, HYPERVISOR_VIRT_START, 0, 0, 0) < 0);
    return 0;
}

RULE(fpu_taskswitch_makes_one_device_not_available)
{
    EXPECT_IS(HC(fpu_taskswitch, 1, 0, 0, 0, 0), 0);
    TRY("xorps %%xmm0, %%xmm0", NOTHING, "a"(0));
    EXPECT_IS(tried.vector, 7);
    TRY("xorps %%xmm0, %%xmm0", NOTHING, "a"(0));
    EXPECT_IS(tried.vector, -1);
    return 0;
}

static u64 cells[2] = { 0x1234567890abcdeful, 0xfedcba0987654321ul };
RULE(segment_bases_count)
{
    u64 fs, gs;
    EXPECT_IS(HC(set_segment_base, SEGBASE_FS, &cells[0], 0, 0, 0), 0);
    EXPECT_IS(HC(set_segment_base, SEGBASE_GS_KERNEL, &cells[1], 0, 0, 0), 0);
    asm volatile("movq %%fs:0, %0\n\tmovq %%gs:0, %1" : "=r"(fs), "=r"(gs) : : "memory");
    EXPECT_IS(fs, cells[0]);
    EXPECT_IS(gs, cells[1]);
    EXPECT_IS(HC(set_segment_base, SEGBASE_FS, 0x8000000000000000ul, 0, 0, 0), -XEN_EINVAL);
    return 0;
}

/* --- CPUID --- */

static int is_xen(u32 b, u32 c, u32 d) { return b == 0x566e6558 && c == 0x65584d4d && d == 0x4d4d566e; /* "XenVMMXenVMM" */ }

RULE(forced_emulation_of_cpuid_shows_xen)
{
    u32 a = 0x40000000, b, c = 0, d;
    asm volatile(XEN_CPUID : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    EXPECT(is_xen(b, c, d));
    EXPECT(a >= 0x40000002);
    a = 0x40000001;
    asm volatile(XEN_CPUID : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    EXPECT_IS(a, xen_version(XENVER_version, 0));
    return 0;
}

RULE(native_cpuid_shows_xen)
{
    u32 a = 0x40000000, b, c = 0, d;
    asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    EXPECT(is_xen(b, c, d));
    return 0;
}

/* --- user mode --- */

RULE(int_0x80_from_user_mode)
{
    handlers[0x80] = record_and_leave;
    enter_user(AT(user_int80), USER_STACK_TOP, 0);
    EXPECT(from_user(&seen));
    EXPECT_IS(seen.rip, AT(user_int80_next));
    EXPECT_IS(seen.cs & 0xffff, FLAT_USER_CS64);
    EXPECT_IS(seen.ss, FLAT_USER_SS64);
    EXPECT_IS(seen.rsp, USER_STACK_TOP);
    EXPECT_IS(seen.rbx, 0x80808080);
    EXPECT_IS(seen.rflags >> 9 & 1, 1);
    return 0;
}

static void answer(struct regs *r)
{
    record(r);
    r->rax = r->rax + 34;
}
static struct regs call_frame;
static void answer_call(struct regs *r)
{
    call_frame = *r;
    answer(r);
}
RULE(a_system_call_and_back)
{
    handlers[VECTOR_SYSCALL] = answer_call;
    handlers[0x80] = record_and_leave;
    enter_user(AT(user_syscall), USER_STACK_TOP - 64, 0);
    EXPECT_IS(call_frame.rip, AT(user_syscall_next));
    EXPECT(from_user(&call_frame));
    EXPECT_IS(call_frame.rax, 7);
    EXPECT_IS(call_frame.rdi, 0x1111);
    EXPECT_IS(call_frame.rsi, 0x2222);
    EXPECT_IS(call_frame.rbp, 0x3333);
    EXPECT_IS(call_frame.rsp, USER_STACK_TOP - 64);
    EXPECT_IS(call_frame.rcx, AT(user_syscall_next));
    EXPECT_IS(call_frame.r11 & 0x200, 0x200);
    EXPECT_IS(seen.rbx, 7 + 34 + 1);
    EXPECT_IS(seen.rax, 0x80808080);
    return 0;
}

RULE(a_closed_vector_is_gp_with_its_number)
{
    handlers[13] = record_and_leave;
    enter_user(AT(user_int21), USER_STACK_TOP, 0);
    handlers[13] = 0;
    EXPECT(from_user(&seen));
    EXPECT_IS(seen.vector, 13);
    EXPECT_IS(seen.error, 0x21 * 8 + 2);
    EXPECT_IS(seen.rip, AT(user_int21));
    return 0;
}

RULE(a_page_fault_of_user_mode_shows_in_the_error_code)
{
    handlers[14] = record_and_leave;
    enter_user(AT(user_hole), USER_STACK_TOP, USER_HOLE + 5);
    handlers[14] = 0;
    EXPECT(from_user(&seen));
    EXPECT_IS(seen.error, 6);
    EXPECT_IS(vcpu_info(0)->arch.cr2, USER_HOLE + 5);
    return 0;
}

RULE(a_write_of_user_mode_to_its_code)
{
    handlers[14] = record_and_leave;
    enter_user(AT(user_hole), USER_STACK_TOP, USER_CODE);
    handlers[14] = 0;
    EXPECT_IS(seen.error, 7);
    return 0;
}

RULE(user_mode_does_not_see_the_kernel)
{
    handlers[14] = record_and_leave;
    enter_user(AT(user_kernel), USER_STACK_TOP, (u64)victim);
    handlers[14] = 0;
    EXPECT_IS(seen.error, 4);
    return 0;
}

/* Without this assist, user mode can read it, as the kernel can: both are ring 3. It counts from the next NEW_USER_BASEPTR on. */
RULE(m2p_strict_hides_the_m2p_from_user_mode)
{
    struct mmuext_op none = { .cmd = MMUEXT_NEW_USER_BASEPTR }, again = { .cmd = MMUEXT_NEW_USER_BASEPTR, .arg1.mfn = user_l4 };
    EXPECT_IS(vm_assist(VMASST_CMD_enable, VMASST_TYPE_m2p_strict), 0);
    EXPECT_IS(mmuext_op(&none, 1, 0, DOMID_SELF), 0);
    EXPECT_IS(mmuext_op(&again, 1, 0, DOMID_SELF), 0);
    handlers[13] = handlers[14] = record_and_leave;
    enter_user(AT(user_kernel), USER_STACK_TOP, MACH2PHYS_VIRT_START);
    handlers[13] = handlers[14] = 0;
    EXPECT_IS(seen.vector, 14);
    EXPECT_IS(seen.rip, AT(user_kernel));
    EXPECT_IS(try_read((void *)MACH2PHYS_VIRT_START), -1);
    return 0;
}

RULE(user_mode_has_no_privileged_instructions)
{
    handlers[13] = record_and_leave;
    enter_user(AT(user_cli), USER_STACK_TOP, 0);
    handlers[13] = 0;
    EXPECT_IS(seen.vector, 13);
    EXPECT_IS(seen.error, 0);
    EXPECT_IS(seen.rip, AT(user_cli));
    return 0;
}

RULE(forced_emulation_works_in_user_mode)
{
    handlers[0x80] = record_and_leave;
    enter_user(AT(user_forced), USER_STACK_TOP, 0);
    EXPECT(is_xen((u32)seen.rbx, (u32)seen.rcx, (u32)seen.rdx));
    return 0;
}

RULE(user_mode_has_its_own_gs_base)
{
    u64 gs;
    *(u64 *)user_stack_page = 0x600dba5e;
    EXPECT_IS(HC(set_segment_base, SEGBASE_GS_KERNEL, &cells[1], 0, 0, 0), 0);
    EXPECT_IS(HC(set_segment_base, SEGBASE_GS_USER, USER_STACK, 0, 0, 0), 0);
    handlers[0x80] = record_and_leave;
    enter_user(AT(user_gs), USER_STACK_TOP, 0);
    EXPECT_IS(seen.rax, 0x600dba5e);
    asm volatile("movq %%gs:0, %0" : "=r"(gs) : : "memory");
    EXPECT_IS(gs, cells[1]);
    return 0;
}

RULE(single_steps_in_user_mode)
{
    handlers[1] = record;
    handlers[0x80] = record_and_leave;
    handlers[VECTOR_SYSCALL] = 0;
    times = 0;
    enter_user_flags = 0x302;
    enter_user(AT(user_step), USER_STACK_TOP, 0);
    enter_user_flags = 0x202;
    handlers[1] = 0;
    /* Four moves are stepped; `int` clears the flag as it enters. The last record is of the int itself. */
    EXPECT_IS(times, 5);
    EXPECT_IS(seen.rax, 4);
    return 0;
}

static void take(struct regs *r)
{
    record(r);
    leave_user(1);
}
RULE(a_return_to_a_bad_selector_is_gp)
{
    handlers[13] = take;
    enter_user_cs = 0x1233;
    enter_user(AT(user_int80), USER_STACK_TOP, 0);
    enter_user_cs = FLAT_USER_CS64;
    handlers[13] = 0;
    EXPECT_IS(seen.vector, 13);
    EXPECT_IS(seen.error, 0x1230);
    EXPECT_IS(seen.rip, AT(user_int80));
    return 0;
}

RULE(the_failsafe_callback_can_be_registered)
{
    struct callback_register c = { .type = CALLBACKTYPE_failsafe, .address = (unsigned long)failsafe_entry };
    EXPECT_IS(callback_op(CALLBACKOP_register, &c), 0);
    c.address = 0x8000000000000000ul;
    EXPECT_IS(callback_op(CALLBACKOP_register, &c), -XEN_EINVAL);
    c.type = 99;
    c.address = (unsigned long)failsafe_entry;
    EXPECT_IS(callback_op(CALLBACKOP_register, &c), -XEN_ENOSYS);
    return 0;
}

void guest_main(void)
{
    init_events();
    user_init(user_start, user_end);
#define R(name) { #name, name }
    RUN_RULES(R(division_by_zero), R(the_frame_shows_the_faulting_instruction), R(a_selector_beyond_the_table_is_gp_with_its_number),
              R(a_non_canonical_address_is_gp_0), R(a_non_canonical_stack_address_is_ss_0), R(a_read_of_nothing_is_a_page_fault),
              R(a_write_to_nothing_shows_in_the_error_code), R(a_write_to_a_read_only_page), R(a_jump_to_nothing_faults_there),
              R(a_jump_to_a_no_execute_page), R(xens_range_cannot_be_written), R(int3_reports_the_next_instruction),
              R(frames_start_on_16_bytes), R(every_register_survives_a_trap), R(a_gate_can_mask_events),
              R(the_frame_shows_the_mask_as_the_interrupt_flag), R(a_handler_at_no_address_is_refused), R(a_single_step_in_the_kernel), R(single_steps_through_hot_code),
              R(a_native_iretq_stays_in_the_kernel), R(hlt_is_refused), R(cli_needs_iopl), R(cr0_can_be_read_and_shows_paging),
              R(cr3_can_be_read_and_is_the_root), R(cr2_holds_the_last_fault), R(an_unknown_msr_is_refused), R(efer_can_be_read),
              R(debug_registers_keep_their_value), R(a_breakpoint_in_xens_range_is_refused),
              R(fpu_taskswitch_makes_one_device_not_available), R(segment_bases_count), R(forced_emulation_of_cpuid_shows_xen),
              R(native_cpuid_shows_xen), R(int_0x80_from_user_mode), R(a_system_call_and_back), R(a_closed_vector_is_gp_with_its_number),
              R(a_page_fault_of_user_mode_shows_in_the_error_code), R(a_write_of_user_mode_to_its_code),
              R(user_mode_does_not_see_the_kernel), R(m2p_strict_hides_the_m2p_from_user_mode), R(user_mode_has_no_privileged_instructions),
              R(forced_emulation_works_in_user_mode), R(user_mode_has_its_own_gs_base), R(single_steps_in_user_mode),
              R(a_return_to_a_bad_selector_is_gp), R(the_failsafe_callback_can_be_registered));
}
