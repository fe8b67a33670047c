/**
 * Writer of classic pcap files (link type Ethernet), as tcpdump and Wireshark read them. What offloading left undone is done in the copy that is
 * written, so that checksums are right there.
 */
import { finishChecksum, type Packet } from "./packet.js";

const MAGIC = 0xa1b2c3d4;
const LINKTYPE_ETHERNET = 1;
/** Frames are at most a 64 KiB datagram and its headers. */
const SNAPLEN = 262144;

export class PcapWriter {
  packets = 0;
  /** @param sink takes the bytes, in order. */
  constructor(
    private readonly sink: (bytes: Uint8Array) => void,
    /** Nanoseconds from the Unix epoch. */
    private readonly epochNow: () => number,
  ) {
    const h = new DataView(new ArrayBuffer(24));
    h.setUint32(0, MAGIC, true);
    h.setUint16(4, 2, true);
    h.setUint16(6, 4, true);
    h.setUint32(16, SNAPLEN, true);
    h.setUint32(20, LINKTYPE_ETHERNET, true);
    sink(new Uint8Array(h.buffer));
  }

  write(packet: Packet): void {
    const { data } = finishChecksum(packet);
    const length = Math.min(data.length, SNAPLEN);
    const record = new Uint8Array(16 + length);
    const h = new DataView(record.buffer);
    const us = Math.floor(this.epochNow() / 1000);
    h.setUint32(0, Math.floor(us / 1e6), true);
    h.setUint32(4, us % 1e6, true);
    h.setUint32(8, length, true);
    h.setUint32(12, data.length, true);
    record.set(data.subarray(0, length), 16);
    this.packets++;
    this.sink(record);
  }
}
