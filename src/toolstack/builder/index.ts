// The domain builder: from a kernel file to a domain's initial memory.
export { BuildError } from "./errors.js";
export { parseKernel, type KernelImage } from "./image.js";
export { buildPv64 } from "./pv64.js";
export type { BuildMemory, BuildTarget, PageTableFrame, PvImage, PvOptions, Region } from "./target.js";
export type { XenNotes } from "./xen-notes.js";
