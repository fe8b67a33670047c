// Save and restore of a small guest of ours: what the guest sees, what the stream is, what a hostile stream does.
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { FileSink, FileSource } from "../../src/sys/node/migration-streams.js";
import {
  MemorySink,
  MemorySource,
  MigrationError,
  restoreDomain,
  resumeDomain,
  saveDomain,
  suspendDomain,
  type ByteSink,
} from "../../src/toolstack/migration/index.js";
import { debianFile, Host, holdings, LIMIT } from "../machine/harness.js";
import { during } from "./during.js";
import { follow, goingsOn, startMini, wentOn, works } from "./mini.js";

const MEMORY = { memoryMiB: 48 };
/** The file that a fresh small guest is saved to. */
async function saved(): Promise<Uint8Array> {
  const host = new Host(MEMORY);
  const g = await startMini(host);
  await works(host, g.running);
  const sink = new MemorySink();
  await during(host, saveDomain(host.machine, g.running, sink));
  host.close();
  return sink.bytes();
}
/** Ends in the middle of a number of instructions, the same every time. */
function random(seed: number): () => number {
  let x = seed >>> 0;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) / 4294967296;
  };
}

describe("a domain is saved and restored", { timeout: LIMIT }, () => {
  const dir = mkdtempSync(join(tmpdir(), "xenolith-save-"));
  afterAll(() => rmSync(dir, { recursive: true }));

  it("its memory is what it was, again and again, on another machine each time", async () => {
    let host = new Host(MEMORY);
    let g = await startMini(host);
    await works(host, g.running);
    for (let i = 0; i < 3; i++) {
      const path = join(dir, "saved");
      const sink = new FileSink(path);
      const { pages } = await during(host, saveDomain(host.machine, g.running, sink));
      sink.finish();
      expect(pages).toBe(1024);
      expect(host.machine.xen.domains.has(g.domid)).toBe(false);
      host = new Host({ ...MEMORY, pcpus: 1 + i });
      // Other machine frames than before.
      await host.guest("hello", { memoryMiB: 5 + i });
      const source = new FileSource(path);
      const restored = await during(host, restoreDomain(host.machine, source));
      source.close();
      expect(restored.running.domain.uuid).toBe(g.running.domain.uuid);
      g = await follow(host, restored);
      await works(host, g.running);
      await works(host, g.running);
    }
    host.close();
  });

  it("a checkpoint: it goes on where it was, and the copy from there", async () => {
    const host = new Host(MEMORY);
    const g = await startMini(host);
    const sink = new MemorySink();
    const ends: number[] = [];
    g.running.onShutdown((code) => ends.push(code));
    await during(host, saveDomain(host.machine, g.running, sink, { after: "continue" }));
    await wentOn(host, g.running, 1);
    await works(host, g.running);
    const copy = await follow(host, await during(host, restoreDomain(host.machine, new MemorySource(sink.bytes()))));
    await works(host, copy.running);
    // Once more, with the ports of both.
    await during(host, saveDomain(host.machine, g.running, new MemorySink(), { after: "continue" }));
    await wentOn(host, g.running, 1, 2);
    await works(host, g.running);
    expect(ends).toEqual([]);
    // The two have one UUID: the end of one takes nothing from the other.
    g.running.destroy();
    expect(host.machine.xs.read(`/local/domain/${copy.domid}/vm`)).not.toBe(null);
    expect(host.machine.xs.read(`${host.machine.xs.read(`/local/domain/${copy.domid}/vm`)}/name`)).toBe(
      copy.running.domain.name,
    );
    host.close();
    expect(host.machine.xs.list("/vm")).toEqual([]);
  });

  it("saved and left paused, it does not run until it is unpaused", async () => {
    const host = new Host(MEMORY);
    const g = await startMini(host);
    await during(host, saveDomain(host.machine, g.running, new MemorySink(), { after: "pause" }));
    for (let i = 0; i < 20; i++) host.machine.runSlice(5);
    expect(goingsOn(host, g.domid, 1)).toBe(0);
    host.machine.xen.unpause(g.running.domain);
    await wentOn(host, g.running, 1);
    await works(host, g.running);
    host.close();
  });

  it("suspended and resumed by hand", async () => {
    const host = new Host(MEMORY);
    const g = await startMini(host);
    await during(host, suspendDomain(host.machine, g.running));
    expect([g.running.ended, g.running.shutdownCode]).toEqual([false, 2]);
    await expect(suspendDomain(host.machine, g.running)).rejects.toThrow("is being saved already");
    resumeDomain(host.machine, g.running);
    await wentOn(host, g.running, 1);
    await works(host, g.running);
    host.close();
  });

  it("restored paused, with its nodes as libxl has them", async () => {
    const bytes = await saved();
    const host = new Host(MEMORY);
    const before = holdings(host.machine);
    const { running, config } = await during(
      host,
      restoreDomain(host.machine, new MemorySource(bytes, 777), { paused: true }),
    );
    const { xs } = host.machine;
    const dom = `/local/domain/${running.domain.domid}`;
    expect(JSON.parse(config)).toMatchObject({ c_info: { type: "pv", uuid: running.domain.uuid } });
    expect([...(xs.list(dom) ?? [])].sort()).toEqual(
      "attr console control cpu data device domid drivers error feature memory name store vm".split(" "),
    );
    expect(xs.read(`${dom}/store/port`)).toBe("1");
    expect(xs.read(`${dom}/console/port`)).toBe("2");
    expect(xs.read(`${dom}/memory/target`)).toBe("4096");
    expect(running.domain.pauseCount).toBe(1);
    expect(running.domain.mm.totPages).toBe(1024);
    running.destroy();
    expect(holdings(host.machine)).toEqual(before);
  });
});

describe("what cannot be saved is said, and runs on", { timeout: LIMIT }, () => {
  it("a sink that fails in the middle", async () => {
    const host = new Host(MEMORY);
    const g = await startMini(host);
    for (const at of [0, 300, 100_000, 4_200_000]) {
      let room = at;
      const full: ByteSink = {
        write: (bytes) => {
          room -= bytes.length;
          if (room < 0) throw new Error("No space left on device");
        },
      };
      const times = goingsOn(host, g.domid, 1);
      await expect(during(host, saveDomain(host.machine, g.running, full))).rejects.toThrow("No space left on device");
      await wentOn(host, g.running, 1, times + 1);
      await works(host, g.running);
    }
    host.close();
  });
  it("a guest that does not answer", async () => {
    const host = new Host(MEMORY);
    const g = await startMini(host);
    const node = `/local/domain/${g.domid}/control/shutdown`;
    // Nobody reads the node in this guest.
    host.machine.xs.write(`/local/domain/${g.domid}/device/suspend/event-channel`, "");
    const save = saveDomain(host.machine, g.running, new MemorySink(), { suspendTimeoutMs: 50 });
    await expect(during(host, save)).rejects.toThrow("did not acknowledge the request to suspend");
    expect(host.machine.xs.read(node)).toBe("");
    // It says that it will, and does not.
    const unwatch = host.machine.xs.watch(node, () => {
      if (host.machine.xs.read(node) === "suspend") host.machine.xs.write(node, "");
    });
    const again = saveDomain(host.machine, g.running, new MemorySink(), { suspendTimeoutMs: 50 });
    await expect(during(host, again)).rejects.toThrow("did not suspend");
    unwatch();
    await works(host, g.running);
    host.close();
  });
  it("a guest that answers too late goes on, and nobody takes it for its end", async () => {
    const host = new Host(MEMORY);
    const g = await startMini(host);
    const ends: number[] = [];
    g.running.onShutdown((code) => ends.push(code));
    host.machine.xs.write(`/local/domain/${g.domid}/device/suspend/event-channel`, "");
    const node = `/local/domain/${g.domid}/control/shutdown`;
    const unwatch = host.machine.xs.watch(node, () => {
      if (host.machine.xs.read(node) === "suspend") host.machine.xs.write(node, "");
    });
    await expect(
      during(host, saveDomain(host.machine, g.running, new MemorySink(), { suspendTimeoutMs: 20 })),
    ).rejects.toThrow("did not suspend");
    unwatch();
    // Now it does, of its own accord.
    const port = Number(/port (\d+)/.exec(host.log)?.[1]);
    const local = host.machine.dom0.events.bindInterdomainHost(g.running.domain, port, () => {});
    host.machine.dom0.events.sendHost(local);
    await host.run(() => goingsOn(host, g.domid, 1) === 1, { what: "its going on" });
    host.machine.dom0.events.closeHost(local);
    await works(host, g.running);
    expect(ends).toEqual([]);
    host.close();
  });
  it("a guest without a P2M, a paused one, one that has ended", async () => {
    const host = new Host(MEMORY);
    const spin = await host.guest("spin");
    await host.runInstructions(100_000);
    const save = (g: { running: typeof spin.running }) => saveDomain(host.machine, g.running, new MemorySink());
    await expect(save(spin)).rejects.toThrow(/cannot be moved: it has no P2M table/);
    const g = await startMini(host);
    g.running.domain.pause();
    await expect(save(g)).rejects.toThrow("is paused");
    g.running.domain.unpause();
    await works(host, g.running);
    g.running.destroy();
    await expect(save(g)).rejects.toThrow(MigrationError);
    host.close();
  });
});

describe("hostile streams", { timeout: 3 * LIMIT }, () => {
  /** Try to restore; the error, or null. Nothing of it is left, and no invariant of the hypervisor broken. */
  async function attempt(host: Host, bytes: Uint8Array): Promise<unknown> {
    const before = holdings(host.machine);
    let error: unknown = null;
    try {
      const { running } = await during(host, restoreDomain(host.machine, new MemorySource(bytes)));
      // It may run, whatever it does then.
      for (let i = 0; i < 3; i++) host.machine.runSlice(1);
      running.destroy();
    } catch (e) {
      error = e;
    }
    host.machine.runSlice(1);
    expect(holdings(host.machine)).toEqual(before);
    return error;
  }

  it("cut off anywhere: one clear error, nothing left behind", async () => {
    const bytes = await saved();
    const host = new Host(MEMORY);
    expect(await attempt(host, bytes)).toBe(null);
    const rnd = random(1);
    const cuts = new Set<number>([0, 1, 31, 32, 47, 48, 52, bytes.length - 1, bytes.length - 8, bytes.length - 9]);
    for (let i = 0; i < 60; i++) cuts.add(Math.floor(rnd() * 2500));
    for (let i = 0; i < 30; i++) cuts.add(Math.floor(rnd() * bytes.length));
    for (let i = 0; i < 40; i++) cuts.add(bytes.length - Math.floor(rnd() * 10_000));
    for (const cut of cuts) {
      const e = await attempt(host, bytes.subarray(0, cut));
      expect(e, `cut at ${cut}`).toBeInstanceOf(MigrationError);
      expect((e as Error).message).toMatch(/^the stream ends in the middle of [^\n]+$/);
    }
  });

  it("damaged anywhere: an error or a domain, never a broken hypervisor", async () => {
    const bytes = await saved();
    const host = new Host(MEMORY);
    const rnd = random(2);
    let refused = 0;
    const places = [
      () => Math.floor(rnd() * 2500),
      () => Math.floor(rnd() * 12_000),
      () => bytes.length - 1 - Math.floor(rnd() * 10_000),
      () => Math.floor(rnd() * bytes.length),
    ];
    for (let i = 0; i < 240; i++) {
      const hurt = bytes.slice();
      const n = 1 + Math.floor(rnd() * 4);
      for (let k = 0; k < n; k++) {
        const at = (places[i % places.length] as () => number)();
        hurt[at] = rnd() < 0.3 ? 0xff : Math.floor(rnd() * 256);
      }
      const e = await attempt(host, hurt);
      if (e === null) continue;
      refused++;
      expect(e, `damage ${i}`).toBeInstanceOf(MigrationError);
      expect((e as Error).message).not.toContain("\n");
    }
    expect(refused).toBeGreaterThan(30);
  });

  it("page tables that reach for other memory are refused", async () => {
    const bytes = await saved();
    const host = new Host(MEMORY);
    const tables = pageTables(bytes);
    expect(new Set(tables.map((t) => t.level))).toEqual(new Set([1, 2, 3, 4]));
    let outside = 0;
    for (const t of tables) {
      const hurt = bytes.slice();
      const d = new DataView(hurt.buffer);
      for (let e = 0; e < 512; e++) {
        if ((d.getUint32(t.at + e * 8, true) & 1) === 0) continue;
        // The first frame beyond the domain's.
        d.setUint32(t.at + e * 8, (d.getUint32(t.at + e * 8, true) & 0xfff) | (1024 << 12), true);
        break;
      }
      const error = await attempt(host, hurt);
      expect(error).toBeInstanceOf(MigrationError);
      if (/names memory that the domain does not have/.test((error as Error).message)) outside++;
    }
    expect(outside).toBe(tables.length);
    // An L1 table that maps an L4 table to be written, and an L4 table that is said to be data.
    const l4 = tables.find((t) => t.level === 4);
    const l1 = tables.find((t) => t.level === 1);
    if (l4 === undefined || l1 === undefined) throw new Error("no tables");
    const hurt = bytes.slice();
    new DataView(hurt.buffer).setUint32(l1.at + 511 * 8, ((l4.pfn << 12) | 0x67) >>> 0, true);
    expect(await attempt(host, hurt)).toBeInstanceOf(MigrationError);
    const untyped = bytes.slice();
    untyped[l4.typeAt + 7] = 0;
    expect(await attempt(host, untyped)).toBeInstanceOf(MigrationError);
  });

  it("too little memory: said, and given back", async () => {
    const bytes = await saved();
    const host = new Host({ memoryMiB: 1 });
    host.machine.xen.frames.alloc(0);
    const filler = host.machine.xen.createDomain({ uuid: "0", name: "filler", maxVcpus: 1, maxPages: 1e6 });
    while (host.machine.xen.frames.freeFrames > 600) filler.mm.allocPage(0);
    const e = await attempt(host, bytes);
    expect(e).toMatchObject({ code: "no-memory" });
  });
});

interface Table {
  readonly pfn: number;
  readonly level: number;
  /** Where its content is, and its entry in the list of frames. */
  readonly at: number;
  readonly typeAt: number;
}
/** The page tables in a saved file: the test's own reader. */
function pageTables(bytes: Uint8Array): Table[] {
  const d = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 48 + d.getUint32(44, true) + 16 + 8 + 24 + 16;
  const out: Table[] = [];
  for (;;) {
    const type = d.getUint32(at, true);
    const length = d.getUint32(at + 4, true);
    if (type === 0) return out;
    if (type === 1) {
      const n = d.getUint32(at + 8, true);
      let page = at + 16 + n * 8;
      for (let i = 0; i < n; i++) {
        const typeAt = at + 16 + i * 8;
        const kind = d.getUint32(typeAt + 4, true) >>> 28;
        if (kind >= 13) continue;
        if ((kind & 7) !== 0) out.push({ pfn: d.getUint32(typeAt, true), level: kind & 7, at: page, typeAt });
        page += 4096;
      }
    }
    at += 8 + ((length + 7) & ~7);
  }
}

const utils = ["/usr/lib/xen-4.17", debianFile("unpacked/xen-utils-4.17/usr/lib/xen-4.17")].find((p) =>
  existsSync(join(p, "bin/verify-stream-v2")),
);
describe.skipIf(utils === undefined)(
  `Debian's verify-stream-v2${utils === undefined ? " (skipped: no xen-utils-4.17)" : ""}`,
  { timeout: LIMIT },
  () => {
    const dir = mkdtempSync(join(tmpdir(), "xenolith-verify-"));
    afterAll(() => rmSync(dir, { recursive: true }));
    it("accepts what is saved, and not what is damaged", async () => {
      const bytes = await saved();
      const verify = (stream: Uint8Array): string => {
        const path = join(dir, "stream");
        writeFileSync(path, stream);
        return execFileSync(
          "/usr/bin/python3",
          [join(utils ?? "", "bin/verify-stream-v2"), "-v", "-f", "xl", "-i", path],
          {
            encoding: "utf8",
            env: { ...process.env, PYTHONPATH: join(utils ?? "", "lib/python") },
            stdio: ["ignore", "pipe", "pipe"],
          },
        );
      };
      const said = verify(bytes);
      for (const what of [
        "Processed xl header",
        "Libxl Record: Libxc context, length 0",
        "Libxc Image Header: Version 3, little endian",
        "Domain Header: x86 PV from Xen 4.17",
        "64bit guest, 4 levels of pagetables",
        "Libxc Record: x86 CPUID policy",
        "Libxc Record: x86 MSR policy",
        "Libxc Record: Static data end, length 0",
        "Start pfn 0x0, End 0x3ff",
        "Libxc Record: TSC info, length 24",
        "Libxc Record: Shared info, length 4096",
        "vcpu0 basic context, 5168 bytes",
        "vcpu0 extended context",
        "vcpu0 xsave context",
        "Libxc Record: End, length 0",
        "Libxl Record: End, length 0",
      ])
        expect(said).toContain(what);
      expect(() => verify(bytes.subarray(0, bytes.length - 8))).toThrow();
    });
  },
);
