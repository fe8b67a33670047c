export { checkQcow2, type Qcow2Check } from "./check.js";
export { createQcow2, type CreateQcow2 } from "./create.js";
export { isQcow2, type Qcow2Header } from "./header.js";
export { Qcow2Image, type Decompress, type Qcow2Options } from "./qcow2.js";
export { zstdFrameLength } from "./zstd-frame.js";
