/**
 * The browser as the platform of a host: files are the page's (virtual-files.ts), disks are dropped images with a layer of memory over
 * them, so that the file on the user's own disk stays as it is.
 */
import { OverlayImage } from "../../devices/block/index.js";
import type { BlockImage } from "../../devices/block/index.js";
import { RawImage } from "../../devices/block/image/raw.js";
import type { DiskConfig } from "../../toolstack/config/disk.js";
import { HostError } from "../../toolstack/host/api.js";
import type { FileReader, FileWriter, HostPlatform } from "../../toolstack/host/platform.js";
import { BlobFile } from "./blob-file.js";
import type { VirtualFiles } from "./virtual-files.js";

export class BrowserPlatform implements HostPlatform {
  readonly hostName = "this page";
  readonly runtime = "WebAssembly in a browser";
  readonly cpuMhz = 1000;

  constructor(
    readonly files: VirtualFiles,
    private readonly onLog: (line: string) => void = () => {},
  ) {}

  /** The page's files have no folders to start from. */
  resolve(path: string): string {
    return path.replace(/^\.\//, "");
  }
  readFile(path: string): Promise<Uint8Array> {
    return this.files.bytes(path);
  }
  async openFile(path: string): Promise<FileReader> {
    const blob = await this.files.get(path);
    return {
      size: blob.size,
      read: async (offset, length) => new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer()),
      close: async () => {},
    };
  }
  async createFile(path: string): Promise<FileWriter> {
    let parts: Uint8Array<ArrayBuffer>[] = [];
    return {
      // A copy: the caller may use its buffer again.
      write: async (bytes) => void parts.push(new Uint8Array(bytes)),
      commit: async () => {
        this.files.put(path, new Blob(parts));
        parts = [];
      },
      abort: async () => {
        parts = [];
      },
    };
  }
  async checkDisk(disk: DiskConfig, path: string): Promise<void> {
    if (path === "") throw new HostError("invalid", `disk ${disk.vdev}: an empty drive is not supported in a page`);
    if (disk.format !== "raw") {
      throw new HostError(
        "invalid",
        `disk ${disk.vdev}: ${disk.format} images cannot be opened in a page, raw ones can`,
      );
    }
    await this.files.get(path);
  }
  async openDisk(disk: DiskConfig, path: string): Promise<BlockImage> {
    const base = new RawImage(new BlobFile(path, await this.files.get(path)));
    return disk.readOnly ? base : OverlayImage.inMemory(base);
  }
  log(line: string): void {
    this.onLog(line);
  }
}
