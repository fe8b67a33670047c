/** Why `cpu.run` returned: the contract of VT-x and SVM exits, an exit reason and its qualification (see cpu.ts). */
export const Exit = {
  /** Not an exit: carry on through the dispatcher. */
  NONE: 0,
  /** The instruction budget is spent (or an attention request cut it short). */
  BUDGET: 1,
  /** An exception: vector, error code (−1 = none), CR2 for vector 14. rip at the instruction (faults) or after it (traps 1, 3, 4). */
  EXCEPTION: 2,
  /** `syscall`; rip after it, rcx and r11 not yet changed. */
  SYSCALL: 3,
  SYSENTER: 4,
  /** `int n`: vector; rip after it; length in the exit record. */
  INT_N: 5,
  HLT: 6,
  /** `pause`: a hint that another vCPU could use the time. */
  PAUSE: 7,
  /** Internal: an instruction that the host side implements (privileged and system instructions). */
  SYSTEM: 8,
  /** Internal: no decoded code at rip. */
  DECODE: 9,
  /** Internal: a block became hot. */
  HOT: 10,
  /** Internal: RFLAGS.TF is set, run one instruction at a time. */
  STEP: 11,
  /** A debugger's stop (debug-stops.ts): before the instruction at rip, or after a store to watched bytes. */
  BREAK: 12,
} as const;
export type ExitReason = (typeof Exit)[keyof typeof Exit];
