/** Profiles of a machine: `new Profiler(machine, …)`, run it, `stop()`, then text and flame graphs. */
export { collapsed, flameGraph, speedscope, type Stacks } from "./flame.js";
export { kernelCode, type KernelCode } from "./kernel-code.js";
export { Profiler, type EngineShare, type Profile, type ProfilerOptions, type Spent } from "./profiler.js";
export { profileText } from "./report.js";
