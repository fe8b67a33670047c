/** The host service on Node. */
export {
  connectHost,
  serviceGone,
  startService,
  SERVICE_COMMAND,
  type ConnectOptions,
  type HostConnection,
} from "./connect.js";
export { runService, Service, type ServiceOptions } from "./service.js";
export { connectStream, createFile, NodePlatform, openFile } from "./platform.js";
export { stateFolder, statePaths, type StatePaths } from "./state-folder.js";
