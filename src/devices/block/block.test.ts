import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { sring } from "../../abi/io_ring.js";
import { Machine } from "../../toolstack/machine.js";
import { VirtualClock } from "../../machine/clock.js";
import { TestFront, TestRing } from "../xenbus/testing.js";
import { XenbusState } from "../xenbus/index.js";
import { BlockBackend, diskNodes, MemoryImage, OverlayImage, SECTOR, WindowImage, type BlockImage } from "./index.js";
import type { BlockBackendOptions } from "./backend.js";
import { ABI_32, ABI_64, type BlockAbi } from "./protocol.js";
import { seeded } from "../../testing.js";

const READ = 0;
const WRITE = 1;
const BARRIER = 2;
const FLUSH = 3;
const DISCARD = 5;
const INDIRECT = 6;
const OKAY = 0;
const ERROR = -1;
const NOTSUPP = -2;

interface Seg {
  gref: number;
  first?: number;
  last?: number;
}
interface Req {
  op: number;
  id?: number;
  sector?: number;
  segs?: Seg[];
  /** Lie about the count. */
  count?: number;
  indirectOp?: number;
  indirectRefs?: number[];
  sectors?: number;
  flag?: number;
  sectorHi?: number;
}

function putSegs(v: DataView, at: number, segs: readonly Seg[]): void {
  segs.forEach((s, i) => {
    v.setUint32(at + i * 8, s.gref, true);
    v.setUint8(at + i * 8 + 4, s.first ?? 0);
    v.setUint8(at + i * 8 + 5, s.last ?? 7);
  });
}

function encode(abi: BlockAbi, r: Req): Uint8Array {
  const out = new Uint8Array(abi.requestSize);
  const v = new DataView(out.buffer);
  v.setUint8(0, r.op);
  v.setUint32(abi.id, r.id ?? 0, true);
  v.setUint32(abi.id + 4, 0xdeadbeef, true);
  v.setUint32(abi.sector, r.sector ?? 0, true);
  v.setUint32(abi.sector + 4, r.sectorHi ?? 0, true);
  if (r.op === INDIRECT) {
    v.setUint8(1, r.indirectOp ?? READ);
    v.setUint16(2, r.count ?? 0, true);
    (r.indirectRefs ?? []).forEach((ref, i) => v.setUint32(abi.indirectRefs + i * 4, ref, true));
  } else if (r.op === DISCARD) {
    v.setUint8(1, r.flag ?? 0);
    v.setUint32(abi.discardSectors, r.sectors ?? 0, true);
    v.setUint32(abi.discardSectors + 4, r.sectorHi ?? 0, true);
  } else {
    v.setUint8(1, r.count ?? r.segs?.length ?? 0);
    putSegs(v, abi.segments, r.segs ?? []);
  }
  return out;
}

/** A front end of blkif, with its device. */
class Disk {
  readonly ring: TestRing;
  readonly port: number;
  readonly device: BlockBackend;
  constructor(
    readonly front: TestFront,
    image: BlockImage | null,
    options: BlockBackendOptions = {},
    readonly abi: BlockAbi = ABI_64,
    order = -1,
    nodes: Record<string, string | number> = {},
  ) {
    const pages = order < 0 ? 1 : 1 << order;
    this.ring = new TestRing(front, pages, abi.requestSize, order <= 0 ? 32 : order === 1 ? 64 : 512);
    this.port = front.port();
    this.device = new BlockBackend(front.host, front.domain, 51712, image, options);
    const { domid } = front.domain;
    front.devices.attach(
      this.device,
      diskNodes({
        domid,
        devid: 51712,
        vdev: "xvda",
        params: "/img",
        readOnly: false,
        cdrom: false,
        removable: false,
        discard: true,
      }),
    );
    front.settle();
    const put = (n: string, v: string | number): void => front.host.xs.write(`${this.device.frontPath}/${n}`, v);
    if (order < 0) put("ring-ref", this.ring.refs[0] as number);
    else {
      put("ring-page-order", order);
      this.ring.refs.forEach((r, i) => put(`ring-ref${i}`, r));
    }
    put("event-channel", this.port);
    put("protocol", abi.name);
    for (const [n, v] of Object.entries(nodes)) put(n, v);
  }
  state(s: XenbusState): void {
    this.front.host.xs.write(`${this.device.frontPath}/state`, s);
    this.front.settle();
  }
  connect(): this {
    this.state(XenbusState.Initialised);
    return this;
  }
  put(r: Req): void {
    this.ring.put(encode(this.abi, r));
  }
  /** Status of the next response, with a check of the identifier. */
  response(): { id: number; op: number; status: number } | null {
    const bytes = this.ring.get(this.abi.responseSize);
    if (bytes === null) return null;
    const v = new DataView(bytes.buffer);
    expect(v.getUint32(4, true)).toBe(0xdeadbeef);
    return { id: v.getUint32(0, true), op: v.getUint8(8), status: v.getInt16(10, true) };
  }
  ask(r: Req): number {
    this.put(r);
    this.front.kick(this.port);
    const answer = this.response();
    if (answer === null) throw new Error(`no response (device: ${this.device.lastError})`);
    return answer.status;
  }
  page(fill?: number): { gref: number; at: number } {
    const p = this.front.page();
    if (fill !== undefined) this.mem.fill(p.at, fill, 4096);
    return { gref: this.front.grant(p.mfn), at: p.at };
  }
  get mem() {
    return this.front.host.dom0.xen.mem;
  }
  errorNode(): string | null {
    return this.front.host.xs.read(`/local/domain/0/error/backend/vbd/${this.front.domain.domid}/51712/error`);
  }
}

let machine: Machine;
let front: TestFront;
let image: MemoryImage;

beforeEach(() => {
  machine = new Machine({ memoryMiB: 16, clock: new VirtualClock() });
  front = new TestFront(machine);
  image = new MemoryImage(1 << 20);
});
afterEach(() => {
  // Nothing of a device stays after its domain, whatever the test did to it.
  const before = machine.dom0.events.activePorts;
  machine.xen.destroyDomain(front.domain);
  expect(machine.dom0.events.activePorts).toBeLessThanOrEqual(before);
  machine.xen.frames.audit();
  expect(machine.xen.hostBusy).toBe(0);
});

describe.each([ABI_64, ABI_32])("blkif, $name", (abi) => {
  it("writes and reads whole pages and single sectors", () => {
    const d = new Disk(front, image, {}, abi).connect();
    expect(d.device.state).toBe(XenbusState.Connected);
    const a = d.page(0x11);
    const b = d.page(0x22);
    expect(d.ask({ op: WRITE, sector: 8, segs: [a, b] })).toBe(OKAY);
    expect(d.ask({ op: WRITE, sector: 9, segs: [{ gref: b.gref, first: 3, last: 4 }] })).toBe(OKAY);
    const r = d.page(0xff);
    expect(d.ask({ op: READ, sector: 8, segs: [r] })).toBe(OKAY);
    expect([0, 511, 512, 1535, 1536].map((i) => d.mem.r8(r.at + i))).toEqual([0x11, 0x11, 0x22, 0x22, 0x11]);
    // Only the named sectors of a page are touched.
    d.mem.fill(r.at, 0xee, 4096);
    expect(d.ask({ op: READ, sector: 9, segs: [{ gref: r.gref, first: 2, last: 2 }] })).toBe(OKAY);
    expect([1023, 1024, 1535, 1536].map((i) => d.mem.r8(r.at + i))).toEqual([0xee, 0x22, 0x22, 0xee]);
    expect(d.ask({ op: FLUSH })).toBe(OKAY);
    expect(d.device.metrics).toMatchObject({ reads: 2, writes: 2, flushes: 1, errors: 0, sectorsWritten: 18 });
  });

  it("takes segments of indirect requests from granted pages", () => {
    const d = new Disk(front, image, {}, abi).connect();
    const table = d.page();
    const data = Array.from({ length: 30 }, (_, i) => d.page(i + 1));
    const bytes = new Uint8Array(30 * 8);
    putSegs(new DataView(bytes.buffer), 0, data);
    d.mem.write(table.at, bytes);
    expect(d.ask({ op: INDIRECT, indirectOp: WRITE, count: 30, sector: 16, indirectRefs: [table.gref] })).toBe(OKAY);
    const back = new Uint8Array(30 * 4096);
    image.read(16, back);
    expect(data.every((_, i) => back[i * 4096] === i + 1 && back[i * 4096 + 4095] === i + 1)).toBe(true);
    for (const p of data) d.mem.fill(p.at, 0, 4096);
    expect(d.ask({ op: INDIRECT, indirectOp: READ, count: 30, sector: 16, indirectRefs: [table.gref] })).toBe(OKAY);
    expect(data.every((p, i) => d.mem.r8(p.at + 4095) === i + 1)).toBe(true);
    for (const bad of [
      { indirectOp: FLUSH, count: 1 },
      { indirectOp: INDIRECT, count: 1 },
      { indirectOp: READ, count: 0 },
      { indirectOp: READ, count: 257 },
      { indirectOp: READ, count: 65535 },
      { indirectOp: READ, count: 1, indirectRefs: [4000] },
    ])
      expect(d.ask({ op: INDIRECT, indirectRefs: [table.gref], ...bad })).toBe(ERROR);
  });

  it("discards", () => {
    const d = new Disk(front, image, {}, abi).connect();
    const a = d.page(0x55);
    expect(d.ask({ op: WRITE, sector: 16, segs: [a] })).toBe(OKAY);
    expect(image.stored).toBe(4096);
    expect(d.ask({ op: DISCARD, sector: 16, sectors: 8 })).toBe(OKAY);
    expect(image.stored).toBe(0);
    expect(d.ask({ op: DISCARD, sector: 16, sectors: 8, flag: 1 })).toBe(NOTSUPP);
    expect(d.ask({ op: DISCARD, sector: 2047, sectors: 2 })).toBe(ERROR);
    expect(d.ask({ op: DISCARD, sector: 0, sectors: 8, sectorHi: 0xffffffff })).toBe(ERROR);
  });
});

describe("hostile requests", () => {
  it("are refused one by one and harm nothing", () => {
    const d = new Disk(front, image).connect();
    const a = d.page(0x77);
    const ro = front.grant(front.page().mfn, true);
    const foreign = front.grant(front.page().mfn, false, 77);
    const bad: [string, Req, number][] = [
      ["no segments", { op: READ }, ERROR],
      ["no segments", { op: WRITE }, ERROR],
      ["too many segments", { op: WRITE, segs: [a], count: 12 }, ERROR],
      ["far too many segments", { op: READ, segs: [a], count: 255 }, ERROR],
      ["a flush with too many segments", { op: FLUSH, count: 200 }, ERROR],
      ["last before first", { op: WRITE, segs: [{ gref: a.gref, first: 5, last: 4 }] }, ERROR],
      ["sectors beyond the page", { op: WRITE, segs: [{ gref: a.gref, first: 0, last: 8 }] }, ERROR],
      ["sectors far beyond the page", { op: READ, segs: [{ gref: a.gref, first: 255, last: 255 }] }, ERROR],
      ["a sector at the end", { op: WRITE, sector: 2048, segs: [a] }, ERROR],
      ["a run over the end", { op: WRITE, sector: 2041, segs: [a] }, ERROR],
      ["a sector beyond 2^32", { op: WRITE, sectorHi: 1, segs: [a] }, ERROR],
      ["a sector number that overflows", { op: WRITE, sector: 0xffffffff, sectorHi: 0xffffffff, segs: [a] }, ERROR],
      ["no grant", { op: WRITE, segs: [{ gref: 300 }] }, ERROR],
      ["a reference out of range", { op: WRITE, segs: [{ gref: 0xffffffff }] }, ERROR],
      ["another's grant", { op: READ, segs: [{ gref: foreign }] }, ERROR],
      ["reading into a read-only grant", { op: READ, segs: [{ gref: ro }] }, ERROR],
      ["one bad grant among good ones", { op: WRITE, segs: [a, { gref: 300 }] }, ERROR],
      ["the reserved operation", { op: 4 }, NOTSUPP],
      ["an unknown operation", { op: 200, segs: [a] }, NOTSUPP],
    ];
    for (const [what, req, status] of bad) expect([what, d.ask(req)]).toEqual([what, status]);
    expect(image.stored).toBe(0);
    // A read-only grant is enough to write from.
    expect(d.ask({ op: WRITE, sector: 2040, segs: [{ gref: ro }] })).toBe(OKAY);
    expect(d.device.isConnected).toBe(true);
    expect(d.device.metrics.errors).toBe(bad.length);
    // No pin is left.
    expect([a.gref, ro, foreign].map((r) => front.domain.grants.pin[r])).toEqual([0, 0, 0]);
  });

  it.each([
    ["more requests than the ring holds", (d: Disk) => d.ring.pages.w32(sring.req_prod, 34)],
    ["an index far ahead", (d: Disk) => d.ring.pages.w32(sring.req_prod, 0x80000000)],
    ["an index that went back", (d: Disk) => d.ring.pages.w32(sring.req_prod, 0xffffffff)],
  ])("%s: the device stops with an error", (_what, breakIt) => {
    const d = new Disk(front, image).connect();
    expect(d.ask({ op: WRITE, segs: [d.page(1)] })).toBe(OKAY);
    breakIt(d);
    front.kick(d.port);
    expect(d.device.isConnected).toBe(false);
    expect(d.device.state).toBe(XenbusState.Closing);
    expect(d.errorNode()).toMatch(/^-22 ring index/);
    expect(d.device.metrics.requests).toBe(1);
    front.kick(d.port);
    // The ring's page is free again; the front end may start anew.
    expect(front.revoke(d.ring.refs[0] as number)).toBe(true);
    front.domain.grants.seed(d.ring.refs[0] as number, 0, front.page().mfn);
    d.state(XenbusState.Closed);
    expect(d.device.state).toBe(XenbusState.Closed);
    d.state(XenbusState.Initialising);
    expect(d.device.state).toBe(XenbusState.InitWait);
    front.host.xs.write(`${d.device.frontPath}/event-channel`, front.port());
    d.state(XenbusState.Initialised);
    expect(d.device.state).toBe(XenbusState.Connected);
    expect(d.errorNode()).toBeNull();
  });

  it("takes a full ring, at wrapping indices too", () => {
    const d = new Disk(front, image);
    for (const i of [sring.req_prod, sring.rsp_prod]) d.ring.pages.w32(i, 0xfffffff0);
    d.ring.pages.w32(sring.rsp_event, 0xfffffff1);
    d.ring.prod = d.ring.cons = 0xfffffff0;
    d.connect();
    const pages = Array.from({ length: 32 }, (_, i) => d.page(i + 1));
    pages.forEach((p, i) => d.put({ op: WRITE, id: i, sector: i * 8, segs: [p] }));
    front.kick(d.port);
    for (let i = 0; i < 32; i++) expect(d.response()).toEqual({ id: i, op: WRITE, status: OKAY });
    expect(image.bytes()[31 * 4096]).toBe(32);
  });

  const hostileNodes: [string, Record<string, string | number>][] = [
    ["no such grant", { "ring-ref": 500 }],
    ["a grant reference that is no number", { "ring-ref": "0x8" }],
    ["a negative one", { "ring-ref": "-1" }],
    ["one beyond 32 bits", { "ring-ref": "4294967296" }],
    ["a text without end", { "ring-ref": "9".repeat(3000) }],
    ["no such port", { "event-channel": 900 }],
    ["an unknown protocol", { protocol: "sparc-abi" }],
    ["more queues than offered", { "multi-queue-num-queues": 2 }],
    ["no queue", { "multi-queue-num-queues": 0 }],
    ["a ring order beyond what is offered", { "ring-page-order": 5 }],
    ["numbered pages that are missing", { "ring-page-order": 1 }],
  ];
  it.each(hostileNodes)("nodes with %s: an error, no connection, nothing held", (_what, nodes) => {
    const ports = machine.dom0.events.activePorts;
    const d = new Disk(front, image, {}, ABI_64, -1, nodes).connect();
    expect(d.device.state).toBe(XenbusState.Closing);
    expect(d.errorNode()).toMatch(/^-\d+ .+/);
    expect(machine.dom0.events.activePorts).toBe(ports);
    expect(front.domain.grants.pin[d.ring.refs[0] as number]).toBe(0);
  });

  it("random rings and requests never get out of the device", () => {
    const rnd = seeded(12345);
    const d = new Disk(front, image, { persistent: true }, ABI_64, -1, { "feature-persistent": 1 }).connect();
    const good = Array.from({ length: 4 }, () => d.page(3).gref);
    for (let i = 0; i < 3000; i++) {
      const bytes = Uint8Array.from({ length: 112 }, () => rnd(256));
      if (rnd(4) > 0) {
        bytes[0] = rnd(8);
        bytes[1] = rnd(14);
        const v = new DataView(bytes.buffer);
        if (rnd(2) > 0) v.setUint32(20, 0, true);
        if (rnd(2) > 0) v.setUint32(16, rnd(2100), true);
        for (let s = 0; s < 11; s++) if (rnd(3) > 0) v.setUint32(24 + s * 8, good[rnd(4)] as number, true);
        for (let s = 0; s < 11; s++) v.setUint16(28 + s * 8, rnd(12) | (rnd(12) << 8), true);
      }
      d.ring.put(bytes);
      front.kick(d.port);
      expect(d.ring.get(16)).not.toBeNull();
    }
    expect(d.device.isConnected).toBe(true);
    expect(d.device.metrics.requests).toBe(3000);
    expect(d.device.metrics.errors).toBeGreaterThan(1000);
  });
});

describe("a block device", () => {
  it("refuses writes where it is read-only", () => {
    const d = new Disk(front, image, { readOnly: true }).connect();
    const a = d.page(9);
    for (const op of [WRITE, BARRIER, FLUSH]) expect(d.ask({ op, segs: [a] })).toBe(ERROR);
    expect(d.ask({ op: DISCARD, sectors: 8 })).toBe(NOTSUPP);
    expect(d.ask({ op: READ, segs: [a] })).toBe(OKAY);
    expect(d.ask({ op: FLUSH })).toBe(OKAY);
    expect(image.stored).toBe(0);
    expect(front.host.xs.read(`${d.device.backPath}/info`)).toBe("4");
  });

  it.each([1, 4])("has rings of 2^%i pages, whose entries cross pages", (order) => {
    const d = new Disk(front, image, {}, ABI_64, order).connect();
    expect(d.device.state).toBe(XenbusState.Connected);
    const a = d.page(4);
    const n = d.ring.size;
    for (let i = 0; i < n; i++) d.put({ op: WRITE, id: i, sector: (i % 250) * 8, segs: [a] });
    front.kick(d.port);
    for (let i = 0; i < n; i++) expect(d.response()).toEqual({ id: i, op: WRITE, status: OKAY });
  });

  it("has several queues where it is told to", () => {
    const d = new Disk(front, image, { queues: 4 }, ABI_64, -1, { "multi-queue-num-queues": 2 });
    const rings = [0, 1].map((q) => {
      const ring = new TestRing(front, 1, 112, 32);
      const port = front.port();
      front.host.xs.write(`${d.device.frontPath}/queue-${q}/ring-ref`, ring.refs[0] as number);
      front.host.xs.write(`${d.device.frontPath}/queue-${q}/event-channel`, port);
      return { ring, port };
    });
    d.connect();
    expect(d.device.state).toBe(XenbusState.Connected);
    for (const { ring, port } of rings) {
      ring.put(encode(ABI_64, { op: WRITE, segs: [d.page(1)] }));
      front.kick(port);
      expect(ring.get(16)).not.toBeNull();
    }
  });

  it("keeps persistent grants mapped while connected, and only then", () => {
    const d = new Disk(front, image, {}, ABI_64, -1, { "feature-persistent": 1 }).connect();
    const a = d.page(6);
    expect(d.ask({ op: WRITE, segs: [a] })).toBe(OKAY);
    expect(d.ask({ op: READ, segs: [a] })).toBe(OKAY);
    expect(front.revoke(a.gref)).toBe(false);
    d.state(XenbusState.Closing);
    expect(front.revoke(a.gref)).toBe(true);
  });

  it("is unplugged as libxl asks, and leaves nothing", async () => {
    // Real time: the ten seconds must not pass while nobody does anything.
    machine = new Machine({ memoryMiB: 16 });
    front = new TestFront(machine);
    const { xs } = front.host;
    const d = new Disk(front, image).connect();
    const gone = front.devices.detach("vbd", 51712);
    front.settle();
    expect(xs.read(`${d.device.backPath}/state`)).toBe("5");
    expect(d.ask({ op: READ, segs: [d.page()] })).toBe(OKAY);
    d.state(XenbusState.Closed);
    expect(await gone).toBe(true);
    expect(xs.exists(d.device.backPath)).toBe(false);
    expect(xs.exists(d.device.frontPath)).toBe(false);
    expect(xs.list("/local/domain/0/backend")).toEqual([]);
    expect(front.devices.list()).toEqual([]);
    expect(front.revoke(d.ring.refs[0] as number)).toBe(true);
  });

  it("is taken away after ten seconds, and at once by force", async () => {
    const d = new Disk(front, image).connect();
    const gone = front.devices.detach("vbd", 51712);
    front.settle();
    expect(await gone).toBe(false);
    expect(machine.clock.now()).toBeGreaterThanOrEqual(10e9);
    const e = new Disk(front, image).connect();
    expect(await front.devices.detach("vbd", 51712, true)).toBe(false);
    expect([d, e].map((x) => x.device.isGone)).toEqual([true, true]);
    await expect(front.devices.detach("vbd", 51712)).rejects.toThrow("no device vbd/51712");
  });

  it("starts anew when the front end does (kexec, crash kernel)", () => {
    const d = new Disk(front, image).connect();
    d.state(XenbusState.Connected);
    d.state(XenbusState.Initialising);
    expect(d.device.state).toBe(XenbusState.InitWait);
    expect(front.revoke(d.ring.refs[0] as number)).toBe(true);
    const ring = new TestRing(front, 1, 112, 32);
    const port = front.port();
    front.host.xs.write(`${d.device.frontPath}/ring-ref`, ring.refs[0] as number);
    front.host.xs.write(`${d.device.frontPath}/event-channel`, port);
    d.state(XenbusState.Initialised);
    ring.put(encode(ABI_64, { op: WRITE, segs: [d.page(1)] }));
    front.kick(port);
    expect(ring.get(16)).not.toBeNull();
    expect(d.device.metrics.connections).toBe(2);
  });
});

/** An image whose operations end when the test says so. */
class SlowImage implements BlockImage {
  readonly sectors = 2048;
  readonly sectorSize = SECTOR;
  readonly readOnly = false;
  readonly log: string[] = [];
  readonly waiting: { what: string; done: () => void; fail: (e: Error) => void }[] = [];
  private op(what: string): Promise<void> {
    this.log.push(what);
    return new Promise((resolve, reject) => this.waiting.push({ what, done: resolve, fail: reject }));
  }
  read(sector: number, into: Uint8Array): Promise<void> {
    return this.op(`read ${sector}`).then(() => void into.fill(0x99));
  }
  write(sector: number): Promise<void> {
    return this.op(`write ${sector}`);
  }
  flush(): Promise<void> {
    return this.op("flush");
  }
  discard(sector: number): Promise<void> {
    return this.op(`discard ${sector}`);
  }
  close(): void {
    this.log.push("close");
  }
  end(what: string): void {
    const i = this.waiting.findIndex((w) => w.what === what);
    if (i < 0) throw new Error(`${what} is not in flight: ${this.log.join(", ")}`);
    this.waiting.splice(i, 1)[0]?.done();
  }
}

describe("an image that takes its time", () => {
  const next = async (d: Disk): Promise<{ id: number; op: number; status: number }> => {
    let r: ReturnType<Disk["response"]> = null;
    await front.until(() => (r = d.response()) !== null);
    return r as unknown as { id: number; op: number; status: number };
  };
  const quiet = async (): Promise<void> => {
    for (let i = 0; i < 20; i++) {
      await Promise.resolve();
      front.settle();
    }
  };

  it("answers out of order; a flush waits for the writes before it", async () => {
    const slow = new SlowImage();
    const d = new Disk(front, slow).connect();
    d.put({ op: WRITE, id: 1, sector: 0, segs: [d.page(1)] });
    d.put({ op: WRITE, id: 2, sector: 8, segs: [d.page(1)] });
    d.put({ op: FLUSH, id: 3 });
    d.put({ op: WRITE, id: 4, sector: 16, segs: [d.page(1)] });
    d.put({ op: READ, id: 5, sector: 0, segs: [d.page(1)] });
    front.kick(d.port);
    await quiet();
    expect(slow.log).toEqual(["write 0", "write 8", "write 16", "read 0"]);
    slow.end("write 8");
    expect(await next(d)).toEqual({ id: 2, op: WRITE, status: OKAY });
    await quiet();
    expect(slow.log).not.toContain("flush");
    slow.end("write 0");
    expect((await next(d)).id).toBe(1);
    await quiet();
    // Not for the one after it.
    expect(slow.log).toContain("flush");
    slow.end("read 0");
    expect((await next(d)).id).toBe(5);
    slow.end("flush");
    expect(await next(d)).toEqual({ id: 3, op: FLUSH, status: OKAY });
    slow.end("write 16");
    expect((await next(d)).id).toBe(4);
  });

  it("does nothing beside a barrier", async () => {
    const slow = new SlowImage();
    const d = new Disk(front, slow).connect();
    d.put({ op: WRITE, id: 1, sector: 0, segs: [d.page(1)] });
    d.put({ op: BARRIER, id: 2, sector: 8, segs: [d.page(1)] });
    d.put({ op: WRITE, id: 3, sector: 16, segs: [d.page(1)] });
    front.kick(d.port);
    await quiet();
    const order: number[] = [];
    for (const step of ["write 0", "flush", "write 8", "flush", "write 16"]) {
      await quiet();
      expect(slow.waiting.map((w) => w.what)).toEqual([step]);
      slow.end(step);
      await quiet();
      for (let r = d.response(); r !== null; r = d.response()) order.push(r.id);
    }
    expect(order).toEqual([1, 2, 3]);
  });

  it("answers a failure with an error of that request alone", async () => {
    const slow = new SlowImage();
    const d = new Disk(front, slow).connect();
    d.put({ op: WRITE, id: 1, sector: 0, segs: [d.page(1)] });
    d.put({ op: FLUSH, id: 2 });
    front.kick(d.port);
    slow.waiting.splice(0, 1)[0]?.fail(new Error("medium error"));
    expect(await next(d)).toEqual({ id: 1, op: WRITE, status: ERROR });
    await quiet();
    slow.end("flush");
    expect(await next(d)).toEqual({ id: 2, op: FLUSH, status: OKAY });
    expect(d.device.isConnected).toBe(true);
  });

  it("does not touch a front end that is gone meanwhile, and is awaited before the next one", async () => {
    const slow = new SlowImage();
    const d = new Disk(front, slow).connect();
    const p = d.page(0x33);
    d.put({ op: READ, id: 1, segs: [p] });
    front.kick(d.port);
    d.state(XenbusState.Initialising);
    await quiet();
    // The page and the ring are the guest's own again, at once.
    expect(front.revoke(p.gref) && front.revoke(d.ring.refs[0] as number)).toBe(true);
    expect(d.device.state).toBe(XenbusState.Connected);
    slow.end("read 0");
    await front.until(() => d.device.state === XenbusState.InitWait);
    expect(d.mem.r8(p.at)).toBe(0x33);
    expect(d.response()).toBeNull();
  });

  it("is flushed and closed after the last request when its device goes", async () => {
    const slow = new SlowImage();
    const d = new Disk(front, slow, { owns: true }).connect();
    d.put({ op: WRITE, id: 1, segs: [d.page(1)] });
    front.kick(d.port);
    machine.xen.destroyDomain(front.domain);
    await quiet();
    expect(slow.log).toEqual(["write 0"]);
    slow.end("write 0");
    await quiet();
    slow.end("flush");
    await quiet();
    expect(slow.log).toEqual(["write 0", "flush", "close"]);
  });
});

describe("the trace", () => {
  it("has a record for every request, when it is answered", async () => {
    const slow = new SlowImage();
    const d = new Disk(front, slow).connect();
    const seen: string[] = [];
    const stop = machine.xen.trace.add((r) => {
      if (r.kind !== "block") return;
      seen.push(`d${r.domid} ${r.name} ${r.args["device"]} ${r.args["sector"]}+${r.args["sectors"]} = ${r.result}`);
    });
    d.put({ op: WRITE, id: 1, sector: 16, segs: [d.page(1)] });
    d.put({ op: READ, id: 2, sector: 5000, segs: [d.page(1)] });
    front.kick(d.port);
    const { domid } = front.domain;
    expect(seen).toEqual([`d${domid} read 51712 5000+0 = -1`]);
    slow.end("write 16");
    await front.until(() => seen.length === 2);
    expect(seen[1]).toBe(`d${domid} write 51712 16+8 = 0`);
    stop();
  });
});

describe("a CD drive", () => {
  const states = (d: Disk): { seen: (string | null)[]; stop: () => void } => {
    const seen: (string | null)[] = [];
    const { xs } = front.host;
    const stop = xs.watch(`${d.device.backPath}/state`, () => seen.push(xs.read(`${d.device.backPath}/sectors`)));
    front.settle();
    seen.length = 0;
    return { seen, stop };
  };
  const node = (d: Disk, name: string): string | null => front.host.xs.read(`${d.device.backPath}/${name}`);

  it("may be empty: it has no sectors, reads are errors, a flush is none", () => {
    const d = new Disk(front, null, { cdrom: true, removable: true }).connect();
    expect([node(d, "sectors"), node(d, "info"), node(d, "sector-size")]).toEqual(["0", "7", "512"]);
    expect(d.ask({ op: READ, segs: [d.page()] })).toBe(ERROR);
    expect(d.ask({ op: WRITE, segs: [d.page()] })).toBe(ERROR);
    expect(d.ask({ op: DISCARD, sectors: 8 })).toBe(NOTSUPP);
    expect(d.ask({ op: FLUSH })).toBe(OKAY);
  });

  it("takes another medium: new nodes, and its state anew, once", async () => {
    const d = new Disk(front, null, { cdrom: true }).connect();
    const { seen, stop } = states(d);
    const a = d.page();
    for (const [sectors, fill] of [
      [16, 5],
      [64, 6],
    ] as const) {
      const medium = MemoryImage.from(new Uint8Array(sectors * SECTOR).fill(fill), true);
      await d.device.changeMedium({ image: medium, name: `/iso/${sectors}`, owns: false });
      front.settle();
      expect([node(d, "sectors"), node(d, "params"), node(d, "state")]).toEqual([
        String(sectors),
        `/iso/${sectors}`,
        "4",
      ]);
      expect(front.host.xs.read(`/libxl/${front.domain.domid}/device/vbd/51712/params`)).toBe(`/iso/${sectors}`);
      expect(d.ask({ op: READ, sector: sectors - 8, segs: [a] })).toBe(OKAY);
      expect(d.mem.r8(a.at)).toBe(fill);
      expect(d.ask({ op: READ, sector: sectors - 7, segs: [a] })).toBe(ERROR);
      expect(d.ask({ op: WRITE, segs: [a] })).toBe(ERROR);
    }
    await d.device.changeMedium(null);
    front.settle();
    expect(seen).toEqual(["16", "64", "0"]);
    stop();
    expect(d.ask({ op: READ, segs: [a] })).toBe(ERROR);
    expect(d.device.isConnected).toBe(true);
    expect(d.device.metrics.mediaChanges).toBe(3);
  });

  it("does what was asked of the old medium first, then closes it if it is its own", async () => {
    const slow = new SlowImage();
    const d = new Disk(front, slow, { cdrom: true, owns: true }).connect();
    d.put({ op: READ, id: 7, segs: [d.page()] });
    front.kick(d.port);
    let changed = false;
    const next = new SlowImage();
    const change = d.device.changeMedium({ image: next, name: "next", owns: true }).then(() => (changed = true));
    for (let i = 0; i < 10; i++) await Promise.resolve();
    expect(changed).toBe(false);
    // Between two media there is none.
    d.put({ op: READ, id: 8, segs: [d.page()] });
    front.kick(d.port);
    expect(d.response()).toEqual({ id: 8, op: READ, status: ERROR });
    slow.end("read 0");
    await change;
    front.settle();
    expect(d.response()).toEqual({ id: 7, op: READ, status: OKAY });
    expect([slow.log, next.log]).toEqual([["read 0", "close"], []]);
  });

  it("is the only disk whose medium changes", async () => {
    const d = new Disk(front, image).connect();
    await expect(d.device.changeMedium(null)).rejects.toThrow("not a CD drive");
    expect(d.ask({ op: READ, segs: [d.page()] })).toBe(OKAY);
  });
});

describe("images", () => {
  it("an overlay leaves its base alone and reads through", async () => {
    const base = MemoryImage.from(new Uint8Array(64 * SECTOR).fill(1));
    const a = OverlayImage.inMemory(base);
    const b = OverlayImage.inMemory(base);
    await a.write(3, new Uint8Array(2 * SECTOR).fill(2));
    await b.discard(8, 8);
    const out = new Uint8Array(64 * SECTOR);
    await a.read(0, out);
    expect([2, 3, 4, 5].map((s) => out[s * SECTOR])).toEqual([1, 2, 2, 1]);
    await b.read(0, out);
    expect([3, 7, 8, 15, 16].map((s) => out[s * SECTOR])).toEqual([1, 1, 0, 0, 1]);
    expect(base.bytes().every((x) => x === 1)).toBe(true);
    expect(a.written).toBe(2);
  });

  it("an overlay that lasts is taken up again with what was flushed", async () => {
    const base = MemoryImage.from(new Uint8Array(5000 * SECTOR).fill(1));
    const store = new MemoryImage((5000 + OverlayImage.mapSectors(5000)) * SECTOR);
    const open = (): Promise<OverlayImage> =>
      OverlayImage.open(
        base,
        new WindowImage(store, 0, 5000),
        new WindowImage(store, 5000, OverlayImage.mapSectors(5000)),
      );
    const a = await open();
    await a.write(4500, new Uint8Array(SECTOR).fill(7));
    await a.flush();
    await a.write(10, new Uint8Array(SECTOR).fill(8));
    const b = await open();
    const out = new Uint8Array(SECTOR);
    await b.read(4500, out);
    expect(out[0]).toBe(7);
    // Never flushed: as if never written.
    await b.read(10, out);
    expect(out[0]).toBe(1);
  });
});
