/** The core: what is too hot for TypeScript and not generated from the semantics. */
export {
  setFrames, recordFault, recordExit, translateR, translateW, translateWx, commitW, translate, peek, dropWriters, walk,
} from "./mmu";
export { ccFlags, ccCond, ccCarry } from "./flags";
export { run, step, rdtsc, flushTlb, invlpg, newEpoch, setHotness, lastCodeMaddr, blockHash } from "./run";
export * from "./int";
