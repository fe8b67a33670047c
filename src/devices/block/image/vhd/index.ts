export { createVhd, type CreateVhd } from "./create.js";
export { isVhdFooter } from "./format.js";
export { vhdFacts, VhdImage, type VhdFacts, type VhdOptions } from "./vhd.js";
