/** Save, restore and live migration of PV domains. */
export * from "./adopt.js";
export * from "./bytes.js";
export * from "./capture.js";
export * from "./config.js";
export { MigrationError, type MigrationErrorCode } from "./errors.js";
export { MigrationLedger, type Decision } from "./ledger.js";
export { receiveDomain, sendDomain, type ReceiveOptions, type SendOptions, type SendResult } from "./live.js";
export { frameType } from "./frame-types.js";
export {
  canonicaliseFrame,
  localiseFrame,
  localiseTable,
  translateTable,
  type FrameMap,
  type TableLevel,
} from "./page-tables.js";
export { hypervisorP2m, readP2m, writeP2m, type GuestP2m } from "./p2m.js";
export * from "./rebuild.js";
export { equip, restoreDomain, type Restored, type RestoreOptions } from "./restore.js";
export { saveDomain, type Progress, type SaveOptions, type SaveResult } from "./save.js";
export { resumeDomain, suspendDomain, type SuspendOptions } from "./suspend.js";
export { restoreVcpu, saveVcpu, startInfoPfn, type SavedVcpu } from "./vcpus.js";
