/**
 * What a virtual disk is made of. Addresses and sizes are in sectors of 512 bytes always, as on the ring; `sectorSize` is only what the
 * guest is told to keep to.
 *
 * A method that has nothing to wait for returns nothing, else a promise. A write that has been acknowledged may be lost by a crash of the
 * host until a later `flush` is. Callers see to it that requests in flight at one time do not overlap, or take either result.
 */
export const SECTOR = 512;

export interface BlockImage {
  readonly sectors: number;
  readonly sectorSize: number;
  readonly readOnly: boolean;
  /** Bytes that `discard` frees at a time; absent or 0: it cannot. */
  readonly discardGranularity?: number;
  /** Fill `into` (whole sectors) from `sector` on. */
  read(sector: number, into: Uint8Array): Promise<void> | void;
  write(sector: number, bytes: Uint8Array): Promise<void> | void;
  /** What was acknowledged before is on the medium afterwards. */
  flush(): Promise<void> | void;
  /** The content of these sectors is of no use any more. */
  discard(sector: number, count: number): Promise<void> | void;
  close(): Promise<void> | void;
}
