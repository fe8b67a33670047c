/** Node: a clock, the run loop, and domains read from files. */
export { engineFlags, engineFromEnvironment } from "./engine-flags.js";
export { packageRoot } from "./package-root.js";
export {
  InputError,
  looksLikeKernel,
  loadDomain,
  planFromConfig,
  readInput,
  type DomainPlan,
  type PlanDefaults,
} from "./files.js";
export { realClock, runMachine } from "./run-machine.js";
export { serveXenStore, type XenStoreSocket } from "./xenstore-socket.js";
export { serveGdb, type GdbServer, type GdbServerOptions } from "./gdb-server.js";
export { FileImage, openFileOverlay, type FileImageOptions } from "./file-image.js";
export { disksClosed, ImageFile } from "./image-file.js";
export { NodeSockets } from "./nat-sockets.js";
export { openDisk, checkDisk } from "./open-disk.js";
export * from "./host/index.js";
export { connectLink, FileSink, FileSource, listenForLinks, SocketLink } from "./migration-streams.js";
