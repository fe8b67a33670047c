/** Symbols by address: from a System.map or a kernel's own table, for traces, profiles and debuggers. */
import type { Va } from "../../machine/cpu/api.js";

export interface KernelSymbol {
  readonly va: Va;
  /** nm's letter: t, T: code; d, D, b, B, r, R: data; A: absolute. */
  readonly type: string;
  readonly name: string;
}

/** A canonical address of 16 hexadecimal digits (or fewer). */
function vaOf(digits: string): Va {
  const text = digits.padStart(16, "0");
  return (parseInt(text.slice(0, 8), 16) | 0) * 4294967296 + parseInt(text.slice(8), 16);
}

/** The lines of a System.map (`address type name`); others are passed over. */
export function parseSystemMap(text: string): KernelSymbol[] {
  const out: KernelSymbol[] = [];
  for (const line of text.split("\n")) {
    const m = /^([0-9a-f]{1,16}) (\S) (\S+)/.exec(line);
    if (m !== null) out.push({ va: vaOf(m[1] ?? ""), type: m[2] ?? "", name: m[3] ?? "" });
  }
  return out;
}

/** Finds the function an address belongs to. */
export class SymbolTable {
  private readonly code: readonly KernelSymbol[];
  constructor(symbols: readonly KernelSymbol[]) {
    this.code = symbols.filter((s) => s.type === "t" || s.type === "T").sort((a, b) => a.va - b.va);
  }
  get size(): number {
    return this.code.length;
  }
  /** The last function at or before `va`, or undefined. */
  find(va: Va): KernelSymbol | undefined {
    let lo = 0;
    let hi = this.code.length;
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if ((this.code[mid] as KernelSymbol).va <= va) lo = mid + 1;
      else hi = mid;
    }
    return this.code[lo - 1];
  }
}
