/** Virtual disks: the blkif back end and the images behind it. */
export { BlockBackend, type BlockBackendOptions } from "./backend.js";
export { SECTOR, type BlockImage } from "./image/image.js";
export { MemoryImage } from "./image/memory.js";
export { OverlayImage } from "./image/overlay.js";
export { WindowImage } from "./image/window.js";
export type { BlockMetrics } from "./metrics.js";
export { diskNodes, type DiskFacts } from "./nodes.js";
