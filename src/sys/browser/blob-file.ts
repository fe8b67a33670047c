/** A dropped file as the base of a disk image: read on demand, never written. */
import type { ByteFile } from "../../devices/block/image/byte-file.js";
import { HostError } from "../../toolstack/host/api.js";

export class BlobFile implements ByteFile {
  readonly readOnly = true;
  constructor(
    readonly name: string,
    private readonly blob: Blob,
  ) {}
  size(): number {
    return this.blob.size;
  }
  async read(at: number, into: Uint8Array): Promise<void> {
    const part = new Uint8Array(await this.blob.slice(at, at + into.length).arrayBuffer());
    into.fill(0);
    into.set(part);
  }
  write(): never {
    throw new HostError("io", `${this.name}: a dropped file is not written to`);
  }
  grow(): never {
    throw new HostError("io", `${this.name}: a dropped file keeps its size`);
  }
  flush(): void {}
  close(): void {}
}
