/** Virtual disks: the blkif back end and the images behind it. */
export { BlockBackend, type BlockBackendOptions, type Medium } from "./backend.js";
export { ImageError, MemoryFile, type ByteFile } from "./image/byte-file.js";
export { HttpFile, type Fetch, type HttpOptions, type HttpResponse } from "./image/http.js";
export { SECTOR, type BlockImage } from "./image/image.js";
export { MemoryImage } from "./image/memory.js";
export { OverlayImage } from "./image/overlay.js";
export { checkQcow2, createQcow2, isQcow2, Qcow2Image, zstdFrameLength, type Decompress } from "./image/qcow2/index.js";
export { RawImage } from "./image/raw.js";
export { createVhd, isVhdFooter, vhdFacts, VhdImage } from "./image/vhd/index.js";
export { WindowImage } from "./image/window.js";
export type { BlockMetrics } from "./metrics.js";
export { diskNodes, type DiskFacts } from "./nodes.js";
