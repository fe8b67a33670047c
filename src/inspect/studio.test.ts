// A recorded run behind the interface of a lab: what its terminals and views show belongs to the instant, and looking changes nothing.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { parseRecording } from "../debug/replay/recording.js";
import { Studio, type StudioStatus } from "./studio.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const domain = {
  name: "echo",
  kernel: "guests/console-echo.elf",
  ramdisk: null,
  memoryMiB: 8,
  vcpus: 1,
  cmdline: "",
  network: false,
};
const sleep = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

function studio(): Studio {
  return new Studio({
    version: "test",
    read: (name) => readFile(join(root, name.replace("guests/", "guests/images/"))),
    sha256: async (bytes) => `sum-${bytes.reduce((a, b) => (a * 31 + b) >>> 0, 7)}`,
    turn: () => new Promise((done) => setImmediate(done)),
    sleep,
    inspect: { later: () => () => {} },
  });
}

/** A terminal that knows a full reset. */
async function terminal(s: Studio): Promise<{ text(): string; type(text: string): void }> {
  let text = "";
  const channel = await s.host.openConsole(1, 0, {
    data: (bytes) => {
      const said = new TextDecoder().decode(bytes);
      text = said === "\x1bc" ? "" : text + said;
    },
    end: () => {},
  });
  return { text: () => text, type: (t) => channel.write(new TextEncoder().encode(t)) };
}
async function until(what: () => boolean): Promise<void> {
  for (let i = 0; i < 1000 && !what(); i++) await sleep(5);
  expect(what()).toBe(true);
}

async function recorded(): Promise<{
  s: Studio;
  term: Awaited<ReturnType<typeof terminal>>;
  text: string;
  at: StudioStatus;
}> {
  const s = studio();
  await s.record({ page: true, domains: [domain] });
  const term = await terminal(s);
  await until(() => term.text().includes("quit"));
  term.type("good morning\r");
  await until(() => term.text().includes("you said: good morning"));
  term.type("quit\r");
  await until(() => s.status().ended);
  const text = term.text();
  return { s, term, text, at: await s.stop() };
}

describe("a recorded run", () => {
  test("is replayed from its beginning, and a terminal shows what had been said at the instant", async () => {
    const { s, term, text, at } = await recorded();
    expect(at).toMatchObject({ mode: "replay", position: 0, inputs: 2 });
    expect(term.text()).toBe("");
    expect(await s.move({ to: Infinity })).toMatchObject({ exact: true, ended: true });
    expect(term.text()).toBe(text);
    const middle = Math.floor(s.status().length * 0.6);
    await s.move({ to: middle });
    const half = term.text();
    expect(text.startsWith(half)).toBe(true);
    expect(half.length).toBeLessThan(text.length);
    await s.move({ step: "hypercall", by: -1 });
    await s.move({ step: "event", by: 1 });
    await s.move({ to: middle });
    expect(term.text()).toBe(half);
    await s.move("play");
    await until(() => s.status().exact === true);
    expect(term.text()).toBe(text);
  });

  test("looking at it changes nothing, and what would change it is refused", async () => {
    const { s } = await recorded();
    await s.move({ to: 5000 });
    const before = await s.inspect.cpu(1, 0);
    await s.inspect.trace({ after: -1, limit: 10 });
    await s.inspect.machine();
    await s.inspect.store(0);
    await s.inspect.memoryMap(1);
    expect(await s.inspect.cpu(1, 0)).toEqual(before);
    await expect(s.inspect.control(1, "stop")).rejects.toThrow(/not changed from outside/);
    await expect(s.inspect.writeStore("/x", "1")).rejects.toThrow(/not changed from outside/);
    await expect(s.host.destroy(1)).rejects.toThrow(/only what it began with/);
    expect(await s.move({ to: Infinity })).toMatchObject({ exact: true });
  });

  test("its trace tells nothing twice after going back, and nothing of what is yet to come", async () => {
    const { s } = await recorded();
    await s.inspect.trace({ after: -1, limit: 10 });
    await s.move({ to: Infinity });
    const all = (await s.inspect.trace({ after: -1, limit: 2000, kinds: ["hypercall"] })).lines;
    expect(all.length).toBeGreaterThan(10);
    await s.move({ to: 0 });
    await s.move({ to: Math.floor(s.status().length / 2) });
    const half = (await s.inspect.trace({ after: -1, limit: 2000, kinds: ["hypercall"] })).lines;
    expect(half.length).toBeLessThan(all.length);
    expect(half.map((l) => l.time)).toEqual(all.slice(0, half.length).map((l) => l.time));
  });

  test("as a file it is replayed again; another kernel, and one that is not there, are refused", async () => {
    const { s } = await recorded();
    const file = s.file();
    expect(parseRecording(file).inputs).toHaveLength(2);
    const again = studio();
    await again.openFile(file);
    expect(await again.move({ to: Infinity })).toMatchObject({ exact: true });
    await expect(studio().openFile(file.replace(/sum-\d/, "sum-x"))).rejects.toThrow(/is not what it was/);
    await expect(studio().openFile(file.replaceAll("console-echo.elf", "none.elf"))).rejects.toThrow();
    await expect(studio().openFile(file.replace('"memoryMiB":8,', ""))).rejects.toThrow(/damaged/);
  });
});
