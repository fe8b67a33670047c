/**
 * What `xl` needs of the world around it: streams, the clock, the files it reads itself. Tests give their own.
 *
 * Invariant: commands print through this only, so that a replay sees every byte and its stream.
 */
import { closeSync, openSync, readFileSync, readSync, statSync } from "node:fs";
import { release, version } from "node:os";
import { resolve } from "node:path";
import type { TerminalInput } from "../terminal.js";

export interface XlIo {
  out(text: string): void;
  err(text: string): void;
  /** Bytes of a guest's console. */
  outBytes(bytes: Uint8Array): void;
  readonly outIsTty: boolean;
  readonly stdin: TerminalInput;
  /** Columns and lines of the terminal. */
  size(): { readonly columns: number; readonly rows: number };
  readonly cwd: string;
  readonly pid: number;
  /** What this machine runs on. */
  readonly os: { readonly release: string; readonly version: string };
  /** Milliseconds from the epoch. */
  now(): number;
  /** `hh:mm:ss` of the local clock. */
  clock(): string;
  sleep(ms: number): Promise<void>;
  /** Throws an Error with a `code` as Node's file functions do. */
  readFile(path: string): Uint8Array;
  /** The first bytes of a file, fewer where it is shorter. */
  readHead(path: string, length: number): Uint8Array;
  exists(path: string): boolean;
  /** Called at Ctrl-C and the like; the result stops that. */
  onInterrupt(handler: () => void): () => void;
  /** An end that must happen at exit, whatever the way out. */
  atExit(handler: () => void): void;
}

export function nodeIo(): XlIo {
  // A reader that went away (`xl list | head -1`) ends the command as it ends any other.
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", (e: NodeJS.ErrnoException) => process.exit(e.code === "EPIPE" ? 141 : 1));
  }
  const cwd = process.cwd();
  return {
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    outBytes: (bytes) => void process.stdout.write(bytes),
    outIsTty: process.stdout.isTTY === true,
    stdin: process.stdin,
    size: () => ({ columns: process.stdout.columns || 80, rows: process.stdout.rows || 24 }),
    cwd,
    pid: process.pid,
    os: { release: release(), version: version() },
    now: () => Date.now(),
    clock: () => new Date().toTimeString().slice(0, 8),
    sleep: (ms) => new Promise((done) => setTimeout(done, ms)),
    readFile: (path) => readFileSync(resolve(cwd, path)),
    readHead: (path, length) => {
      const fd = openSync(resolve(cwd, path), "r");
      try {
        const bytes = new Uint8Array(length);
        return bytes.subarray(0, readSync(fd, bytes, 0, length, 0));
      } finally {
        closeSync(fd);
      }
    },
    exists: (path) => statSync(resolve(cwd, path), { throwIfNoEntry: false }) !== undefined,
    onInterrupt: (handler) => {
      const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
      for (const s of signals) process.on(s, handler);
      return () => {
        for (const s of signals) process.off(s, handler);
      };
    },
    atExit: (handler) => void process.once("exit", handler),
  };
}
