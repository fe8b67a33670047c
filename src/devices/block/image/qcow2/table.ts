/** A table of the image (a cluster of L2 entries or of reference counts) in memory, with what of it is not in the file yet. */
import { SECTOR } from "../image.js";

export class Table {
  readonly view: DataView;
  /** Sectors that differ from the file's. */
  readonly dirty = new Set<number>();

  constructor(
    /** Its place in the file. */
    readonly offset: number,
    readonly bytes: Uint8Array,
    /** The file does not have it at all. */
    public fresh: boolean,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
  get isDirty(): boolean {
    return this.fresh || this.dirty.size > 0;
  }
  touch(at: number): void {
    this.dirty.add(Math.floor(at / SECTOR));
  }
}

/** Bytes for a place in the file, as they were at one moment. */
export interface Patch {
  readonly at: number;
  readonly bytes: Uint8Array;
}

/** What is dirty of a table, copied; neighbours in one piece. Nothing is dirty afterwards. */
export function takeDirty(table: Table): Patch[] {
  if (table.fresh) {
    table.fresh = false;
    table.dirty.clear();
    return [{ at: table.offset, bytes: table.bytes.slice() }];
  }
  const sectors = [...table.dirty].sort((a, b) => a - b);
  table.dirty.clear();
  const out: Patch[] = [];
  for (let i = 0; i < sectors.length;) {
    const first = sectors[i] as number;
    let n = 1;
    while (sectors[i + n] === first + n) n++;
    out.push({ at: table.offset + first * SECTOR, bytes: table.bytes.slice(first * SECTOR, (first + n) * SECTOR) });
    i += n;
  }
  return out;
}
