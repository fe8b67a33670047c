/** Steps through a replay stop at every place of their kind, forwards and backwards, and the machine there is the same. */
import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { FORMAT, type Input, type Recording } from "../src/debug/replay/recording.js";
import { ExactRun, Recorder, type RunSpec } from "../src/debug/replay/run.js";
import { stepBack, stepForward, type StepKind } from "../src/debug/replay/steps.js";
import { Timeline } from "../src/debug/replay/timeline.js";
import { image } from "./cli-helper.js";

const turn = (): Promise<void> => new Promise((done) => setImmediate(done));
const spec: RunSpec = {
  scheduler: "credit",
  pcpus: 2,
  memoryMiB: 24,
  domains: [{ name: "echo", kernel: readFileSync(image("console-echo")), memoryMiB: 8 }],
};

async function record(): Promise<Recording> {
  const run = await ExactRun.start(spec);
  const inputs: Input[] = [];
  const recorder = new Recorder(run, (i) => inputs.push(i));
  let text = "";
  const lines = ["one\r", "quit\r"];
  run.onOutput = (_domain, bytes) => {
    text += Buffer.from(bytes).toString();
    if (!/quit|one/i.test(text)) return;
    text = "";
    const line = lines.shift();
    if (line !== undefined) recorder.type(0, Buffer.from(line));
  };
  while (!run.ended) {
    run.machine.runSlice(3);
    await turn();
  }
  return {
    begin: {
      type: "xenolith-recording",
      format: FORMAT,
      version: "",
      scheduler: spec.scheduler,
      pcpus: spec.pcpus,
      memoryMiB: spec.memoryMiB,
      domains: ["echo"],
      source: null,
      files: [],
    },
    inputs,
    end: run.ending,
  };
}

/** Registers, time and console of an instant. */
const instant = (t: Timeline): string => {
  const { cpu, clock } = t.run.machine;
  const regs = Array.from({ length: 16 }, (_, i) => `${cpu.regHi(i)}:${cpu.regLo(i)}`).join(" ");
  return `${t.position} ${cpu.rip} ${cpu.rflags} ${clock.now()} ${regs} ${t.run.hashes.map((h) => h.text).join(" ")}`;
};

describe("steps through a replay", { timeout: 120_000 }, () => {
  let recording: Recording;
  beforeAll(async () => {
    recording = await record();
  }, 60_000);
  const replay = async (): Promise<Timeline> => new Timeline(await ExactRun.start(spec), recording, { turn });

  /** Where a whole run tells of a kind: each place once, in order. */
  async function placesOf(kind: StepKind): Promise<number[]> {
    const t = await replay();
    const places = new Set<number>();
    t.run.machine.xen.trace.add((r) => {
      if (r.kind === kind) places.add(Math.max(0, t.position - 1));
    });
    await t.forward();
    expect(t.differences()).toEqual([]);
    return [...places].sort((a, b) => a - b);
  }

  it.each(["hypercall", "event", "trap"] as const)(
    "by %s stop at every one, and at the same ones backwards",
    async (kind) => {
      const all = await placesOf(kind);
      if (kind !== "trap") expect(all.length).toBeGreaterThan(3);
      const t = await replay();
      const forwards: string[] = [];
      const visited: number[] = [];
      while (await stepForward(t, kind)) {
        visited.push(t.position);
        forwards.push(instant(t));
      }
      expect(visited).toEqual(all.filter((p) => p > 0));
      const backwards: string[] = [];
      while (await stepBack(t, kind)) if (t.position > 0) backwards.push(instant(t));
      expect(t.position).toBe(0);
      expect(backwards.reverse()).toEqual(forwards);
      await t.forward();
      expect(t.differences()).toEqual([]);
    },
  );

  it("by instruction are one instruction, and back is the same instant", async () => {
    const t = await replay();
    await t.seek(500);
    const here = instant(t);
    expect(await stepForward(t, "instruction")).toBe(true);
    expect(t.position).toBe(501);
    expect(instant(t)).not.toBe(here);
    expect(await stepBack(t, "instruction")).toBe(true);
    expect(instant(t)).toBe(here);
  });

  it("a hypercall's place is before it: one instruction further it has been made", async () => {
    const t = await replay();
    await stepForward(t, "hypercall");
    await stepForward(t, "hypercall");
    const { counters } = t.run.machine.xen;
    const before = counters.hypercalls;
    await stepForward(t, "instruction");
    expect(counters.hypercalls).toBe(before + 1);
  });

  it("there is nothing before the beginning and nothing after the end", async () => {
    const t = await replay();
    expect(await stepBack(t, "instruction")).toBe(false);
    expect(await stepBack(t, "hypercall")).toBe(false);
    await t.forward();
    const end = t.position;
    expect(await stepForward(t, "instruction")).toBe(false);
    expect(await stepForward(t, "event")).toBe(false);
    expect(t.position).toBe(end);
    expect(t.differences()).toEqual([]);
  });
});
