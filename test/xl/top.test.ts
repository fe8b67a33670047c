// The live screen of `xl top`, drawn and pressed without a terminal.
import { describe, expect, it } from "vitest";
import { takeSample } from "../../src/cli/xl/top-data.js";
import { COLUMNS } from "../../src/cli/xl/top-format.js";
import { draw, keysOf, press, type TopView } from "../../src/cli/xl/top-screen.js";
import { fakeDomain, FakeHost } from "./fake-host.js";

const view = (): TopView => ({
  lines: { full: false, vcpus: false, networks: false, disks: false },
  repeatHead: false,
  sortBy: 0,
  scroll: 0,
  delayMs: 3000,
  entry: undefined,
});

function host(): FakeHost {
  const h = new FakeHost();
  h.add(fakeDomain(0, "Domain-0", { running: true, cpuTimeNs: 5e9 }));
  h.add(fakeDomain(1, "small", { blocked: true, currentKiB: 1024, cpuTimeNs: 1e9 }, 2));
  h.add(fakeDomain(2, "a-name-that-is-long", { paused: true, currentKiB: 2048, cpuTimeNs: 9e9 }));
  return h;
}

describe("the screen", () => {
  const size = { columns: 170, rows: 12 };
  it("has exactly as many lines as the terminal, none wider than it", async () => {
    const s = await takeSample(host(), 1000);
    for (const rows of [4, 8, 12, 40]) {
      const lines = draw(s, view(), "10:00:00", { columns: 60, rows });
      expect(lines).toHaveLength(rows);
      for (const l of lines) expect(l.replace(/\x1b\[\d*m/g, "").length).toBeLessThanOrEqual(60);
    }
  });
  it("counts domains by state and shows the host's memory", async () => {
    const lines = draw(await takeSample(host(), 1000), view(), "10:00:00", size);
    expect(lines[0]).toBe("xentop - 10:00:00   Xen 4.17.7");
    expect(lines[1]).toBe("3 domains: 1 running, 1 blocked, 1 paused, 0 crashed, 0 dying, 0 shutdown");
    expect(lines[2]).toContain("4193280k total");
  });
  it("shows percentages from the second look on", async () => {
    const h = host();
    const first = await takeSample(h, 1000);
    h.domains[1].cpuTimeNs += 500e6;
    const second = await takeSample(h, 2000, first);
    expect(first.domains.map((d) => d.cpuPercent)).toEqual([0, 0, 0]);
    expect(second.domains.map((d) => Math.round(d.cpuPercent))).toEqual([0, 50, 0]);
  });
  it("sorts by the column that is chosen", async () => {
    const v = view();
    const order = async (): Promise<string[]> =>
      draw(await takeSample(host(), 1000), v, "", size)
        .slice(4, 7)
        .map((l) => l.trim().split(/\s+/)[0]);
    expect(await order()).toEqual(["Domain-0", "small", "a-name-tha"]);
    v.sortBy = COLUMNS.findIndex((c) => c.head === "CPU(sec)");
    expect(await order()).toEqual(["a-name-tha", "Domain-0", "small"]);
  });
  it("scrolls, and not beyond the last domain", async () => {
    const v = { ...view(), scroll: 99 };
    const lines = draw(await takeSample(host(), 1000), v, "", { columns: 170, rows: 7 });
    expect(lines.slice(4, 6).map((l) => l.trim().split(/\s+/)[0])).toEqual(["small", "a-name-tha"]);
  });
  it("a host that counts nothing shows the devices all the same", async () => {
    const h = host();
    h.rings = [[1, 2, 3]];
    h.device(1, "vif", 0, "00:16:3e:00:00:01");
    const bare = Object.assign(Object.create(Object.getPrototypeOf(h) as object) as FakeHost, h, {
      deviceStats: undefined,
    });
    const s = await takeSample(bare, 1000);
    expect(s.domains[1].stats.vifs).toHaveLength(1);
  });
});

describe("keys", () => {
  it("toggle lines, change the order, quit", () => {
    const v = view();
    for (const k of ["n", "B", "v", "r", "s"]) expect(press(v, k)).toBe("draw");
    expect(v.lines).toEqual({ full: false, vcpus: true, networks: true, disks: true });
    expect(v).toMatchObject({ repeatHead: true, sortBy: 1 });
    expect(press(v, "z")).toBe("ignored");
    for (const k of ["q", "Q", "\x03", "\x1b"]) expect(press(view(), k)).toBe("quit");
  });
  it("d takes a number of seconds", () => {
    const v = view();
    for (const k of ["d", "0", ".", "5", "\x7f", "2", "\r"]) press(v, k);
    expect(v).toMatchObject({ delayMs: 200, entry: undefined });
    for (const k of ["d", "9", "\x1b"]) press(v, k);
    expect(v.delayMs).toBe(200);
  });
  it("come out of a chunk one by one, arrows in one piece", () => {
    expect(keysOf("q\x1b[A\x1b[Bs")).toEqual(["q", "\x1b[A", "\x1b[B", "s"]);
  });
});
