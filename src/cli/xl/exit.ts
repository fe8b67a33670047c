/** How a command of `xl` ends before its end, and the numbers that xl has for it. */

/** Ends the command with a status; what had to be said has been said. */
export class XlExit extends Error {
  override readonly name = "XlExit";
  constructor(readonly status: number) {
    super(`exit status ${status}`);
  }
}

export const OK = 0;
export const FAILURE = 1;
/** Wrong options or too few arguments. */
export const USAGE = 2;
/** `create` ends with the negated error of libxl: ERROR_FAIL and ERROR_INVAL. */
export const CREATE_FAILED = 3;
export const CREATE_INVALID = 6;
