/** All integer, control-flow, string, bit, stack and system instructions. */
import type { OpTable } from "./context.js";
import * as alu from "./alu.js";
import * as atomic from "./atomic.js";
import * as bcd from "./bcd.js";
import * as bits from "./bits.js";
import * as branch from "./branch.js";
import * as flagops from "./flagops.js";
import * as move from "./move.js";
import * as muldiv from "./muldiv.js";
import * as shift from "./shift.js";
import * as stack from "./stack.js";
import * as string from "./string.js";
import * as system from "./system.js";

export function register(ops: OpTable): void {
  for (const part of [alu, atomic, bcd, bits, branch, flagops, move, muldiv, shift, stack, string, system])
    part.register(ops);
}
