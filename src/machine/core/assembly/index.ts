/** The core: what is too hot for TypeScript and not generated from the semantics. */
export {
  setFrames, recordFault, recordExit, translateR, translateW, translateWx, commitW, translate, peek, peekCode, hashFrame, sameFrame, clearTlb, dropFrame, dropWriters, setAliases, setLogDirty, walk,
} from "./mmu";
export { arithFlags, ccFlags, ccCond, ccCarry } from "./flags";
export { run, step, engineCount, rdtsc, forgetCode, setHotness, setFused, stopAfterStore, setExact, inFlightBudget, lastCodeMaddr, blockHash } from "./run";
export { codeDropped, flushTlb, forgetRoot, invlpg, switchSpaces, watchTables } from "./spaces";
export * from "./int";
export {
  sseOp32, sseOp64, sseOpPs, sseOpPd, sseMixPs, sseMixPd, sseCmp32, sseCmp64, sseCmpPs, sseCmpPd, sseComi32, sseComi64, sseToInt32, sseToInt64, ssePsToInts, ssePs2Pi, ssePdToInts, sseFromInt32, sseFromInt64, sseIntsToPs, sseSs2Sd, sseSd2Ss, ssePs2Pd, ssePd2Ps, sseRound32, sseRound64, sseRoundPs, sseRoundPd, sseDpps, sseDppd, sseApprox, sseApproxPs, ssePcmpstr, sseLdmxcsr,
} from "./sse";
export {
  x87Wait, mmxEnter, x87Emms, x87Arith, x87Arith32, x87Arith64, x87ArithInt, x87Com, x87Com32, x87Com64, x87ComInt, x87Comi, x87Tst, x87Xam, x87Unary, x87Fld32, x87Fld64, x87Fld80, x87Fild, x87FldSt, x87Const, x87Fbld, x87FstSt, x87Store, x87Fxch, x87Cmov, x87Stack, x87Init, x87Clex, x87Ldcw, x87Scale, x87Xtract, x87Prem, x87StoreEnv, x87LoadEnv,
} from "./x87";
export {
  x87SinCos, x87Trig2, x87F2xm1, x87Yl2x, x87Yl2xp1, x87Patan,
} from "./x87trans";
export {
  x87Fxsave, x87Fxrstor, fxsaveTo, fxrstorFrom,
} from "./fxsave";
export { formOf, formPlace, entryBit } from "./decode";
export * from "./wide";
