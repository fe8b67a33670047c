// The profiler: every part of the time is accounted for, samples fall on the functions that run, kernel stacks are unwound, files are well formed.
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { collapsed, flameGraph, kernelCode, profileText, Profiler, speedscope } from "../src/debug/profile/index.js";
import type { Profile } from "../src/debug/profile/index.js";
import { unwind, type OrcTable } from "../src/debug/profile/unwind.js";
import { VirtualClock } from "../src/machine/clock.js";
import { Machine } from "../src/toolstack/machine.js";
import { ensureBuilt, image, root, runCli } from "./cli-helper.js";

const LIMIT = 120_000;
const sum = (values: Iterable<number>): number => [...values].reduce((a, b) => a + b, 0);

/** Runs a guest to its end under the virtual clock, the host's time being a counter: the same profile every time. */
async function profiled(kernel: string, map?: string): Promise<{ profile: Profile; instructions: number }> {
  const bytes = readFileSync(kernel);
  const machine = new Machine({ memoryMiB: 64, clock: new VirtualClock() });
  const code = kernelCode(bytes, map);
  let ms = 0;
  const profiler = new Profiler(machine, { now: () => (ms += 0.001), interval: 5000, codeOf: () => code });
  const domain = await machine.createDomain({ kernel: bytes, name: "a guest", memoryMiB: 32 });
  for (let i = 0; i < 10_000 && !domain.ended; i++) machine.runSlice(50);
  expect(domain.ended).toBe(true);
  const { retired } = machine.cpu;
  const profile = profiler.stop();
  machine.runSlice(1);
  expect(profiler.stop().samples).toBe(profile.samples);
  return { profile, instructions: retired };
}

describe("a profile", () => {
  let run: { profile: Profile; instructions: number };
  beforeAll(async () => {
    run = await profiled(image("bench"), "ffffffff80000000 T everything\n");
  }, LIMIT);

  it("accounts for all of the time, once", () => {
    const { profile: p } = run;
    const parts =
      p.translated.ms +
      p.interpreted.ms +
      p.translating.ms +
      sum([...p.exits.values()].map((e) => e.ms)) +
      p.hostMs +
      p.idleMs;
    expect(parts).toBeCloseTo(p.totalMs, 0);
    expect(sum(p.stacks.values())).toBeLessThanOrEqual(p.totalMs + 1e-6);
    expect(sum(p.stacks.values())).toBeGreaterThan(0.9 * (p.totalMs - p.idleMs));
  });
  it("counts every instruction as interpreted or translated", () => {
    const { profile: p, instructions } = run;
    expect(p.instructions).toBe(instructions);
    expect(p.translated.instructions + p.interpreted.instructions).toBe(instructions);
  });
  it("takes a sample about every interval", () => {
    const expected = run.instructions / 5000;
    expect(run.profile.samples).toBeGreaterThan(expected * 0.7);
    expect(run.profile.samples).toBeLessThan(expected * 1.3);
  });
  it("names exits by what they were", () => {
    const names = [...run.profile.exits.keys()];
    for (const name of ["hypercall xen_version.version", "system call", "exception #PF", "hypercall mmu_update"])
      expect(names).toContain(name);
    // It touches as many pages, and a tenth of them before.
    expect(run.profile.exits.get("exception #PF")?.n).toBeGreaterThanOrEqual(12_800);
  });
  it("names guest code by the symbols it is given, and user mode as such", () => {
    const names = [...run.profile.symbols.keys()];
    expect(names).toContain("a_guest;everything");
    expect(names).toContain("a_guest;user");
  });
  it("reads as text", () => {
    const text = profileText(run.profile, 5);
    expect(text).toMatch(/translated code/);
    expect(text).toMatch(/exits: hypercall xen_version/);
    expect(text).toMatch(/a_guest everything/);
  });
  it("leaves the guest's results alone", async () => {
    // The guest itself checks rules, and its verdict is its status.
    const { profile } = await profiled(image("memory"));
    expect(profile.samples).toBeGreaterThan(0);
  });
});

describe("flame graphs", () => {
  const stacks = new Map([
    ["d;a;b", 3],
    ["d;a", 1],
    ["d;<c>", 0.5],
  ]);
  it("collapsed: a line per stack with microseconds", () => {
    expect(collapsed(stacks)).toBe("d;<c> 500\nd;a 1000\nd;a;b 3000\n");
  });
  it("speedscope: samples are indexes of frames, weights add up", () => {
    const file = JSON.parse(speedscope(stacks, "t")) as {
      shared: { frames: { name: string }[] };
      profiles: { samples: number[][]; weights: number[]; endValue: number }[];
    };
    const [p] = file.profiles;
    expect(p?.samples.map((s) => s.map((i) => file.shared.frames[i]?.name).join(";"))).toEqual([...stacks.keys()]);
    expect(p?.endValue).toBe(4.5);
  });
  it("SVG: a box per frame as wide as its share, names escaped", () => {
    const svg = flameGraph(stacks, "a & b");
    expect(svg).toContain("a &amp; b");
    expect(svg).toContain("&lt;c&gt;: 0.5 ms, 11.1 %");
    expect(svg).not.toContain("<c>");
    const width = (name: string): number =>
      Number(new RegExp(`data-w="([0-9.]+)" data-d="\\d+" data-n="${name}"`).exec(svg)?.[1]);
    expect(width("b") / width("a")).toBeCloseTo(0.75, 3);
    expect(width("all")).toBe(1200);
  });
});

describe("unwinding", () => {
  /** A kernel of two functions: `inner` at −1000 (16 bytes on the stack, rbp kept), `outer` at −900 (by rbp), the end at −800. */
  const row = { spOffset: 0, bpOffset: 0, spReg: 5, bpReg: 0, type: 0, end: false };
  const table: OrcTable = [
    { ...row, va: -1000, spOffset: 24, bpOffset: -16, bpReg: 1 },
    { ...row, va: -900, spReg: 4, spOffset: 16 },
    { ...row, va: -800, end: true },
  ];
  const from = (memory: ReadonlyMap<number, number>) => ({
    rip: -990,
    rsp: -5000,
    rbp: 0,
    register: () => 0,
    read: (va: number) => memory.get(va) ?? null,
  });
  it("follows calls, by the stack pointer and by the frame pointer", () => {
    const memory = new Map([
      [-5000 + 24 - 8, -850],
      [-5000 + 24 - 16, -4900],
      [-4900 + 16 - 8, -790],
    ]);
    expect(unwind(table, from(memory))).toEqual([-990, -851, -791]);
  });
  it("ends where memory or the table does, and never goes down the stack", () => {
    expect(unwind(table, from(new Map()))).toEqual([-990]);
    const loop = new Map([[-5000 + 24 - 8, -989]]);
    const circular: OrcTable = [{ ...row, va: -1000, spOffset: 0 }];
    expect(unwind(circular, from(loop))).toEqual([-990]);
  });
});

describe("the command", () => {
  let dir = "";
  beforeAll(() => {
    ensureBuilt();
    dir = mkdtempSync(join(tmpdir(), "xenolith-profile-"));
  }, 300_000);
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  it(
    "writes the text to stderr and the flame graph to a file, and ends as the run does",
    async () => {
      const file = join(dir, "p.folded");
      const r = await runCli(["profile", image("crash"), "--memory", "32", "-o", file]);
      expect(r.status).toBe(3);
      expect(r.stderr).toMatch(/profile of [\d.]+ s/);
      expect(readFileSync(file, "utf8")).toMatch(/^crash;/m);
    },
    LIMIT,
  );
  it(
    "an output that cannot be written is found out before the run",
    async () => {
      const r = await runCli(["profile", image("hello"), "-o", join(dir, "no/such/p.svg")]);
      expect(r.status).toBe(2);
      expect(r.stdout + r.stderr).not.toMatch(/PASS/);
    },
    LIMIT,
  );

  const kernel = join(root, ".cache/debian/vmlinuz-cloud");
  it.skipIf(!existsSync(kernel))(
    "finds the functions of Debian's kernel, and who calls them",
    async () => {
      const file = join(dir, "debian.folded");
      // A boot as far as its first seconds: without an initramfs it ends in a panic, which is soon.
      const r = await runCli([
        "profile",
        kernel,
        "--memory",
        "128",
        "--cmdline",
        "console=hvc0 panic=-1 root=/dev/none",
        "--timeout",
        "100",
        "--no-reboot",
        "-o",
        file,
      ]);
      expect(r.stderr).toMatch(/xen_vmalloc_p2m_tree/);
      const stacks = readFileSync(file, "utf8");
      expect(stacks).toMatch(/;xen_start_kernel;.*\d+$/m);
      expect(stacks).toMatch(/;start_kernel;.*;[a-z_]+ \d+$/m);
    },
    LIMIT,
  );
});
