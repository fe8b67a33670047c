// The stream's own rules: a saved domain is taken apart into records, changed in one place, and put together again.
import { beforeAll, describe, expect, it } from "vitest";
import {
  MemorySink,
  MemorySource,
  MigrationError,
  restoreDomain,
  saveDomain,
  type RestoreOptions,
} from "../../src/toolstack/migration/index.js";
import { Host, holdings, LIMIT } from "../machine/harness.js";
import { during } from "./during.js";
import { follow, startMini, works } from "./mini.js";

interface Rec {
  type: number;
  body: Buffer;
}
interface Parts {
  xl: Buffer;
  /** libxl header, its first record, libxc's image header and domain header. */
  libxl: Buffer;
  context: Buffer;
  image: Buffer;
  domain: Buffer;
  records: Rec[];
  end: Buffer;
}

function apart(bytes: Uint8Array): Parts {
  const b = Buffer.from(bytes);
  let at = 0;
  const take = (n: number): Buffer => b.subarray(at, (at += n));
  const xl = Buffer.from(take(48 + b.readUInt32LE(44)));
  const parts: Parts = {
    xl,
    libxl: Buffer.from(take(16)),
    context: Buffer.from(take(8)),
    image: Buffer.from(take(24)),
    domain: Buffer.from(take(16)),
    records: [],
    end: Buffer.alloc(0),
  };
  for (;;) {
    const type = b.readUInt32LE(at);
    const length = b.readUInt32LE(at + 4);
    parts.records.push({ type, body: Buffer.from(b.subarray(at + 8, at + 8 + length)) });
    at += 8 + ((length + 7) & ~7);
    if (type === 0) break;
  }
  parts.end = Buffer.from(b.subarray(at));
  return parts;
}
function record(r: Rec): Buffer {
  const out = Buffer.alloc(8 + ((r.body.length + 7) & ~7));
  out.writeUInt32LE(r.type, 0);
  out.writeUInt32LE(r.body.length, 4);
  r.body.copy(out, 8);
  return out;
}
function together(p: Parts): Uint8Array {
  return Buffer.concat([p.xl, p.libxl, p.context, p.image, p.domain, ...p.records.map(record), p.end]);
}
/** The first record of a type. */
function body(p: Parts, type: number): Buffer {
  const r = p.records.find((x) => x.type === type);
  if (r === undefined) throw new Error(`no record ${type}`);
  return r.body;
}
const without = (p: Parts, type: number): void => {
  p.records = p.records.filter((r) => r.type !== type);
};

describe("a stream", { timeout: LIMIT }, () => {
  let bytes: Uint8Array;
  let host: Host;
  beforeAll(async () => {
    host = new Host({ memoryMiB: 48 });
    // More than its kernel maps.
    const g = await startMini(host, "", 6);
    const sink = new MemorySink();
    await during(host, saveDomain(host.machine, g.running, sink));
    bytes = sink.bytes();
  }, LIMIT);

  /** Restore it with one change. */
  async function changed(change: (p: Parts) => void, options: RestoreOptions = {}) {
    const p = apart(bytes);
    change(p);
    return during(host, restoreDomain(host.machine, new MemorySource(together(p)), options));
  }
  async function refused(change: (p: Parts) => void, why: RegExp, options: RestoreOptions = {}): Promise<void> {
    const before = holdings(host.machine);
    const error = await changed(change, options).then(
      () => null,
      (e: unknown) => e,
    );
    expect(error).toBeInstanceOf(MigrationError);
    expect((error as Error).message).toMatch(why);
    host.machine.runSlice(1);
    expect(holdings(host.machine)).toEqual(before);
  }

  it("put together again is what it was, and runs", async () => {
    expect(Buffer.compare(together(apart(bytes)), bytes)).toBe(0);
    const g = await follow(host, await changed(() => {}));
    await works(host, g.running);
    g.running.destroy();
  });

  it("has its records in libxc's order", () => {
    const types = apart(bytes).records.map((r) => r.type);
    expect(types.filter((t, i) => t !== types[i - 1])).toEqual([2, 0x11, 0x12, 0x10, 3, 1, 8, 7, 4, 5, 6, 0]);
  });

  it("with records that may be skipped, they are", async () => {
    const { running } = await changed((p) => {
      p.records.splice(1, 0, { type: 0x80000055, body: Buffer.from("what a later Xen knows") });
      p.records.splice(-1, 0, { type: 0x0d, body: Buffer.alloc(0) });
    });
    running.destroy();
  });

  it("pages to be made empty, and pages that went again", async () => {
    const { running } = await changed((p) => {
      const entry = (pfn: number, type: number): Buffer => {
        const b = Buffer.alloc(16);
        b.writeUInt32LE(1, 0);
        b.writeUInt32LE(pfn, 8);
        b.writeUInt32LE((type << 28) >>> 0, 12);
        return b;
      };
      // Ahead of the pages: a place that is filled later. Behind them: one that is given back, in the unused end of memory.
      const first = p.records.findIndex((r) => r.type === 1);
      p.records.splice(first, 0, { type: 1, body: entry(5, 0xe) });
      const last = p.records.findLastIndex((r) => r.type === 1);
      p.records.splice(last + 1, 0, { type: 1, body: entry(1500, 0xf) }, { type: 1, body: entry(1501, 0xd) });
    });
    expect(running.domain.mm.totPages).toBe(1534);
    expect(running.domain.mm.mfnOf(1500)).toBe(-1);
    running.destroy();
  });

  it("of another kind is refused by name", async () => {
    await refused((p) => p.xl.write("Yen", 0), /no saved domain/);
    await refused((p) => p.xl.writeUInt32LE(0x04030201, 32), /byte order/);
    await refused((p) => p.xl.writeUInt32LE(1, 36), /before Xen 4\.6/);
    await refused((p) => p.xl.writeUInt32LE(7, 36), /unknown mandatory flags 0x4/);
    await refused((p) => p.xl.writeUInt32LE(0x7fffffff, 44), /bytes of configuration/);
    await refused((p) => p.libxl.writeUInt32BE(3, 8), /libxl stream of version 3/);
    await refused((p) => p.libxl.writeUInt32BE(1, 12), /byte order/);
    await refused((p) => p.image.writeUInt32BE(2, 12), /libxc stream of version 2/);
    await refused((p) => p.domain.writeUInt32LE(2, 0), /no PV domain/);
    await refused((p) => p.domain.writeUInt16LE(21, 4), /pages of another size/);
    await refused((p) => (body(p, 2)[0] = 4), /no 64-bit domain/);
    const emulator = (type: number) => (p: Parts) => {
      p.end = Buffer.concat([record({ type, body: Buffer.alloc(8) }), p.end]);
    };
    await refused(emulator(3), /device model/);
    await refused(emulator(4), /checkpoints/);
    await refused(emulator(77), /unknown libxl record 77/);
  });

  it("that asks for a processor that is not here is refused", async () => {
    await refused((p) => {
      const leaves = body(p, 0x11);
      for (let at = 0; at < leaves.length; at += 24)
        // AVX.
        if (leaves.readUInt32LE(at) === 1)
          leaves.writeUInt32LE((leaves.readUInt32LE(at + 16) | (1 << 28)) >>> 0, at + 16);
    }, /processor features that this host has not \(CPUID leaf 0x1, ecx 0x10000000\)/);
    await refused((p) => body(p, 6).writeUInt32LE(7, 16), /AVX state/);
  });

  it("in disorder is refused", async () => {
    await refused((p) => without(p, 0x10), /record of type 3 before the end of the static data/);
    await refused((p) => without(p, 2), /record of type 16 before the kind of guest/);
    await refused((p) => without(p, 3), /record of type 1 before the P2M/);
    await refused((p) => without(p, 7), /no shared info page/);
    await refused((p) => without(p, 4), /vCPU 0 has no context/);
    await refused((p) => [4, 5, 6].forEach((t) => without(p, t)), /there is no vCPU 0/);
    await refused((p) => p.records.splice(2, 0, { type: 0x13, body: Buffer.alloc(0) }), /unknown libxc record 19/);
    await refused((p) => p.records.splice(-1, 0, { type: 9, body: Buffer.alloc(8) }), /no place in a saved PV domain/);
    await refused((p) => body(p, 4).writeUInt32LE(1, 0), /vCPU 0 has no context/);
  });

  it("with numbers out of bounds is refused", async () => {
    await refused((p) => body(p, 3).writeUInt32LE(0x7fffffff, 4), /a P2M from frame 0 to 2147483647/);
    await refused((p) => body(p, 3).writeUInt32LE(1536, 8), /page 0 of the P2M lies outside/);
    await refused((p) => body(p, 1).writeUInt32LE(1536, 8), /a page at frame 1536, beyond the domain's 1536/);
    await refused((p) => body(p, 1).writeUInt32LE(0xffffffff, 0), /a record of pages for 4294967295 frames/);
    await refused((p) => body(p, 1).writeUInt32LE((7 << 28) >>> 0, 12), /frame \d+ is of type 7/);
    // rdx: the start info page; CR3; the GDT's size.
    await refused((p) => body(p, 4).writeUInt32LE(4000, 8 + 616), /start info page \(frame 4000\)/);
    await refused((p) => body(p, 4).writeUInt32LE(4000 << 12, 8 + 4984 + 24), /page tables names memory/);
    await refused((p) => body(p, 4).writeUInt32LE(9000, 8 + 4960), /GDT names memory/);
    await refused((p) => body(p, 4).writeUInt32LE(0x00800000, 8 + 648 + 4), /its context is refused/);
    // Its kernel root is data.
    await refused((p) => body(p, 4).writeUInt32LE(1000 << 12, 8 + 4984 + 24), /its context is refused/);
  });

  it("with a configuration that cannot be built is refused", async () => {
    const config = (text: string) => (p: Parts) => {
      const size = Buffer.alloc(4);
      size.writeUInt32LE(text.length + 1);
      p.xl = Buffer.concat([p.xl.subarray(0, 48), size, Buffer.from(`${text}\0`)]);
      p.xl.writeUInt32LE(4 + text.length + 1, 44);
    };
    const good = { c_info: { type: "pv", name: "x" }, b_info: { max_vcpus: 1 } };
    (await changed(config(JSON.stringify(good)))).running.destroy();
    await refused(config("{"), /no JSON/);
    await refused(config("[]"), /names no domain/);
    await refused(config(JSON.stringify({ ...good, c_info: { type: "hvm", name: "x" } })), /of type hvm, not pv/);
    await refused(config(JSON.stringify({ ...good, b_info: { max_vcpus: 1e9 } })), /no number of vCPUs/);
    await refused(
      config(JSON.stringify({ ...good, disks: [{ vdev: "xvda", pdev_path: "/x" }] })),
      /has disks \(xvda\)/,
    );
    await refused((p) => {
      p.xl = Buffer.from(p.xl.subarray(0, 48));
      p.xl.writeUInt32LE(0, 44);
    }, /carries no configuration/);
    const failing: RestoreOptions = {
      plan: () => {
        throw new MigrationError("state", "a domain of this name exists");
      },
    };
    await refused(() => {}, /of this name exists/, failing);
    await refused(() => {}, /cannot be opened/, {
      plan: () => ({
        name: "x",
        vcpus: 1,
        disks: [
          {
            vdev: "xvda",
            image: () => {
              throw new MigrationError("state", "the image cannot be opened");
            },
          },
        ],
      }),
    });
  });
});
