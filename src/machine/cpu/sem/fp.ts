/** All of x87, MMX and SSE. */
import type { OpTable } from "./context.js";
import { register as fxsave } from "./fxsave.js";
import { register as sse4 } from "./sse4.js";
import { register as convert } from "./sse-convert.js";
import { register as float } from "./sse-float.js";
import { register as integer } from "./sse-int.js";
import { register as move } from "./sse-move.js";
import { register as x87 } from "./x87.js";

export function register(ops: OpTable): void {
  move(ops);
  integer(ops);
  float(ops);
  convert(ops);
  sse4(ops);
  x87(ops);
  fxsave(ops);
}
