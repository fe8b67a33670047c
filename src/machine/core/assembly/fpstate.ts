/** Addresses of the state the floating-point helpers touch. They equal `src/machine/layout.ts` (test/softfloat/layout.test.ts). */
export const FPS_EXIT_REASON: usize = 0x1140;
export const FPS_EXIT_VECTOR: usize = 0x1144;
export const FPS_EXIT_ERROR: usize = 0x1148;
export const FPS_CR4: usize = 0x1168;
export const FPS_MXCSR: usize = 0x11cc;
export const FPS_FCW: usize = 0x11d0;
export const FPS_FSW: usize = 0x11d4;
export const FPS_FTW: usize = 0x11d8;
export const FPS_FOP: usize = 0x11dc;
export const FPS_FIP: usize = 0x11e0;
export const FPS_FDP: usize = 0x11e8;
export const FPS_FPR: usize = 0x1200;
export const FPS_XMM: usize = 0x1280;
/** Results for the emitters: a value of up to 16 bytes, then a second i32 (a flags image). */
export const FPS_RESULT: usize = 0x1380;
export const FPS_FLAGS: usize = 0x1390;
/** Operands for the test harness, which cannot pass vectors. */
export const FPS_ARGS: usize = 0x13a0;

/** `Exit.EXCEPTION` of exits.ts. */
export const EXIT_EXCEPTION: i32 = 2;

/** Fill the exit record and return the status that leaves the engine at this instruction. */
export function fpRaise(vector: i32, error: i32): i32 {
  store<i32>(FPS_EXIT_REASON, EXIT_EXCEPTION);
  store<i32>(FPS_EXIT_VECTOR, vector);
  store<i32>(FPS_EXIT_ERROR, error);
  return 1;
}
