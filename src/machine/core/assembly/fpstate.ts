/** The state the floating-point helpers touch, at the addresses of `src/machine/layout.ts`, and how they raise. */
import {
  CR4,
  EXIT_ERROR,
  EXIT_REASON,
  EXIT_VECTOR,
  FCW,
  FDP,
  FIP,
  FOP,
  FPR,
  FSW,
  FTW,
  MXCSR,
  SCRATCH,
  XMM,
} from "../generated/layout";

export const FPS_EXIT_VECTOR: usize = EXIT_VECTOR;
export const FPS_CR4: usize = CR4;
export const FPS_MXCSR: usize = MXCSR;
export const FPS_FCW: usize = FCW;
export const FPS_FSW: usize = FSW;
export const FPS_FTW: usize = FTW;
export const FPS_FOP: usize = FOP;
export const FPS_FIP: usize = FIP;
export const FPS_FDP: usize = FDP;
export const FPS_FPR: usize = FPR;
export const FPS_XMM: usize = XMM;
/** Results for the emitters: a value of up to 16 bytes, then a second i32 (a flags image). Equals AT of sem/helpers-fp.ts. */
export const FPS_RESULT: usize = SCRATCH;
export const FPS_FLAGS: usize = SCRATCH + 16;
/** Operands of string compares, and of the test harness, which cannot pass vectors. */
export const FPS_ARGS: usize = SCRATCH + 32;

/** `Exit.EXCEPTION` of exits.ts. */
const EXIT_EXCEPTION: i32 = 2;

/** Fill the exit record and return the status that leaves the engine at this instruction. */
export function fpRaise(vector: i32, error: i32): i32 {
  store<i32>(EXIT_REASON, EXIT_EXCEPTION);
  store<i32>(EXIT_VECTOR, vector);
  store<i32>(EXIT_ERROR, error);
  return 1;
}
