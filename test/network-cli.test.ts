/** The network's options of the command: a link between two hosts' bridges, and files that Wireshark reads. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CliRun, debian, ensureBuilt, haveDebian } from "./cli-helper.js";

const noDebian = haveDebian ? "" : " (skipped: Debian's kernel is not here)";
let dir = "";
beforeAll(() => {
  ensureBuilt();
  dir = mkdtempSync(join(tmpdir(), "xenolith-net-"));
}, 300_000);
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** EtherTypes and lengths of a pcap file's frames. */
function frames(file: string): { type: number; length: number; proto: number }[] {
  const b = readFileSync(file);
  expect(b.readUInt32LE(0)).toBe(0xa1b2c3d4);
  expect(b.readUInt32LE(20)).toBe(1);
  const out = [];
  for (let at = 24; at + 16 <= b.length;) {
    const length = b.readUInt32LE(at + 8);
    out.push({ type: b.readUInt16BE(at + 16 + 12), length, proto: b[at + 16 + 23] ?? 0 });
    at += 16 + length;
  }
  return out;
}

describe.skipIf(!haveDebian)(`two hosts, one network${noDebian}`, { timeout: 240_000 }, () => {
  it("Debian on one host pings Debian on the other, and --pcap has seen it", async () => {
    const guest = (address: string, rest: string): string[] => [
      "run",
      debian("vmlinuz-cloud"),
      "--ramdisk",
      debian("initramfs.cpio.gz"),
      "--memory",
      "96",
      "--vif",
      "",
      "--cmdline",
      `console=hvc0 quiet run="ip addr add ${address}/24 dev eth0; ip link set eth0 up; ${rest}; poweroff"`,
      "--timeout",
      "200",
    ];
    const far = new CliRun([
      ...guest("10.9.0.2", "echo far is up; while ! ping -c1 -W1 10.9.0.1 >/dev/null; do :; done; sleep 4"),
      "--link",
      "listen:0",
    ]);
    try {
      const listening = new Promise<string>((resolve) => {
        const look = setInterval(() => {
          const m = /listens on port (\d+)/.exec(far.stderr);
          if (m?.[1] === undefined) return;
          clearInterval(look);
          resolve(m[1]);
        }, 50);
      });
      const port = await listening;
      const file = join(dir, "near.pcap");
      const near = new CliRun([
        ...guest("10.9.0.1", "for i in 1 2 3 4 5 6 7 8 9; do ping -c3 -W2 10.9.0.2 && break; done"),
        "--link",
        `127.0.0.1:${port}`,
        "--pcap",
        file,
      ]);
      const end = await near.done;
      expect(end.stdout).toMatch(/[1-3] packets received/);
      expect(end.status).toBe(0);
      const seen = frames(file);
      const ICMP = 1;
      expect(seen.filter((f) => f.type === 0x0806).length).toBeGreaterThan(0);
      expect(seen.filter((f) => f.type === 0x0800 && f.proto === ICMP && f.length === 98).length).toBeGreaterThan(1);
    } finally {
      far.kill();
    }
  });
});
