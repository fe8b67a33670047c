/**
 * What a host needs of the platform it runs on: files, disk images, ways to other hosts, a log for each console. Node and browsers give one
 * each; nothing else in the toolstack knows either.
 *
 * Invariant: what fails throws a `HostError` ("invalid" for a name that leads nowhere, "io" for a device that fails) with one line that
 * names the file.
 */
import type { BlockImage } from "../../devices/block/index.js";
import type { DebugMachine } from "../../debug/debugger.js";
import type { Domain } from "../../hypervisor/domain.js";
import type { DiskConfig } from "../config/disk.js";

/** Where a relative path of a configuration starts: the caller's folder first, as xl has it, or else beside the configuration. */
export interface PathBase {
  readonly cwd?: string | undefined;
  /** The configuration's own name. */
  readonly source: string;
}

/** A file that comes into being whole or not at all. */
export interface FileWriter {
  write(bytes: Uint8Array): Promise<void>;
  /** On the disk, under its name. */
  commit(): Promise<void>;
  /** Nothing remains; does nothing after `commit`. */
  abort(): Promise<void>;
}

export interface FileReader {
  readonly size: number;
  /** Fewer bytes than asked for only at the end of the file. */
  read(offset: number, length: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** Bytes to and from another host. Writing waits while the other side does not read. */
export interface ByteStream {
  write(bytes: Uint8Array): Promise<void>;
  /** The next bytes, whatever came; null at the end. */
  read(): Promise<Uint8Array | null>;
  close(): void;
}

export interface LogSink {
  write(bytes: Uint8Array): void;
  close(): void;
}

export interface HostPlatform {
  /** The host's name and what it runs on, for people. */
  readonly hostName: string;
  readonly runtime: string;
  /** MHz, as far as it is known. */
  readonly cpuMhz: number;
  /** The path as the platform can open it. */
  resolve(path: string, base: PathBase): string;
  readFile(path: string): Promise<Uint8Array>;
  openFile(path: string): Promise<FileReader>;
  createFile(path: string): Promise<FileWriter>;
  /** The image behind a disk; `path` has been resolved. */
  openDisk(disk: DiskConfig, path: string): Promise<BlockImage>;
  /** Refuses a disk before anything is made: no such file, a format that cannot be opened. */
  checkDisk(disk: DiskConfig, path: string, source: string): Promise<void>;
  /** `to`: host:port or the path of a socket. */
  connect?(to: string): Promise<ByteStream>;
  /** Listen for a console's other end (`channel=` with connection=socket). */
  listenSocket?(path: string, accept: (stream: ByteStream) => void): Promise<{ close(): void }>;
  /** Where a core dump of a domain that crashed goes, by the domain's name. */
  dumpPath?(name: string): string;
  /** Serve gdb for a domain on a port of the loopback interface; resolves with what it listens on. */
  serveGdb?(
    machine: DebugMachine,
    domain: Domain,
    port: number,
    wake: () => void,
  ): Promise<{ port: number; close(): void }>;
  /** Where the console of a domain is kept, by the domain's name. */
  consoleLog?(name: string): LogSink;
  /** CPU time of the whole process, nanoseconds. */
  cpuTimeNs?(): number;
  /** A line for the host's log. */
  log(line: string): void;
}
