// A domain's core as others read it: readelf, gdb, and the test's own look at the sections Xen's tools write.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { FileSink } from "../../src/sys/node/migration-streams.js";
import { dumpCore } from "../../src/toolstack/dump-core.js";
import { debianFile, Host, LIMIT, missing, TEST_LIMIT } from "../machine/harness.js";
import { during } from "./during.js";
import { startMini, works } from "./mini.js";

const have = (program: string): boolean => spawnSync(program, ["--version"]).status === 0;
const without = (...programs: string[]): string => {
  const gone = programs.filter((p) => !have(p));
  return gone.length === 0 ? "" : ` (skipped: no ${gone.join(", ")})`;
};
const dir = mkdtempSync(join(tmpdir(), "xenolith-core-"));
afterAll(() => rmSync(dir, { recursive: true }));

async function core(host: Host, running: Parameters<typeof works>[1], name: string): Promise<string> {
  const path = join(dir, name);
  const sink = new FileSink(path);
  const { bytes } = await during(host, dumpCore(host.machine, running.domain, sink));
  sink.finish();
  expect(readFileSync(path).length).toBe(bytes);
  return path;
}

interface Section {
  readonly name: string;
  readonly type: number;
  readonly bytes: Buffer;
  readonly entry: number;
}
/** The sections of an ELF64 file: the test's own reader. */
function sections(path: string): Map<string, Section> {
  const f = readFileSync(path);
  const at = Number(f.readBigUInt64LE(40));
  const [size, n, names] = [f.readUInt16LE(58), f.readUInt16LE(60), f.readUInt16LE(62)];
  const strings = Number(f.readBigUInt64LE(at + names * size + 24));
  const out = new Map<string, Section>();
  for (let i = 0; i < n; i++) {
    const h = at + i * size;
    const s = strings + f.readUInt32LE(h);
    const name = f.toString("latin1", s, f.indexOf(0, s));
    const from = Number(f.readBigUInt64LE(h + 24));
    const bytes = f.subarray(from, from + Number(f.readBigUInt64LE(h + 32)));
    out.set(name, { name, type: f.readUInt32LE(h + 4), bytes, entry: Number(f.readBigUInt64LE(h + 56)) });
  }
  return out;
}

describe("the sections of Xen's format", { timeout: LIMIT }, () => {
  it("hold the domain as it is, and it goes on", async () => {
    const host = new Host({ memoryMiB: 48 });
    const g = await startMini(host);
    await works(host, g.running);
    const { domain } = g.running;
    const path = await core(host, g.running, "running");
    const s = sections(path);
    expect([...s.keys()]).toEqual(
      expect.arrayContaining([".note.Xen", ".xen_prstatus", ".xen_shared_info", ".xen_p2m", ".xen_pages", ".shstrtab"]),
    );
    const p2m = s.get(".xen_p2m")?.bytes ?? Buffer.alloc(0);
    expect(p2m.length).toBe(1024 * 16);
    for (const pfn of [0, 1, 500, 1023]) {
      expect(Number(p2m.readBigUInt64LE(pfn * 16))).toBe(pfn);
      expect(Number(p2m.readBigUInt64LE(pfn * 16 + 8))).toBe(domain.mm.mfnOf(pfn));
    }
    expect(s.get(".xen_pages")?.bytes.length).toBe(4 << 20);
    expect(s.get(".xen_prstatus")).toMatchObject({ entry: 5168, bytes: { length: 5168 } });
    const note = s.get(".note.Xen")?.bytes ?? Buffer.alloc(0);
    expect(note.toString("latin1", 12, 16)).toBe("Xen\0");
    // Header: magic, vCPUs, pages, page size.
    expect([...Array(4).keys()].map((i) => Number(note.readBigUInt64LE(32 + i * 8)))).toEqual([
      0xf00febed, 1, 1024, 4096,
    ]);
    expect(domain.pauseCount).toBe(0);
    await works(host, g.running);
    host.close();
  });

  it("of a domain that crashed before it had a P2M", async () => {
    const host = new Host({ memoryMiB: 48 });
    const g = await host.guest("crash", { memoryMiB: 5 });
    await g.end();
    expect(g.running.crashed).toBe(true);
    const s = sections(await core(host, g.running, "crashed"));
    expect(s.get(".xen_pages")?.bytes.length).toBe(5 << 20);
    // Where it died.
    expect(Number(s.get(".xen_prstatus")?.bytes.readBigUInt64LE(648))).toBe(0);
    host.close();
  });
});

const noTools = without("readelf", "gdb");
describe.skipIf(noTools !== "")(`readelf and gdb${noTools}`, { timeout: LIMIT }, () => {
  it("read it without complaint, registers and memory alike", async () => {
    const host = new Host({ memoryMiB: 48 });
    const g = await startMini(host);
    await works(host, g.running);
    g.running.domain.pause();
    const path = await core(host, g.running, "gdb");
    const readelf = spawnSync("readelf", ["-a", "-W", path], { encoding: "utf8" });
    expect([readelf.status, readelf.stderr]).toEqual([0, ""]);
    expect(readelf.stdout).toMatch(/Type: +CORE/);
    expect(readelf.stdout).toMatch(/\.xen_pages +PROGBITS/);
    expect(readelf.stdout).toMatch(/Xen +0x00000020\s/);

    const v = g.running.domain.vcpus[0];
    if (v === undefined) throw new Error("no vCPU");
    let rip = 0;
    let word = "";
    host.machine.xen.withLoaded(v, (cpu) => {
      rip = cpu.rip;
      const at = cpu.peek(0, cpu.rip);
      word = Buffer.from(host.machine.mem.read(at, 4)).readUInt32LE().toString(16).padStart(8, "0");
    });
    const hex = (rip < 0 ? BigInt(rip) + (1n << 64n) : BigInt(rip)).toString(16);
    const gdb = execFileSync(
      "gdb",
      ["-nx", "-batch", "-core", path, "-ex", "info threads", "-ex", "p/x $rip", "-ex", "x/1wx $rip"],
      { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] },
    );
    expect(gdb).toMatch(/LWP 1/);
    expect(gdb).toContain(`$1 = 0x${hex}`);
    expect(gdb).toMatch(new RegExp(`0x${hex}:\\s+0x${word}`));
    host.close();
  });
});

const noDebian = missing(debianFile("vmlinuz-cloud"), debianFile("initramfs.cpio.gz"), debianFile("System.map-cloud"));
describe.skipIf(noDebian + noTools !== "")(
  `a Debian kernel's core${noDebian}${noTools}`,
  { timeout: TEST_LIMIT },
  () => {
    it("gdb finds the kernel's banner where System.map says", async () => {
      const host = new Host({ memoryMiB: 160 });
      const g = await host.debian("cloud", "quiet", { memoryMiB: 96, vcpus: 2 });
      await host.run(() => g.running.domain.vcpus.every((v) => v.up), { what: "both vCPUs" });
      const path = await core(host, g.running, "debian");
      const banner = /^([0-9a-f]+) \S linux_banner$/m.exec(readFileSync(debianFile("System.map-cloud"), "latin1"))?.[1];
      const gdb = execFileSync(
        "gdb",
        ["-nx", "-batch", "-core", path, "-ex", "info threads", "-ex", `x/s 0x${banner}`],
        {
          encoding: "utf8",
          stdio: ["ignore", "pipe", "pipe"],
        },
      );
      expect(gdb).toMatch(/LWP 2/);
      expect(gdb).toContain('"Linux version 6.1.');
      host.close();
    });
  },
);
