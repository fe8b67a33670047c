/**
 * The library: a machine with the hypervisor on it, in any JavaScript engine with WebAssembly. Nothing here knows a platform;
 * `xenolith/node` and `xenolith/browser` run a machine on theirs.
 */
export { Machine, RunningDomain, type DomainSpec, type MachineOptions } from "./toolstack/machine.js";
export {
  forkDomain,
  forkTemplate,
  sharedKiB,
  sharingMiB,
  snapshotFromStream,
  spawnFork,
  takeSnapshot,
  type ForkOptions,
  type ForkResult,
  type SpawnOptions,
  type Template,
} from "./toolstack/fork.js";
export { BuildError, parseKernel, type KernelImage } from "./toolstack/builder/index.js";
export {
  ConfigError,
  parseDomainConfig,
  type Action,
  type DomainConfig,
  type DomainConfigOptions,
  type DomainType,
} from "./toolstack/config/index.js";
export { RealClock, VirtualClock, type Clock } from "./machine/clock.js";
export { Trace, type TraceKind, type TraceRecord } from "./hypervisor/trace.js";
export type { Domain } from "./hypervisor/domain.js";
export type { Vcpu } from "./hypervisor/vcpu.js";
export type { Xen } from "./hypervisor/xen.js";
export type { XenConsole } from "./hypervisor/console.js";
export type { Counters } from "./hypervisor/counters.js";
export {
  schedulers,
  type SchedulerHost,
  type SchedulerPolicy,
  type SchedParams,
} from "./hypervisor/scheduler/index.js";
export {
  SHUTDOWN_crash,
  SHUTDOWN_poweroff,
  SHUTDOWN_reboot,
  SHUTDOWN_soft_reset,
  SHUTDOWN_suspend,
  SHUTDOWN_watchdog,
} from "./abi/sched.js";
export { drive, type Drivable, type HostLoop, type Run, type RunEnd, type RunOptions } from "./api/drive.js";
export {
  MemorySink,
  MemorySource,
  MigrationError,
  MigrationLedger,
  parseSavedConfig,
  receiveDomain,
  restoreDomain,
  resumeDomain,
  saveDomain,
  sendDomain,
  suspendDomain,
  type ByteSink,
  type ByteSource,
  type Duplex,
  type ReceiveOptions,
  type Restored,
  type RestoreOptions,
  type RestorePlan,
  type SaveOptions,
  type SendOptions,
} from "./toolstack/migration/index.js";
export { dumpCore } from "./toolstack/dump-core.js";
export {
  checkQcow2,
  createQcow2,
  createVhd,
  HttpFile,
  ImageError,
  MemoryFile,
  MemoryImage,
  OverlayImage,
  Qcow2Image,
  RawImage,
  SECTOR,
  VhdImage,
  type BlockImage,
  type ByteFile,
} from "./devices/block/index.js";
export { openImage, type ImageFiles, type ImageFormat, type OpenImageOptions } from "./toolstack/open-image.js";
export { changeMedium, DiskError, type DiskSpec } from "./toolstack/disks.js";
