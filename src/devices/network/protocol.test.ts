import { beforeEach, describe, expect, it } from "vitest";
import { sring } from "../../abi/io_ring.js";
import { PhysMem } from "../../machine/memory.js";
import { DeviceError } from "../xenbus/errors.js";
import { SharedPages } from "../xenbus/ring.js";
import { newVifMetrics, type VifMetrics } from "./metrics.js";
import {
  be32,
  checksumOk,
  GSO_NONE,
  GSO_TCPV4,
  type Packet,
  parse,
  put16,
  put32,
  wire,
  writeIpChecksum,
} from "./packet.js";
import { type GrantCopy, type RxAbilities, RxQueue, TxQueue } from "./protocol.js";
import { TokenBucket } from "./token-bucket.js";

const MORE = 4,
  EXTRA = 8,
  BLANK = 1;

/** A guest's pages, by grant reference; references from 100 on are not granted. */
class Grants implements GrantCopy {
  readonly pages = new Map<number, Uint8Array>();
  page(ref: number): Uint8Array {
    let p = this.pages.get(ref);
    if (p === undefined) this.pages.set(ref, (p = new Uint8Array(4096)));
    return p;
  }
  copyIn(ref: number, offset: number, into: Uint8Array): number {
    if (ref >= 100 || offset + into.length > 4096) return -3;
    into.set(this.page(ref).subarray(offset, offset + into.length));
    return 0;
  }
  copyOut(ref: number, offset: number, bytes: Uint8Array): number {
    if (ref >= 100 || offset + bytes.length > 4096) return -3;
    this.page(ref).set(bytes, offset);
    return 0;
  }
}

/** The front end's side of a ring. */
const memory = new PhysMem(1 << 20);
class Front {
  readonly mem = memory;
  readonly at: number;
  readonly pages: SharedPages;
  prod = 0;
  constructor(readonly entry: number) {
    this.at = this.mem.firstFrame * 4096;
    this.mem.zeroFrame(this.mem.firstFrame);
    this.pages = new SharedPages(this.mem, [this.mem.firstFrame]);
  }
  slot(i: number): number {
    return this.at + sring.ring + (i & 255) * this.entry;
  }
  private show(): void {
    this.mem.w32(this.at + sring.req_prod, ++this.prod);
  }
  tx(gref: number, offset: number, flags: number, id: number, size: number): void {
    const s = this.slot(this.prod);
    this.mem.w32(s, gref);
    this.mem.w16(s + 4, offset);
    this.mem.w16(s + 6, flags);
    this.mem.w16(s + 8, id);
    this.mem.w16(s + 10, size);
    this.show();
  }
  extra(type: number, flags: number, ...u: number[]): void {
    const s = this.slot(this.prod);
    [type, flags, ...u].forEach((b, i) => this.mem.w8(s + i, b));
    this.show();
  }
  rx(id: number, gref: number): void {
    const s = this.slot(this.prod);
    this.mem.w16(s, id);
    this.mem.w32(s + 4, gref);
    this.show();
  }
  get answered(): number {
    return this.mem.r32(this.at + sring.rsp_prod);
  }
  /** [id, status] of each answer. */
  txAnswers(): [number, number][] {
    return Array.from({ length: this.answered }, (_, i) => [
      this.mem.r16(this.slot(i)),
      (this.mem.r16(this.slot(i) + 2) << 16) >> 16,
    ]);
  }
  rxAnswer(i: number): { id: number; offset: number; flags: number; status: number } {
    const s = this.slot(i);
    return {
      id: this.mem.r16(s),
      offset: this.mem.r16(s + 2),
      flags: this.mem.r16(s + 4),
      status: (this.mem.r16(s + 6) << 16) >> 16,
    };
  }
}

function tcpFrame(payload: number): Uint8Array {
  const b = new Uint8Array(54 + payload).map((_, i) => i & 255);
  b.fill(0, 0, 54);
  b[0] = b[6] = 2;
  put16(b, 12, 0x0800);
  b[14] = 0x45;
  put16(b, 16, 40 + payload);
  b[23] = 6;
  put32(b, 26, 0x0a000001);
  put32(b, 30, 0x0a000002);
  writeIpChecksum(b, 14);
  b[46] = 0x50;
  return b;
}

describe("what a guest sends", () => {
  let front: Front;
  let grants: Grants;
  let metrics: VifMetrics;
  let got: Packet[];
  let now: number;
  let tx: TxQueue;
  beforeEach(() => {
    front = new Front(12);
    grants = new Grants();
    metrics = newVifMetrics();
    got = [];
    now = 0;
    tx = new TxQueue(
      front.pages,
      grants,
      metrics,
      () => now,
      (p) => got.push(p),
    );
  });
  const run = (): number => {
    const wait = tx.run();
    tx.push();
    return wait;
  };

  it("comes out as a frame, and is answered", () => {
    grants.page(7).set([1, 2, 3, 4], 100);
    front.tx(7, 100, 0, 42, 60);
    run();
    expect(got[0]?.data.subarray(0, 4)).toEqual(Uint8Array.of(1, 2, 3, 4));
    expect(got[0]?.data).toHaveLength(60);
    expect(front.txAnswers()).toEqual([[42, 0]]);
  });
  it("is put together from its slots", () => {
    for (let i = 1; i <= 3; i++) grants.page(i).fill(i);
    front.tx(1, 0, MORE, 1, 100 + 2000 + 4096);
    front.tx(2, 96, MORE, 2, 2000);
    front.tx(3, 0, 0, 3, 4096);
    run();
    const d = got[0]?.data as Uint8Array;
    expect([d.length, d[99], d[100], d[2099], d[2100], d[6195]]).toEqual([6196, 1, 2, 2, 3, 3]);
    expect(front.txAnswers()).toEqual([
      [1, 0],
      [2, 0],
      [3, 0],
    ]);
  });
  it("keeps its offloads", () => {
    grants.page(1).set(tcpFrame(3000));
    front.tx(1, 0, BLANK | EXTRA, 9, 3054);
    front.extra(1, 0, 1448 & 255, 1448 >> 8, 1);
    run();
    expect(got[0]).toMatchObject({ csumBlank: true, gso: GSO_TCPV4, gsoSize: 1448 });
    // The extra's slot is answered with NETIF_RSP_NULL.
    expect(front.txAnswers().map(([, s]) => s)).toEqual([0, 1]);
  });
  it("is dropped alone where it is not granted, too short, or not what it claims", () => {
    front.tx(100, 0, 0, 1, 60);
    front.tx(1, 0, 0, 2, 13);
    front.tx(1, 0, BLANK, 3, 60); // no TCP nor UDP in it
    front.tx(1, 0, 0, 4, 60);
    run();
    expect(got).toHaveLength(1);
    expect(front.txAnswers()).toEqual([
      [1, -1],
      [2, -1],
      [3, 0],
      [4, 0],
    ]);
    expect(metrics.txDropped).toBe(3);
  });
  it("of too many slots is dropped, and answered slot by slot", () => {
    front.tx(1, 0, MORE, 0, 1000);
    for (let i = 1; i <= 19; i++) front.tx(1, 0, i < 19 ? MORE : 0, i, 10);
    run();
    expect(got).toHaveLength(0);
    expect(front.txAnswers()).toEqual(Array.from({ length: 20 }, (_, i) => [i, -1]));
  });
  it("with parts larger than the whole is dropped", () => {
    front.tx(1, 0, MORE, 1, 100);
    front.tx(1, 0, 0, 2, 200);
    run();
    expect(got).toHaveLength(0);
    expect(front.txAnswers().map(([, s]) => s)).toEqual([-1, -1]);
  });
  it.each<[string, (f: Front) => void]>([
    ["a chain without end", (f) => Array.from({ length: 64 }, () => f.tx(1, 0, MORE, 1, 0xffff - 100))],
    ["a chain that stops short", (f) => f.tx(1, 0, MORE, 1, 100)],
    ["a missing extra", (f) => f.tx(1, 0, EXTRA, 1, 100)],
    [
      "extras without end",
      (f) => {
        f.tx(1, 0, EXTRA, 1, 100);
        for (let i = 0; i < 200; i++) f.extra(1, 1, 100, 0, 1);
      },
    ],
    [
      "an unknown extra",
      (f) => {
        f.tx(1, 0, EXTRA, 1, 100);
        f.extra(77, 0);
      },
    ],
    [
      "a GSO size of zero",
      (f) => {
        f.tx(1, 0, EXTRA | BLANK, 1, 100);
        f.extra(1, 0, 0, 0, 1);
      },
    ],
    [
      "an unknown GSO type",
      (f) => {
        f.tx(1, 0, EXTRA | BLANK, 1, 100);
        f.extra(1, 0, 100, 0, 9);
      },
    ],
    ["a slot beyond its page", (f) => f.tx(1, 4000, 0, 1, 200)],
    ["an index out of range", (f) => f.mem.w32(f.at + sring.req_prod, 0x8000_0000)],
  ])("ends the device with %s", (_, attack) => {
    attack(front);
    expect(run).toThrow(DeviceError);
    expect(got).toHaveLength(0);
  });
  it("names multicast groups, a bounded number of them", () => {
    for (let i = 0; i < 65; i++) {
      front.tx(0, 0, EXTRA, i, 0);
      front.extra(2, 0, 1, 0, 0x5e, 0, 0, i);
    }
    run();
    expect(tx.groups.size).toBe(64);
    expect(front.txAnswers().at(-2)).toEqual([64, -1]);
    front.tx(0, 0, EXTRA, 1, 0);
    front.extra(3, 0, 1, 0, 0x5e, 0, 0, 5);
    run();
    expect(tx.groups.size).toBe(63);
  });
  it("waits where the rate is used up", () => {
    tx.bucket = new TokenBucket(100, 1000, 0);
    front.tx(1, 0, 0, 1, 100);
    front.tx(1, 0, 0, 2, 100);
    expect(run()).toBe(1000);
    expect(got).toHaveLength(1);
    now = 1000;
    expect(run()).toBe(0);
    expect(got).toHaveLength(2);
  });
  it("is left alone once the connection is over", () => {
    tx = new TxQueue(
      front.pages,
      grants,
      metrics,
      () => now,
      (p) => {
        got.push(p);
        tx.closed = true;
      },
    );
    front.tx(1, 0, 0, 1, 60);
    front.tx(1, 0, 0, 2, 60);
    tx.run();
    expect(tx.push()).toBe(false);
    expect(got).toHaveLength(1);
    expect(front.answered).toBe(0);
  });
  it("survives any ring contents", () => {
    let seed = 1;
    const random = (): number => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) >>> 8;
    for (let round = 0; round < 300; round++) {
      front = new Front(12);
      for (let i = 0; i < 256; i++) front.tx(random() % 128, random() % 4200, random() % 16, random(), random() % 3000);
      tx = new TxQueue(
        front.pages,
        grants,
        metrics,
        () => now,
        (p) => got.push(p),
      );
      try {
        run();
        expect(front.answered).toBe(256);
      } catch (e) {
        expect(e).toBeInstanceOf(DeviceError);
      }
    }
    expect(got.every((p) => p.data.length >= 14 && p.data.length <= 0xffff)).toBe(true);
  });
});

describe("what a guest receives", () => {
  const ALL: RxAbilities = { sg: true, gsoV4: true, gsoV6: true, csumV4: true, csumV6: true, multicastControl: false };
  let front: Front;
  let grants: Grants;
  let metrics: VifMetrics;
  let now: number;
  const make = (able: Partial<RxAbilities> = {}, groups = new Set<number>()): RxQueue =>
    new RxQueue(front.pages, grants, metrics, () => now, { ...ALL, ...able }, 1500, groups);
  beforeEach(() => {
    front = new Front(8);
    grants = new Grants();
    metrics = newVifMetrics();
    now = 0;
  });
  const blank = (payload: number, gsoSize = 0): Packet => ({
    data: tcpFrame(payload),
    csumBlank: true,
    validated: true,
    gso: gsoSize > 0 ? GSO_TCPV4 : GSO_NONE,
    gsoSize,
  });

  it("is in the buffer it offered", () => {
    const rx = make();
    front.rx(5, 50);
    rx.add(wire(tcpFrame(100)));
    rx.flush();
    expect(front.rxAnswer(0)).toEqual({ id: 5, offset: 0, flags: 0, status: 154 });
    expect(grants.page(50).subarray(0, 154)).toEqual(tcpFrame(100));
  });
  it("is spread over buffers, with the GSO extra after the first", () => {
    const rx = make();
    for (let i = 0; i < 4; i++) front.rx(i, 10 + i);
    rx.add(blank(9000, 1448));
    rx.flush();
    expect(front.answered).toBe(4);
    expect(front.rxAnswer(0)).toMatchObject({ id: 0, flags: 1 | 2 | 4 | 8, status: 4096 });
    expect([0, 1, 2, 3, 4].map((i) => front.mem.r8(front.slot(1) + i))).toEqual([1, 0, 1448 & 255, 1448 >> 8, 1]);
    expect(front.rxAnswer(2)).toMatchObject({ id: 2, flags: 4, status: 4096 });
    expect(front.rxAnswer(3)).toMatchObject({ id: 3, flags: 0, status: 9054 - 8192 });
  });
  it("is cut and summed for a guest that takes neither", () => {
    const rx = make({ gsoV4: false, csumV4: false });
    for (let i = 0; i < 8; i++) front.rx(i, 10 + i);
    rx.add(blank(4000, 1448));
    rx.flush();
    expect(front.answered).toBe(3);
    expect(front.rxAnswer(0)).toMatchObject({ flags: 1, status: 54 + 1448 });
    const b = grants.page(11).subarray(0, 54 + 1448);
    const at = parse(b);
    expect(at !== null && checksumOk(b, at)).toBe(true);
    expect(be32(b, 38)).toBe(1448);
    rx.add(blank(10));
    rx.flush();
    expect(metrics.checksums).toBe(1);
  });
  it("leaves the headroom free", () => {
    const rx = make();
    rx.headroom = 256;
    front.rx(1, 10);
    rx.add(wire(tcpFrame(10)));
    rx.flush();
    expect(front.rxAnswer(0)).toMatchObject({ offset: 256, status: 64 });
  });
  it("waits for buffers, whole, and asks to be woken", () => {
    const rx = make();
    front.rx(0, 10);
    rx.add(blank(9000, 1448));
    rx.flush();
    expect([front.answered, rx.waiting, front.mem.r32(front.at + sring.req_event)]).toEqual([0, 1, 2]);
    for (let i = 1; i < 4; i++) front.rx(i, 10 + i);
    rx.flush();
    expect([front.answered, rx.waiting]).toEqual([4, 0]);
  });
  it("is lost beyond a bound, and after a long wait", () => {
    const rx = make();
    for (let i = 0; i < 5000; i++) rx.add(wire(tcpFrame(10)));
    expect(rx.waiting).toBe(2048);
    now = 11e9;
    rx.add(wire(tcpFrame(10)));
    expect(rx.waiting).toBe(1);
    expect(metrics.rxDropped).toBe(5000);
  });
  it("is not longer than the MTU allows", () => {
    const rx = make();
    rx.add(wire(tcpFrame(1600)));
    expect(metrics.rxDropped).toBe(1);
  });
  it("is an error where the buffer is not granted", () => {
    const rx = make();
    front.rx(1, 100);
    front.rx(2, 10);
    rx.add(wire(tcpFrame(10)));
    rx.add(wire(tcpFrame(10)));
    rx.flush();
    expect([front.rxAnswer(0).status, front.rxAnswer(1).status]).toEqual([-1, 64]);
  });
  it("has only the groups it named, with multicast control", () => {
    const rx = make({ multicastControl: true }, new Set([0x01005e000001]));
    for (const last of [1, 2]) {
      const b = tcpFrame(0);
      b.set([1, 0, 0x5e, 0, 0, last]);
      rx.add(wire(b));
    }
    expect(rx.waiting).toBe(1);
    rx.add(wire(tcpFrame(0).fill(255, 0, 6)));
    expect(rx.waiting).toBe(2);
  });
  it("ends the device where the index is out of range", () => {
    const rx = make();
    front.mem.w32(front.at + sring.req_prod, 1000);
    rx.add(wire(tcpFrame(10)));
    expect(() => rx.flush()).toThrow(DeviceError);
  });
});
