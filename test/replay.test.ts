/** A recorded run is replayed to the instruction, from any snapshot, forwards and backwards, and looking at it changes nothing. */
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { spawn, spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseRecording, RecordingError, type Input, type Recording } from "../src/debug/replay/recording.js";
import { ExactRun, Recorder, type RunSpec } from "../src/debug/replay/run.js";
import { Timeline } from "../src/debug/replay/timeline.js";
import type { EngineKind } from "../src/machine/cpu/cpu.js";
import { cli, debian, ensureBuilt, haveDebian, image, root, runCli } from "./cli-helper.js";

const gdb = spawnSync("gdb", ["--version"]).status === 0;
const noGdb = gdb ? "" : " (skipped: Debian's package gdb is not installed)";
const noDebian = haveDebian ? "" : " (skipped: Debian's kernel is not here)";
const LIMIT = 240_000;
const turn = (): Promise<void> => new Promise((done) => setImmediate(done));

let dir = "";
beforeAll(() => {
  ensureBuilt();
  dir = mkdtempSync(join(tmpdir(), "xenolith-replay-"));
}, 300_000);
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const spec = (guest: string, vcpus = 1, count = 1): RunSpec => ({
  scheduler: "credit",
  pcpus: 2,
  memoryMiB: 24 * count,
  domains: Array.from({ length: count }, (_, i) => ({
    name: `${guest}${i}`,
    kernel: readFileSync(image(guest)),
    memoryMiB: 8,
    vcpus,
  })),
});

/** Runs to the end, typing `script[n]` once the output holds its pattern. */
async function record(s: RunSpec, script: readonly (readonly [RegExp, string])[] = []): Promise<Recording> {
  const run = await ExactRun.start(s);
  const inputs: Input[] = [];
  const recorder = new Recorder(run, (i) => inputs.push(i));
  let text = "";
  let next = 0;
  run.onOutput = (_domain, bytes) => {
    text += Buffer.from(bytes).toString();
    const step = script[next];
    if (step?.[0].test(text) !== true) return;
    next++;
    text = "";
    recorder.type(0, Buffer.from(step[1]));
  };
  while (!run.ended) {
    // Slices of other lengths than the replay's: where the host looks away must not matter.
    run.machine.runSlice(3);
    await turn();
  }
  const { ending } = run;
  if (ending === null) throw new Error("no ending");
  return {
    begin: {
      type: "xenolith-recording",
      format: 1,
      version: "",
      scheduler: s.scheduler,
      pcpus: s.pcpus,
      memoryMiB: s.memoryMiB,
      domains: s.domains.map((d) => d.name ?? ""),
      source: null,
      files: [],
    },
    inputs,
    end: ending,
  };
}
const replay = async (s: RunSpec, r: Recording): Promise<Timeline> =>
  new Timeline(await ExactRun.start(s), r, { turn });

/** Registers, time and console of an instant. */
const instant = (t: Timeline): string => {
  const { cpu, clock } = t.run.machine;
  const regs = Array.from({ length: 16 }, (_, i) => `${cpu.regHi(i)}:${cpu.regLo(i)}`).join(" ");
  return `${t.position} ${cpu.rip} ${cpu.rflags} ${clock.now()} ${regs} ${t.run.hashes.map((h) => h.text).join(" ")}`;
};

describe("a run is the same every time", { timeout: LIMIT }, () => {
  it.each([
    ["hello", 1, 1],
    ["time", 1, 1],
    ["sched", 2, 1],
    ["events", 2, 1],
    ["memory", 1, 1],
    ["traps", 1, 1],
    ["hello", 1, 3],
  ] as const)("%s with %i vCPUs, %i domains", async (guest, vcpus, count) => {
    const s = spec(guest, vcpus, count);
    const recorded = await record(s);
    const t = await replay(s, recorded);
    await t.forward();
    expect(t.differences()).toEqual([]);
    expect(recorded.end?.retired).toBeGreaterThan(10);
  });

  it("whatever engine runs it: budgets are exact", async () => {
    const ends: string[] = [];
    for (const engine of ["interpreter", "auto", "translator"] as EngineKind[]) {
      const s = { ...spec("time"), engine };
      const { end } = await record(s);
      ends.push(JSON.stringify(end));
    }
    expect(new Set(ends).size).toBe(1);
  });

  it("with what was typed at the console, at the place where it was typed", async () => {
    const s = spec("console-echo");
    const recorded = await record(s, [
      [/./, "one line\r"],
      [/one line/, "another\r"],
      [/another/, "quit\r"],
    ]);
    expect(recorded.inputs).toHaveLength(3);
    const t = await replay(s, recorded);
    await t.forward();
    expect(t.differences()).toEqual([]);
  });

  it("tells when the run is another than the recorded one", async () => {
    const s = spec("console-echo");
    const recorded = await record(s, [
      [/./, "a line\r"],
      [/a line/, "quit\r"],
    ]);
    const inputs = recorded.inputs.map((i, n) => (n === 0 ? { ...i, data: Buffer.from("another\r") } : i));
    const t = await replay(s, { ...recorded, inputs });
    await t.forward();
    expect(t.differences().join("\n")).toContain("console 0");
  });
});

describe("any instant can be gone back to", { timeout: LIMIT }, () => {
  it("is what it was, from the beginning and from a snapshot close by; and the end is the recorded one", async () => {
    const s = spec("sched", 2);
    const recorded = await record(s);
    const t = await replay(s, recorded);
    const last = recorded.end?.retired ?? 0;
    const places = [0.1, 0.35, 0.5, 0.8, 0.99].map((f) => Math.floor(last * f));
    const seen = new Map<number, string>();
    for (const p of places) {
      await t.seek(p);
      expect(t.position).toBe(p);
      seen.set(p, instant(t));
    }
    for (const p of [...places].reverse()) {
      await t.prepare(p);
      await t.seek(p);
      expect(instant(t)).toBe(seen.get(p));
    }
    await t.forward();
    expect(t.differences()).toEqual([]);
  });

  it("instruction by instruction backwards is forwards reversed", async () => {
    const s = spec("traps");
    const recorded = await record(s);
    const t = await replay(s, recorded);
    const from = Math.floor((recorded.end?.retired ?? 0) / 2);
    const forwards: string[] = [];
    for (let p = from; p < from + 40; p++) {
      await t.seek(p);
      forwards.push(instant(t));
    }
    const backwards: string[] = [];
    for (let p = from + 39; p >= from; p--) {
      await t.seek(p);
      backwards.push(instant(t));
    }
    expect(backwards.reverse()).toEqual(forwards);
  });
});

describe("the file", () => {
  it("is refused in words where it is none, damaged, or out of order; a cut-off last line is passed over", () => {
    const begin = JSON.stringify({ type: "xenolith-recording", format: 1, domains: ["a"] });
    const input = (round: number, domain = 0): string => JSON.stringify({ type: "console", round, domain, data: "x" });
    expect(() => parseRecording("hello")).toThrow(RecordingError);
    expect(() => parseRecording(begin.replace("1", "9"))).toThrow(/format 9/);
    expect(() => parseRecording(`${begin}\n{"type":\n${input(1)}\n`)).toThrow(/line 2: damaged/);
    expect(() => parseRecording(`${begin}\n${input(5)}\n${input(4)}\n`)).toThrow(/line 3: the inputs are out of order/);
    expect(() => parseRecording(`${begin}\n${input(5, 1)}\n`)).toThrow(/line 2: no such domain/);
    expect(parseRecording(`${begin}\n${input(5)}\n{"type":"con`).inputs).toHaveLength(1);
  });
});

describe("xenolith record, xenolith replay", { timeout: LIMIT }, () => {
  it("records what is typed in a small file and replays it exactly; a changed kernel is refused", async () => {
    const kernel = join(dir, "kernel.elf");
    writeFileSync(kernel, readFileSync(image("hello")));
    const file = join(dir, "hello.xrec");
    const made = await runCli(["record", "-o", file, kernel]);
    expect(made.stderr).toContain("recorded");
    expect(made.status).toBe(0);
    expect(statSync(file).size).toBeLessThan(2000);
    const again = await runCli(["replay", file]);
    expect(again.stderr).toContain("replayed exactly");
    expect(again.stderr).toContain("Hello world!");
    expect(again.status).toBe(0);
    const json = await runCli(["replay", file, "--json"]);
    expect(JSON.parse(json.stdout)).toMatchObject({ exact: true, codes: [0] });
    const until = await runCli(["replay", file, "--until", "20"]);
    expect(until.stderr).toContain("after 20 instructions");
    expect(until.stderr).toMatch(/RIP: +e033:\[<[0-9a-f]{16}>\]/);
    writeFileSync(kernel, Buffer.concat([readFileSync(kernel), Buffer.of(0)]));
    const other = await runCli(["replay", file]);
    expect(other.stderr).toContain("is not what it was");
    expect(other.status).toBe(2);
  });

  it("a recording of a page is refused in words: its files are the page's", async () => {
    const file = join(dir, "page.xrec");
    writeFileSync(
      file,
      `${JSON.stringify({ type: "xenolith-recording", format: 1, domains: ["a"], source: { page: true } })}\n`,
    );
    const refused = await runCli(["replay", file]);
    expect(refused.stderr).toContain("made by a page: drop it there");
    expect(refused.status).toBe(2);
  });

  it.skipIf(!gdb)(`gdb goes backwards: reverse-stepi, reverse-continue, to the beginning${noGdb}`, async () => {
    const file = join(dir, "traps.xrec");
    await runCli(["record", "-o", file, image("traps")]);
    const child = spawn(process.execPath, [cli, "replay", file, "--gdb", "0"], { cwd: root });
    try {
      const port = await new Promise<string>((resolve) => {
        let text = "";
        child.stderr.on("data", (b: Buffer) => {
          text += b.toString();
          const m = /target remote :(\d+)/.exec(text);
          if (m?.[1] !== undefined) resolve(m[1]);
        });
      });
      const script = join(dir, "reverse.gdb");
      const show = 'printf "at %#lx\\n", $rip';
      writeFileSync(
        script,
        [
          "set pagination off",
          `target remote :${port}`,
          "stepi 300",
          show,
          "set $there = $rip",
          "stepi 25",
          "reverse-stepi 25",
          show,
        ]
          .concat([
            "break *$there",
            "stepi",
            "continue",
            "monitor position",
            "reverse-continue",
            show,
            "reverse-continue",
            "monitor position",
            "detach",
          ])
          .join("\n"),
      );
      const said = spawnSync("gdb", ["-nx", "-batch", "-x", script], { encoding: "utf8", timeout: 120_000 });
      const places = [...said.stdout.matchAll(/^at (0x[0-9a-f]+)$/gm)].map((m) => m[1]);
      expect(places).toHaveLength(3);
      expect(places[1]).toBe(places[0]);
      expect(places[2]).toBe(places[0]);
      expect(said.stdout).toContain("No more reverse-execution history");
    } finally {
      child.kill("SIGKILL");
    }
  });

  it.skipIf(!haveDebian)(`Debian's kernel to a shell command and back${noDebian}`, async () => {
    const file = join(dir, "debian.xrec");
    const made = await runCli(
      [
        "record",
        "-o",
        file,
        debian("vmlinuz-cloud"),
        "--ramdisk",
        debian("initramfs.cpio.gz"),
        "--memory",
        "96",
      ].concat(["--cmdline", 'console=hvc0 run="echo $((6*7)) is the answer; poweroff"']),
    );
    expect(made.stdout).toContain("42 is the answer");
    const again = await runCli(["replay", file]);
    expect(again.stdout).toBe(made.stdout);
    expect(again.stderr).toContain("replayed exactly");
  });
});
