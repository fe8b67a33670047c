/**
 * Where things lie in the machine's linear memory. The engine's own area is at the bottom; the first machine frame that a
 * domain may own is above it. The addresses are constants so that generated code can use them as immediate offsets.
 *
 * Invariant: nothing below `ENGINE_END` is ever mapped by a guest's TLB entry.
 */

export const PAGE_SIZE = 4096;

/** The loaded vCPU's state block (one page). Offsets below are absolute addresses. */
export const CPU = 0x1000;

/** RAX RCX RDX RBX RSP RBP RSI RDI R8–R15, 8 bytes each. */
export const GPR = CPU + 0x000;
export const RIP = CPU + 0x080;
/** Lazy arithmetic flags: operation (i32, see flags.ts) and up to three i64 values. */
export const CC_OP = CPU + 0x088;
export const CC_A = CPU + 0x090;
export const CC_B = CPU + 0x098;
export const CC_R = CPU + 0x0a0;
/** RFLAGS without the six arithmetic flags (i32): TF IF DF IOPL NT RF VM AC VIF VIP ID, bit 1 set. */
export const EFL = CPU + 0x0a8;
/** The mode word of the running code (i32), see MODE_*. Part of every code lookup key. */
export const MODE = CPU + 0x0ac;
/** Segment bases ES CS SS DS FS GS, 8 bytes each. */
export const SEG_BASE = CPU + 0x0b0;
/** Segment selectors, 4 bytes each. */
export const SEG_SEL = CPU + 0x0e0;
/** Segment limits (bytes, inclusive; i32 unsigned), 4 bytes each. */
export const SEG_LIMIT = CPU + 0x0f8;
/** Segment attributes: descriptor bits 40–55 as in VMCS/VMCB (type, S, DPL, P, AVL, L, D/B, G), 4 bytes each. */
export const SEG_ATTR = CPU + 0x110;
/** Always zero: what an absent base or index register reads as in the interpreter. */
export const ZERO = CPU + 0x128;
/** Virtual address of the code page being interpreted (i64): base of rip-relative addresses. */
export const CODE_PAGE = CPU + 0x130;
/** Instructions that may still retire before the slice ends (i32, signed). */
export const BUDGET = CPU + 0x138;
/** Exit record: reason i32, vector i32, error code i32 (−1 = none), length i32, cr2 i64. */
export const EXIT_REASON = CPU + 0x140;
export const EXIT_VECTOR = CPU + 0x144;
export const EXIT_ERROR = CPU + 0x148;
export const EXIT_LENGTH = CPU + 0x14c;
export const EXIT_CR2 = CPU + 0x150;
/** Non-zero while a store invalidated code: the interpreter must look its block up again. */
export const SMC_PENDING = CPU + 0x158;
/** Interrupt shadow (mov ss, sti): non-zero for one instruction. */
export const SHADOW = CPU + 0x15c;
/** CR0 i64, CR4 i64, EFER i64. */
export const CR0 = CPU + 0x160;
export const CR4 = CPU + 0x168;
export const EFER = CPU + 0x170;
/** Top-level page table of address space 0 and 1 (maddr i32 each) and the number of levels (i32 each; 0 = paging off). */
export const ROOT = CPU + 0x178;
export const LEVELS = CPU + 0x180;
/** DR0–DR7, 8 bytes each. */
export const DR = CPU + 0x188;
/** TSC_AUX (i32, for rdtscp), TSC offset (f64 nanosecond reading cached). */
export const TSC_AUX = CPU + 0x1c8;
/** MXCSR (i32). */
export const MXCSR = CPU + 0x1cc;
/** x87: control word, status word (TOP kept in it, bits 11–13), abridged tag byte (1 = valid), last opcode: i32 each. */
export const FCW = CPU + 0x1d0;
export const FSW = CPU + 0x1d4;
export const FTW = CPU + 0x1d8;
export const FOP = CPU + 0x1dc;
/** x87 last instruction and data pointers (i64). */
export const FIP = CPU + 0x1e0;
export const FDP = CPU + 0x1e8;
/** Physical x87 registers R0–R7 (not ST order): 16 bytes each; mantissa i64 then sign+exponent u16. MMX registers alias the mantissas. */
export const FPR = CPU + 0x200;
/** XMM0–15, 16 bytes each. */
export const XMM = CPU + 0x280;
/** Scratch for helpers. */
export const SCRATCH = CPU + 0x380;
/** End of what a vCPU context holds. */
export const CPU_CONTEXT_SIZE = 0x380;

/** Mode word bits. */
export const MODE_BITS_16 = 0;
export const MODE_BITS_32 = 1;
export const MODE_BITS_64 = 2;
export const MODE_BITS_MASK = 3;
/** Address space index (0 or 1). */
export const MODE_SPACE = 4;
/** CPL in bits 3–4. */
export const MODE_CPL_SHIFT = 3;
/** Stack is 32 bits wide (SS.B), for 16/32-bit code. */
export const MODE_SS32 = 0x20;
/** DS, ES, SS and CS bases are all zero and limits 4 GiB (always so in 64-bit code). */
export const MODE_FLAT = 0x40;
/** Single step: RFLAGS.TF is set. */
export const MODE_STEP = 0x80;
/** Instruction or data breakpoints are armed in DR7. */
export const MODE_BREAK = 0x100;
/** CR0.TS or EM: FPU and SSE instructions raise #NM. */
export const MODE_NO_FPU = 0x200;

/** Where a page-crossing access, or one to a page with code, is staged. 64 bytes. */
export const BOUNCE = 0x2000;

/**
 * Epochs of what is known of code by virtual address (u32 each): lower half of space 0, upper half of space 0, of space 1, lower half of space 1;
 * and the highest number given so far.
 */
export const EPOCHS = 0x2080;
export const EPOCH_LOWER0 = EPOCHS;
export const EPOCH_UPPER0 = EPOCHS + 4;
export const EPOCH_UPPER1 = EPOCHS + 8;
export const EPOCH_LOWER1 = EPOCHS + 12;
export const EPOCH_LAST = 0x2094;
/** Links of the latest calls out of regions (u32 each), a ring. */
export const RETURNS = 0x2100;
export const RETURNS_DEPTH = 64;

/** The record at which a run of the fused handlers stopped (u32). */
export const REC_AT = 0x2090;

/**
 * What the core needs to know of the loaded PV vCPU to carry out its commonest transitions itself (core/assembly/pv.ts). Written before a run and
 * read back after it by the hypervisor (traps/fast.ts), which owns all of it in between.
 */
export const PV = 0x2200;
/** Not 0: transitions are carried out here. */
export const PV_ON = PV + 0x00;
/** Instructions charged to the budget for transitions, since the host side last took them out of its account. */
export const PV_CHARGED = PV + 0x04;
/** Where its vcpu_info lies. */
export const PV_INFO = PV + 0x08;
/** It has user page tables. */
export const PV_USER_ROOT = PV + 0x0c;
/** Where the first page of its GDT lies; 0 = it has none. */
export const PV_GDT = PV + 0x10;
/** Do the entries for system calls and page faults mask events? */
export const PV_SYSCALL_MASKS = PV + 0x14;
export const PV_FAULT_MASKS = PV + 0x18;
/** stack_switch: ss (u32), sp (i64). */
export const PV_KERNEL_SS = PV + 0x1c;
export const PV_KERNEL_SP = PV + 0x20;
/** Entry addresses (i64; 0 = none). */
export const PV_SYSCALL = PV + 0x28;
export const PV_FAULT = PV + 0x30;
/** The GS base of the side that does not run (i64 each). */
export const PV_GS_KERNEL = PV + 0x38;
export const PV_GS_USER = PV + 0x40;
/** CR2 of the latest fault that was passed on (i64). */
export const PV_CR2 = PV + 0x48;
/** What xen_version answers (u32). */
export const PV_VERSION = PV + 0x50;
/** Number of its domain as an owner in the frame table (u32), and whether it may write to its page tables as if they were writable (u32). */
export const PV_OWNER = PV + 0x54;
export const PV_WRITABLE_TABLES = PV + 0x58;
/** Its virtual IOPL (u32). */
export const PV_IOPL = PV + 0x5c;
/** How often each was done in this run (u32 each). */
export const PV_SYSCALLS = PV + 0x60;
export const PV_IRETS = PV + 0x64;
export const PV_STACK_SWITCHES = PV + 0x68;
export const PV_SEGMENT_BASES = PV + 0x6c;
export const PV_VERSIONS = PV + 0x70;
export const PV_FAULTS = PV + 0x74;
export const PV_SEGMENT_LOADS = PV + 0x78;
export const PV_MMU_UPDATES = PV + 0x7c;
export const PV_VA_MAPPINGS = PV + 0x80;
export const PV_MMUEXT_OPS = PV + 0x84;
export const PV_TABLE_WRITES = PV + 0x88;
export const PV_PORTS = PV + 0x8c;
export const PV_END = PV + 0x90;
/** What each is charged: as much as an exit to the host side counts against a vCPU's turn. */
export const PV_COST = 100;

/**
 * The hypervisor's frame table (memory/frame-table.ts), so that the core can change page-table entries by its rules: addresses of its arrays,
 * the frames that a domain may own, the count of TLB flushes, where code mappings have changed since the last, and the count of changes to present
 * page-table entries (u32 each).
 */
export const FRAMES = 0x2300;
export const FRAMES_OWNER = FRAMES + 0x00;
export const FRAMES_REF = FRAMES + 0x04;
export const FRAMES_TCOUNT = FRAMES + 0x08;
export const FRAMES_STAMP = FRAMES + 0x0c;
export const FRAMES_TYPE = FRAMES + 0x10;
export const FRAMES_FLAGS = FRAMES + 0x14;
export const FRAMES_FIRST = FRAMES + 0x18;
export const FRAMES_LIMIT = FRAMES + 0x1c;
export const FRAMES_CLOCK = FRAMES + 0x20;
export const FRAMES_CODE_CHANGED = FRAMES + 0x24;
export const FRAMES_CHANGES = FRAMES + 0x28;
export const FRAMES_END = FRAMES + 0x2c;
/** Bytes that it has for each frame, RAM or alias, behind the last frame (`PhysMem.frameTable`). */
export const FRAMES_ENTRY = 20;

/** Where the arena goes on; blocks decoded since frames were last compared, and how many there may be (0: none in the core); blocks decoded by the core; forms. u32 each. */
export const ARENA_NEXT = 0x2340;
export const DECODES = 0x2344;
export const DECODES_MAX = 0x2348;
export const DECODED = 0x234c;
export const FORMS_COUNT = 0x2350;
/** ModRM byte of the instruction whose form was asked for (u32). */
export const FORM_MODRM = 0x2354;
/**
 * The two address spaces as they are loaded: root and levels, the count of changes when the TLB had nothing stale, how many TLB entries were filled
 * since it was empty, not 0 = nothing of it is to be kept, not 0 = the epoch of its lower half is one that it came back to (u32 each).
 */
export const SPACES = 0x2400;
export const SPACE_SIZE = 32;
export const SPACE_ROOT = 0;
export const SPACE_LEVELS = 4;
export const SPACE_CLEAN = 8;
export const SPACE_FILLED = 12;
export const SPACE_GONE = 16;
export const SPACE_RETURNED = 20;
/**
 * What is kept of address spaces that are not loaded, for each of the two: root (0 = nothing) and levels, epochs of its lower and upper half, how many
 * of its TLB entries (KEPT_NONE: none), and the count of changes that these are good for (u32 each).
 */
export const KEPT = 0x2440;
export const KEPT_SPACES = 8;
export const KEPT_SIZE = 24;
export const KEPT_ROOT = 0;
export const KEPT_LEVELS = 4;
export const KEPT_LOWER = 8;
export const KEPT_UPPER = 12;
export const KEPT_COUNT = 16;
export const KEPT_CLEAN = 20;
export const KEPT_END = KEPT + 2 * KEPT_SPACES * KEPT_SIZE;
export const KEPT_NONE = 0xffffffff;

/** AssemblyScript's static data. */
export const CORE_DATA = 0x3000;
export const CORE_DATA_END = 0x20000;

/** TLB: per space a read and a write array. Entry: tag i64 (page VA; 1 = empty), addend i32, spare i32. */
export const TLB_ENTRIES = 4096;
export const TLB_ENTRY_SIZE = 16;
export const TLB_ARRAY_SIZE = TLB_ENTRIES * TLB_ENTRY_SIZE;
export const TLB = 0xfc0000;
/** Read array of space s at TLB + s*2*TLB_ARRAY_SIZE; write array follows it. */
export const TLB_END = TLB + 4 * TLB_ARRAY_SIZE;

/** Per space, addresses of the TLB entries filled since it was empty (u32 each), so that a flush clears what was used. */
export const TLB_FILLED = 0x30000;
export const TLB_FILLED_MAX = 2048;
export const TLB_FILLED_SIZE = TLB_FILLED_MAX * 4;
/** TLB entries of the spaces in KEPT, in the same order: address u32, addend u32, tag i64. */
export const KEPT_TLB = 0x20000;
export const KEPT_TLB_MAX = 256;
export const KEPT_TLB_SIZE = KEPT_TLB_MAX * 16;
/**
 * Per machine frame, which of its 64 granules of 64 bytes hold decoded code (u64 mask). A frame with a non-zero mask never
 * has an entry in a write TLB array, so that every store to it takes the slow path and is checked.
 */
export const CODE_MASK = 0x40000;
export const MAX_FRAMES = 1 << 20;
export const CODE_MASK_END = CODE_MASK + MAX_FRAMES * 8;
/**
 * Cache of code by virtual address, two ways to a set (one cache line): VA i64, epoch and mode key u32, block u32, region's function table index u32 (0 = none), its entry
 * number u32, times entered u32, pad u32. An entry of an older epoch counts for nothing.
 */
export const JUMP_CACHE = CODE_MASK_END;
export const JUMP_CACHE_ENTRIES = 32768;
export const JUMP_CACHE_ENTRY_SIZE = 32;
export const JUMP_CACHE_END = JUMP_CACHE + JUMP_CACHE_ENTRIES * JUMP_CACHE_ENTRY_SIZE;
/** Hash table of decoded blocks by machine address and mode. */
export const BLOCK_HASH = JUMP_CACHE_END;
export const BLOCK_HASH_ENTRIES = 1 << 16;
export const BLOCK_HASH_END = BLOCK_HASH + BLOCK_HASH_ENTRIES * 4;
/** Per machine frame the number of the frame whose code serves it too, because they hold the same bytes (u32; 0 = its own; cpu/code-twins.ts). */
export const TWIN = 0x1000000;
/** Per machine frame what was made from its code: the latest block decoded from it alone (u32; 0 = none), and how much there is in all (u32; cpu/code-cache.ts). */
export const FRAME_CODE = 0x1400000;
/**
 * Forms of instructions that the core decodes itself (core/assembly/decode.ts): a hash table by key i64 (form, then mode and what else it depends on).
 * Handler u32; flags u32; fixed register addresses u16 × 3; the flags' operation after it, or one of CC_* i16.
 */
export const FORMS = 0x1c00000;
export const FORMS_ENTRIES = 16384;
export const FORMS_MAX = 12000;
export const FORM_SIZE = 32;
export const FORM_KEY = 0;
export const FORM_HANDLER = 8;
export const FORM_FLAGS = 12;
export const FORM_CONST = 16;
export const FORM_AFTER = 22;
/** In the flags: how the immediate is read and its operand's size (4 bits each), where the operands' registers come from (3 × 4 bits), and what else there is. */
export const FORM_IMM = 0;
export const FORM_IMM_SIZE = 4;
export const FORM_OPERANDS = 8;
export const FORM_ENDS = 1 << 20;
export const FORM_RELATIVE = 1 << 21;
/** The handler depends on which operation set the flags; on the immediate. */
export const FORM_READS = 1 << 22;
export const FORM_STATIC = 1 << 23;
/** Of each opcode of the maps without and with 0F: 0 = left to the host side, 1 = without ModRM, 2 = with it, 3 = its middle field selects (u8). */
export const OPCODE_FORMS = 0x1c80000;
/** Which machine addresses and modes may be entries of a region: a bit for each value of a hash. */
export const ENTRIES_MAP = 0x1c90000;
export const ENTRIES_MAP_BITS = 1 << 20;
/** Arena of pre-decoded blocks. */
export const RECORDS = 0x1cc0000;
export const RECORDS_END = 0x5000000;
/** The first byte that a machine frame may use. */
export const ENGINE_END = RECORDS_END;

/** A decoded block: a header, then one record an instruction, then a sentinel record that continues at the next address. What each run of it looks at stands first. */
export const BLOCK_COUNT = 0;
/** Function table index of the region that this block enters (0 = none); its entry's number is BLOCK_ENTRY. */
export const BLOCK_REGION = 4;
export const BLOCK_N = 8;
/** Where the targets of the indirect jump or call that ends the block are noted (u32; 0 = it does not end with one). */
export const BLOCK_TARGETS = 12;
/** Virtual address that it was last found at (i64), and the key that this counts for, as in the jump cache (u32; 0 = none, or it was dropped). */
export const BLOCK_SEEN = 16;
export const BLOCK_SEEN_KEY = 24;
/** Blocks that ran after this one the last time: where its last instruction led, and behind it (u32 each; 0 = none). Only a hint: they may be found there no longer. */
export const BLOCK_TO = 28;
export const BLOCK_BEHIND = 32;
export const BLOCK_ENTRY = 36;
/** Virtual address that the region was made for (i64): its code holds that address. */
export const BLOCK_VA = 40;
export const BLOCK_MADDR = 48;
export const BLOCK_MODE = 52;
/** Machine address of the second page of a block whose one instruction crosses pages, else 0. */
export const BLOCK_PAGE2 = 56;
/** Next block in the same hash chain. */
export const BLOCK_NEXT = 60;
/** It was looked up by several virtual addresses (u32): then the jump cache cannot be searched for it. */
export const BLOCK_ALIASED = 64;
/** Next block of the same frame (FRAME_CODE). */
export const BLOCK_BESIDE = 68;
export const BLOCK_HEADER = 72;

/**
 * Targets of one indirect branch: how far from the branch's page i64, times taken u32, number of the page it was taken from u32 each
 * (TARGET_FOLLOWS: taken from several, so that the target moves along with the branch).
 */
export const TARGET_SIZE = 16;
export const TARGETS_MAX = 16;
export const TARGET_FOLLOWS = 0xffffffff;

/** A record: handler (table index) u32, offset in page u16, length u8; operand register addresses; address parts; constants. */
export const REC_HANDLER = 0;
export const REC_POS = 4;
export const REC_LEN = 6;
export const REC_R0 = 8;
export const REC_R1 = 10;
export const REC_R2 = 12;
export const REC_SEG = 14;
export const REC_BASE = 16;
export const REC_INDEX = 18;
export const REC_SCALE = 20;
export const REC_DISP = 24;
export const REC_IMM = 32;
export const REC_NEXT = 40;
export const REC_SIZE = 48;

/** What a handler returns. */
export const ST_NEXT = 0;
/** RIP is set: look the next block up. */
export const ST_JUMP = 1;
/** Leave the engine (or restart) with RIP at this instruction. */
export const ST_AT = 2;
/** Leave the engine with RIP after this instruction. */
export const ST_AFTER = 3;
/** End the block after this instruction and look the next one up. */
export const ST_END = 4;
/** This record's instruction is for its own handler (interpreter/fused.ts). */
export const ST_HANDLER = 5;

/** Region descriptors, indexed by function table index: epoch u32, page count u32, address of {va i64, maddr u32, pad u32} u32, 1 = it can run elsewhere u32. */
export const REGIONS = 0xa00000;
export const REGION_SIZE = 16;
export const REGIONS_MAX = 65536;
/** Blocks that became hot since the host side last looked: count u32; from byte 16 on {RIP i64, block u32, 1 = a region entered often u32}. */
export const HOT_LIST = 0xb00000;
export const HOT_MAX = 256;
/** Cache of code pages: VA i64, epoch and mode key u32, machine address of the page u32. */
export const CODE_TLB = 0xb10000;
export const CODE_TLB_ENTRIES = 256;
/** Per machine frame one byte: not 0 = shared, to be written by nobody; a write is first given a frame of its own (`PhysMem.breakSharing`). */
export const SHARED = 0xe00000;
/** Per frame of RAM one bit: written since it was cleared, while that is kept (`PhysMem.logDirty`). */
export const DIRTY = 0xf00000;

/**
 * How far from where it was made each region runs in the epoch of its descriptor: i64, by function table index. Regions of user code in this
 * part of the address space add it to all addresses that they hold, as the same frames of a program or library are mapped elsewhere in
 * every process; the others (and those entered below or above) run only where they were made.
 */
export const REGION_DELTAS = 0xf40000;
export const MADE_FROM = 2 ** 32;
export const MOVES_FROM = 2 ** 28;
export const MOVES_TO = 2 ** 47 - 2 ** 32;
/** All of such a region, and where its links lead, is at most so far from its first entry: with it in bounds, all are in the same half, and canonical. */
export const MOVES_REACH = 2 ** 27;

/**
 * Links: where a region's exits to known addresses lead, so that the dispatcher need not look them up. A link holds the epoch that it is
 * good for u32 (0 = none yet), then entry number and function table index u32 (entry in the low byte). A call's link is followed by the one of
 * its return point and that one's address: i64, then which epoch u32, mode u32. An indirect branch's link ends with the target that it is good for: i64.
 *
 * Invariant: the second word of every eight bytes, shifted right by eight, is a region's table index only where it is a link (indices of
 * regions are above 127, and an address's upper half is below that, or above all indices).
 */
export const LINKS = 0xb20000;
export const LINKS_END = 0xe00000;
export const LINK_SIZE = 8;
export const CALL_LINK_SIZE = 32;
export const LINK_RETURN = 8;
export const LINK_RETURN_VA = 16;
export const LINK_RETURN_EPOCH = 24;
export const LINK_RETURN_MODE = 28;
export const LINK_TARGET = 8;
export const CALL_LINK_TARGET = 32;
/** What a region returns: go on at RIP; leave the engine; RIP is a `ret`'s target; or a link's address with the number of its epoch and whether it is a call's, and an indirect branch's. */
export const LEFT_NONE = 0;
export const LEFT_ENGINE = 2;
export const LEFT_RETURN = 4;
export const LEFT_LINK = 16;
export const LEFT_EPOCH_MASK = 3;
export const LEFT_CALL = 4;
export const LEFT_INDIRECT = 8;
