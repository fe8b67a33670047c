/** New VHD images: fixed, dynamic, or differencing on a parent. */
import { ImageError, type ByteFile } from "../byte-file.js";
import { SECTOR } from "../image.js";
import { run, wait, type Steps } from "../steps.js";
import {
  checksum,
  DIFFERENCING,
  DYNAMIC,
  FIXED,
  FOOTER,
  FOOTER_SIZE,
  geometry,
  HEADER,
  HEADER_SIZE,
  LOCATOR_SIZE,
  W2RU,
} from "./format.js";

export interface CreateVhd {
  /** Bytes of the disk. */
  readonly size: number;
  readonly type?: "fixed" | "dynamic";
  /** 16 bytes that no other image has. */
  readonly uuid: Uint8Array;
  /** Seconds from the beginning of 2000. */
  readonly timestamp: number;
  readonly blockSize?: number;
  /** A differencing image: its parent's identifier and time, and its path from the image's folder. */
  readonly parent?: { readonly uuid: string; readonly timestamp: number; readonly path: string };
}

const MAX_SIZE = 2040 * 2 ** 30;

export function createVhd(file: ByteFile, options: CreateVhd): Promise<void> | void {
  return run(creating(file, options));
}

function* creating(file: ByteFile, o: CreateVhd): Steps<void> {
  const size = Math.ceil(o.size / SECTOR) * SECTOR;
  if (size > MAX_SIZE) throw new ImageError(`${file.name}: a VHD has at most 2040 GiB`);
  if (file.size() > 0) throw new ImageError(`${file.name}: is not empty`);
  const fixed = o.type === "fixed" && o.parent === undefined;
  const footer = new Uint8Array(FOOTER_SIZE);
  const f = new DataView(footer.buffer);
  const utf8 = new TextEncoder();
  footer.set(utf8.encode("conectix"));
  f.setUint32(FOOTER.features, 2);
  f.setUint32(FOOTER.version, 0x00010000);
  f.setUint32(FOOTER.data_offset, fixed ? 0xffffffff : 0);
  f.setUint32(FOOTER.data_offset + 4, fixed ? 0xffffffff : FOOTER_SIZE);
  f.setUint32(FOOTER.timestamp, o.timestamp);
  // Readers take the size in bytes, not the geometry's, from images whose creator they know to mean it: the Xen tools' is such.
  footer.set(utf8.encode("tap"), FOOTER.creator);
  f.setUint32(FOOTER.creator_version, 0x00010003);
  for (const at of [FOOTER.original_size, FOOTER.current_size]) {
    f.setUint32(at, Math.floor(size / 2 ** 32));
    f.setUint32(at + 4, size >>> 0);
  }
  const g = geometry(size);
  f.setUint16(FOOTER.geometry, g.cylinders);
  footer[FOOTER.geometry + 2] = g.heads;
  footer[FOOTER.geometry + 3] = g.sectors;
  f.setUint32(FOOTER.type, fixed ? FIXED : o.parent === undefined ? DYNAMIC : DIFFERENCING);
  footer.set(o.uuid.subarray(0, 16), FOOTER.uuid);
  f.setUint32(FOOTER.checksum, checksum(footer, FOOTER.checksum));
  if (fixed) {
    yield* wait(file.write(size, footer));
    yield* wait(file.flush());
    return;
  }
  const blockSize = o.blockSize ?? 2 << 20;
  const entries = Math.ceil(size / blockSize);
  const header = new Uint8Array(HEADER_SIZE);
  const h = new DataView(header.buffer);
  header.set(utf8.encode("cxsparse"));
  h.setUint32(HEADER.data_offset, 0xffffffff);
  h.setUint32(HEADER.data_offset + 4, 0xffffffff);
  const tableOffset = FOOTER_SIZE + HEADER_SIZE;
  const table = new Uint8Array(Math.ceil((entries * 4) / SECTOR) * SECTOR).fill(0xff);
  h.setUint32(HEADER.table_offset + 4, tableOffset);
  h.setUint32(HEADER.version, 0x00010000);
  h.setUint32(HEADER.entries, entries);
  h.setUint32(HEADER.block_size, blockSize);
  let end = tableOffset + table.length;
  let locator: Uint8Array | null = null;
  if (o.parent !== undefined) {
    const { parent } = o;
    for (let i = 0; i < 16; i++) header[HEADER.parent_uuid + i] = parseInt(parent.uuid.slice(i * 2, i * 2 + 2), 16);
    h.setUint32(HEADER.parent_timestamp, parent.timestamp);
    const base = parent.path.slice(parent.path.lastIndexOf("/") + 1);
    [...base.slice(0, 255)].forEach((c, i) => h.setUint16(HEADER.parent_name + i * 2, c.charCodeAt(0)));
    const relative = (
      parent.path.startsWith("/") || parent.path.startsWith(".") ? parent.path : `./${parent.path}`
    ).replaceAll("/", "\\");
    locator = new Uint8Array(Math.ceil((relative.length * 2) / SECTOR) * SECTOR);
    const l = new DataView(locator.buffer);
    for (let i = 0; i < relative.length; i++) l.setUint16(i * 2, relative.charCodeAt(i), true);
    const at = HEADER.locators;
    h.setUint32(at, W2RU);
    h.setUint32(at + 4, locator.length);
    h.setUint32(at + 8, relative.length * 2);
    h.setUint32(at + LOCATOR_SIZE - 4, end);
    end += locator.length;
  }
  h.setUint32(HEADER.checksum, checksum(header, HEADER.checksum));
  yield* wait(file.write(FOOTER_SIZE, header));
  yield* wait(file.write(tableOffset, table));
  if (locator !== null) yield* wait(file.write(tableOffset + table.length, locator));
  yield* wait(file.write(end, footer));
  yield* wait(file.flush());
  // Without its first bytes it is no image: they come last.
  yield* wait(file.write(0, footer));
  yield* wait(file.flush());
}
