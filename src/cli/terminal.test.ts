import { EventEmitter } from "node:events";
import { describe, expect, it } from "vitest";
import { LineSplitter, Output } from "./output.js";
import { Terminal, type TerminalInput } from "./terminal.js";

class FakeTty extends EventEmitter {
  isTTY = true;
  raw = false;
  flowing = false;
  setRawMode(raw: boolean): void {
    this.raw = raw;
  }
  resume(): void {
    this.flowing = true;
  }
  pause(): void {
    this.flowing = false;
  }
  type(text: string): void {
    this.emit("data", Buffer.from(text));
  }
}

function setUp(tty = true, room = () => true) {
  const input = new FakeTty();
  input.isTTY = tty;
  const seen: string[] = [];
  let detached = 0;
  const terminal = new Terminal(input as unknown as TerminalInput, {
    onInput: (bytes) => room() && seen.push(Buffer.from(bytes).toString()) > 0,
    onDetach: () => detached++,
  });
  return { input, seen, terminal, detached: () => detached };
}

describe("the terminal", () => {
  it("is raw while the console is on it, and restored after", () => {
    const { input, terminal } = setUp();
    terminal.open();
    expect(input).toMatchObject({ raw: true, flowing: true });
    terminal.close();
    expect(input).toMatchObject({ raw: false, flowing: false });
    terminal.close();
  });

  it("is restored when the process exits without a word", () => {
    const before = process.listenerCount("exit");
    const { input, terminal } = setUp();
    terminal.open();
    expect(process.listenerCount("exit")).toBe(before + 1);
    (process.listeners("exit").at(-1) as () => void)();
    expect(input.raw).toBe(false);
    expect(process.listenerCount("exit")).toBe(before);
  });

  it("hands Ctrl-C to the guest", () => {
    const { input, seen, terminal, detached } = setUp();
    terminal.open();
    input.type("\x03");
    expect(seen).toEqual(["\x03"]);
    expect(detached()).toBe(0);
    terminal.close();
  });

  it("detaches on Ctrl-], after what was typed before it", () => {
    const { input, seen, terminal, detached } = setUp();
    terminal.open();
    input.type("ls\x1drm");
    expect(seen).toEqual(["ls"]);
    expect(detached()).toBe(1);
    terminal.close();
  });

  it("takes a pipe as it is: no raw mode, no detach key, no end", () => {
    const { input, seen, terminal, detached } = setUp(false);
    terminal.open();
    input.type("a\x1db");
    input.emit("end");
    expect(input.raw).toBe(false);
    expect(seen).toEqual(["a\x1db"]);
    expect(detached()).toBe(0);
    terminal.close();
  });

  it("keeps what the guest has no room for, in order, and stops reading meanwhile", () => {
    let room = false;
    const { input, seen, terminal } = setUp(true, () => room);
    terminal.open();
    input.type("one");
    input.type("two");
    expect(input.flowing).toBe(false);
    terminal.retry();
    expect(seen).toEqual([]);
    room = true;
    terminal.retry();
    expect(seen).toEqual(["one", "two"]);
    expect(input.flowing).toBe(true);
    terminal.close();
  });
});

describe("output", () => {
  it("starts a message at the left edge of a terminal that both share", () => {
    const all: string[] = [];
    const sink = (isTTY: boolean) => ({
      isTTY,
      write: (d: Uint8Array | string) => all.push(Buffer.from(d).toString()),
    });
    const shared = new Output(sink(true), sink(true));
    shared.console(Buffer.from("/ # "));
    shared.line("gone");
    shared.line("really");
    expect(all.splice(0).join("")).toBe("/ # \ngone\nreally\n");
    const apart = new Output(sink(false), sink(true));
    apart.console(Buffer.from("/ # "));
    apart.line("gone");
    expect(all.join("")).toBe("/ # gone\n");
  });

  it("cuts another domain's console into lines that drive no terminal", () => {
    const lines: string[] = [];
    const splitter = new LineSplitter((l) => lines.push(l));
    splitter.push(Buffer.from("one\r\ntw"));
    splitter.push(Buffer.from("o \x1b[2J\nrest"));
    splitter.end();
    expect(lines).toEqual(["one", "two [2J", "rest"]);
  });
});
