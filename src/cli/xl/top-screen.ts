/**
 * The live screen of `xl top`: the alternate screen of the terminal, drawn anew at every look and at every key.
 *
 * Invariant: whatever way out (a key, a signal, an error), the screen, the cursor and the terminal's mode are given back.
 */
import type { Xl } from "./command.js";
import { takeSample, type Sample } from "./top-data.js";
import { COLUMNS, domainLines, headLine, sorted, type TopLines } from "./top-format.js";
import type { TopOptions } from "./top.js";

const ENTER = "\x1b[?1049h\x1b[?25l";
const LEAVE = "\x1b[?25h\x1b[?1049l";
const HOME = "\x1b[H";
const REST_OF_LINE = "\x1b[K";
const REST_OF_SCREEN = "\x1b[J";
const REVERSE = "\x1b[7m";
const PLAIN = "\x1b[0m";
/** Seconds by Del. */
const KEYS = " Delay  Networks  vBds  Vcpus  Repeat header  Sort order  Quit ";

export interface TopView {
  lines: TopLines;
  repeatHead: boolean;
  /** Index into the columns. */
  sortBy: number;
  /** First row that is shown. */
  scroll: number;
  delayMs: number;
  /** What is typed for a new delay. */
  entry: string | undefined;
}

/** The lines above the table. */
function summary(s: Sample, clock: string): string[] {
  const { host, domains } = s;
  const count = (of: (d: Sample["domains"][number]) => boolean): number => domains.filter(of).length;
  const used = host.totalMemory - host.freeMemory;
  return [
    `xentop - ${clock}   Xen ${host.xenMajor}.${host.xenMinor}${host.xenExtra}`,
    `${domains.length} domains: ${count((d) => d.info.running)} running, ${count((d) => d.info.blocked)} blocked, ${count((d) => d.info.paused)} paused, ${count((d) => d.info.crashed)} crashed, ${count((d) => d.info.dying)} dying, ${count((d) => d.info.shutdown)} shutdown`,
    `Mem: ${host.totalMemory * 1024}k total, ${used * 1024}k used, ${host.freeMemory * 1024}k free    CPUs: ${host.nrCpus} @ ${Math.round(host.cpuMhz)}MHz`,
  ];
}

/** The whole picture, exactly `rows` lines. Pure, for tests. */
export function draw(
  s: Sample,
  view: TopView,
  clock: string,
  size: { readonly columns: number; readonly rows: number },
): string[] {
  const table: string[] = [];
  const domains = sorted(s, view.sortBy);
  domains.forEach((d, i) => {
    if (view.repeatHead && i > 0) table.push(headLine(s, view.lines.full));
    table.push(...domainLines(d, s, view.lines));
  });
  const head = summary(s, clock);
  const room = Math.max(1, size.rows - head.length - 2);
  const from = Math.min(view.scroll, Math.max(0, table.length - room));
  const body = table.slice(from, from + room);
  while (body.length < room) body.push("");
  const bottom =
    view.entry === undefined
      ? `${KEYS}  (${view.delayMs / 1000} s, by ${COLUMNS[view.sortBy].head})`
      : ` Delay in seconds: ${view.entry}_`;
  const fit = (line: string): string => line.slice(0, size.columns);
  return [
    ...head.map(fit),
    `${REVERSE}${fit(headLine(s, view.lines.full).padEnd(size.columns))}${PLAIN}`,
    ...body.map(fit),
    `${REVERSE}${fit(bottom.padEnd(size.columns))}${PLAIN}`,
  ].slice(0, Math.max(1, size.rows));
}

/** What a key does to the view; "quit" ends. Pure, for tests. */
export function press(view: TopView, key: string): "quit" | "draw" | "ignored" {
  if (view.entry !== undefined) {
    if (/^[0-9.]$/.test(key)) view.entry += key;
    else if (key === "\x7f" || key === "\b") view.entry = view.entry.slice(0, -1);
    else if (key === "\r" || key === "\n") {
      const seconds = Number(view.entry);
      if (seconds > 0) view.delayMs = seconds * 1000;
      view.entry = undefined;
    } else if (key === "\x1b") view.entry = undefined;
    else if (key === "\x03") return "quit";
    else return "ignored";
    return "draw";
  }
  const { lines } = view;
  switch (key) {
    case "q":
    case "Q":
    case "\x03":
    case "\x1b":
      return "quit";
    case "n":
    case "N":
      view.lines = { ...lines, networks: !lines.networks };
      return "draw";
    case "b":
    case "B":
      view.lines = { ...lines, disks: !lines.disks };
      return "draw";
    case "v":
    case "V":
      view.lines = { ...lines, vcpus: !lines.vcpus };
      return "draw";
    case "r":
    case "R":
      view.repeatHead = !view.repeatHead;
      return "draw";
    case "s":
    case "S":
      view.sortBy = (view.sortBy + 1) % COLUMNS.length;
      return "draw";
    case "d":
    case "D":
      view.entry = "";
      return "draw";
    case "\x1b[A":
      view.scroll = Math.max(0, view.scroll - 1);
      return "draw";
    case "\x1b[B":
      view.scroll++;
      return "draw";
    case "\f":
    case " ":
      return "draw";
    default:
      return "ignored";
  }
}

/** Keys of a chunk of input: escape sequences in one piece. */
export function keysOf(text: string): string[] {
  return text.match(/\x1b\[[0-9;]*[A-Za-z~]|[\s\S]/g) ?? [];
}

export async function liveTop(xl: Xl, options: TopOptions): Promise<void> {
  const host = await xl.host();
  const { io } = xl;
  const view: TopView = {
    lines: options.lines,
    repeatHead: options.repeatHead,
    sortBy: 0,
    scroll: 0,
    delayMs: options.delayMs,
    entry: undefined,
  };
  let sample: Sample = await takeSample(host, io.now());
  let wake: () => void = () => {};
  let ended = false;
  const paint = (): void => {
    const lines = draw(sample, view, io.clock(), io.size());
    io.out(`${HOME}${lines.map((l) => `${l}${REST_OF_LINE}`).join("\r\n")}${REST_OF_SCREEN}`);
  };
  const onData = (chunk: Uint8Array): void => {
    for (const key of keysOf(new TextDecoder().decode(chunk))) {
      const what = press(view, key);
      if (what === "quit") ended = true;
      if (what !== "ignored" && !ended) paint();
    }
    if (ended) wake();
  };
  let restored = false;
  const restore = (): void => {
    if (restored) return;
    restored = true;
    io.stdin.off("data", onData);
    io.stdin.pause();
    if (io.stdin.isTTY === true) io.stdin.setRawMode?.(false);
    io.out(LEAVE);
  };
  io.atExit(restore);
  const release = io.onInterrupt(() => {
    ended = true;
    wake();
  });
  try {
    if (io.stdin.isTTY === true) io.stdin.setRawMode?.(true);
    io.out(ENTER);
    io.stdin.on("data", onData);
    io.stdin.resume();
    paint();
    for (let n = 1; !ended && (options.iterations === 0 || n < options.iterations); n++) {
      await Promise.race([io.sleep(view.delayMs), new Promise<void>((resolve) => (wake = resolve))]);
      if (ended) break;
      sample = await takeSample(host, io.now(), sample);
      paint();
    }
  } finally {
    release();
    restore();
  }
}
