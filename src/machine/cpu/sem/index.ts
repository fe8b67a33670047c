/** The operations that the machine knows: integer and system, x87, MMX and SSE. */
import type { OpTable } from "./context.js";
import { register as fp } from "./fp.js";
import { register as integer } from "./integer.js";

let table: OpTable | undefined;

export function opTable(): OpTable {
  if (table === undefined) {
    table = new Map();
    integer(table);
    fp(table);
  }
  return table;
}
