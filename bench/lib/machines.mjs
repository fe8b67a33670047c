// One booted guest of either side, at the other end of a console: `ask` sends a line and waits for the answer, never for ever.
import { spawn } from "node:child_process";
import { join } from "node:path";
import { performance } from "node:perf_hooks";

export const QEMU = "qemu-system-x86_64";
export const MEMORY_MIB = 256;

const RUN = 'run="sh /bench/run"';

function command(kind, root, kernel, initramfs) {
  if (kind === "qemu") {
    const machine = ["-accel", "tcg", "-smp", "1", "-m", String(MEMORY_MIB), "-no-reboot", "-net", "none"];
    const console = ["-display", "none", "-monitor", "none", "-serial", "stdio"];
    const guest = ["-kernel", kernel, "-initrd", initramfs, "-append", `console=ttyS0 panic=-1 ${RUN}`];
    return [QEMU, [...machine, ...console, ...guest]];
  }
  const guest = ["--ramdisk", initramfs, "--memory", String(MEMORY_MIB), "--vcpus", "1"];
  return [
    process.execPath,
    [join(root, "bin/xenolith.js"), "run", kernel, ...guest, "--cmdline", `console=hvc0 panic=-1 ${RUN}`],
  ];
}

/** What stands on a line of its own: a marker, wherever the console put its carriage returns. */
const MARKER = /^@(ready|b|e|c|bye)(?: (.*))?$/;

export class BenchMachine {
  #child;
  #line = "";
  #tail = "";
  #waiting = [];
  #gone = null;
  /** Milliseconds of the host from the start of the process to the guest's first program. */
  powerOnMs = null;

  constructor(kind, root, kernel, initramfs) {
    this.kind = kind;
    const [file, argv] = command(kind, root, kernel, initramfs);
    this.started = performance.now();
    this.#child = spawn(file, argv, { stdio: ["pipe", "pipe", "pipe"] });
    this.#child.stdout.on("data", (chunk) => this.#data(chunk));
    this.#child.stderr.on("data", (chunk) => (this.#tail = (this.#tail + chunk).slice(-2000)));
    this.#child.stdin.on("error", () => {});
    this.#child.on("error", (e) => this.#end(e.message));
    this.#child.on("close", (code, signal) => this.#end(`it ended (${signal ?? code})`));
  }

  #data(chunk) {
    const at = performance.now();
    const text = chunk.toString("latin1");
    this.#tail = (this.#tail + text).slice(-2000);
    const lines = (this.#line + text).split(/[\r\n]+/);
    this.#line = lines.pop();
    for (const line of lines) {
      const m = MARKER.exec(line);
      if (m !== null) this.#marker({ name: m[1], rest: m[2] ?? "", at });
    }
  }
  #marker(m) {
    const w = this.#waiting[0];
    if (w === undefined || w.name !== m.name) return;
    this.#waiting.shift();
    w.resolve(m);
  }
  #end(why) {
    this.#gone ??= why;
    for (const w of this.#waiting.splice(0)) w.reject(new Error(this.#said(why)));
  }
  #said(why) {
    const last = this.#tail
      .replace(/[^\x20-\x7e\n]/g, "")
      .trim()
      .split("\n")
      .slice(-3)
      .join(" / ");
    return `${this.kind}: ${why}; its last words: ${last}`;
  }

  /** The next marker of this name. */
  #expect(name, limitMs) {
    return new Promise((resolve, reject) => {
      if (this.#gone !== null) {
        reject(new Error(this.#said(this.#gone)));
        return;
      }
      const timer = setTimeout(() => {
        this.kill();
        reject(new Error(this.#said(`no answer after ${Math.round(limitMs / 1000)} s`)));
      }, limitMs);
      const done = (f) => (x) => {
        clearTimeout(timer);
        f(x);
      };
      this.#waiting.push({ name, resolve: done(resolve), reject: done(reject) });
    });
  }
  #send(text) {
    this.#child.stdin.write(`${text}\n`);
  }

  async boot(limitMs) {
    const m = await this.#expect("ready", limitMs);
    this.powerOnMs = m.at - this.started;
  }
  async prepare(limitMs) {
    const end = this.#expect("e", limitMs);
    this.#send("prepare");
    const { rest } = await end;
    if (rest !== "0") throw new Error(this.#said(`its files cannot be made (status ${rest})`));
  }
  /** Seconds since boot by the guest's clock, and the host's time of the answer. */
  async clock(limitMs) {
    const end = this.#expect("e", limitMs);
    this.#send("clock");
    const { rest, at } = await end;
    return { guest: Number(rest) * 1000, host: at };
  }
  /** Do work number n: milliseconds of the host, a checksum of what it printed, and what it said on standard error. */
  async work(n, limitMs) {
    const markers = [this.#expect("b", limitMs), this.#expect("e", limitMs), this.#expect("c", limitMs)];
    this.#send(String(n));
    const [b, e, c] = await Promise.all(markers);
    const [sum, ...err] = c.rest.split(" ");
    if (e.rest !== "0") throw new Error(`${this.kind}: status ${e.rest}: ${err.join(" ")}`);
    return { ms: e.at - b.at, sum, said: err.join(" ").trim() };
  }
  async quit(limitMs = 10_000) {
    if (this.#gone !== null) return;
    const end = this.#expect("bye", limitMs);
    this.#send("quit");
    await end.catch(() => {});
    this.kill();
  }
  kill() {
    this.#child.kill("SIGKILL");
  }
}
