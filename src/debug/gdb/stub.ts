/**
 * The remote stub that gdb talks to: one domain is the inferior, its vCPUs are the threads 1, 2, …
 * A state machine over bytes (the GDB manual, "Remote Protocol"): `receive` takes what came, `send` gets what goes.
 *
 * All-stop mode. Time goes on for the other domains while this one stands still. Under a replay (`history`), gdb's reverse commands work too.
 */
import { SHUTDOWN_poweroff } from "../../abi/sched.js";
import type { Va } from "../../machine/cpu/api.js";
import type { Vcpu } from "../../hypervisor/vcpu.js";
import type { Debugger, ResumeMode, Stop, WatchKind } from "../debugger.js";
import { fromHex, packet, PACKET_MAX, PacketReader, toHex } from "./packet.js";
import { readRegister, REGISTERS, targetXml, writeRegister } from "./registers.js";

/** The way back in a replay: each leaves the domain stopped and tells `onStop`. */
export interface History {
  /** To before the previous instruction of a vCPU. */
  stepBack(vcpu: number): void;
  /** To the last breakpoint or watchpoint hit before now, or to the beginning. */
  continueBack(): void;
}

export interface StubOptions {
  readonly history?: History | undefined;
  /** What `monitor` commands print; null: not known. */
  readonly monitor?: ((command: string) => string | null) | undefined;
  /** gdb's `kill`. */
  readonly kill?: (() => void) | undefined;
}

const SIGINT = 2,
  SIGTRAP = 5,
  SIGABRT = 6;
const text = new TextDecoder("latin1");
const bytesOf = (s: string): Uint8Array => Uint8Array.from(s, (c) => c.charCodeAt(0));
const hex = (n: number): string => n.toString(16);
const OK = "OK";
/** EINVAL, EFAULT as gdb shows them. */
const E_INVAL = "E16",
  E_FAULT = "E0e";

/** An address of 64 bits in hexadecimal, as a sign-extended number; NaN for what is none or not canonical. */
function vaOf(s: string): Va {
  if (!/^[0-9a-fA-F]{1,16}$/.test(s)) return NaN;
  const padded = s.padStart(16, "0");
  const hi = parseInt(padded.slice(0, 8), 16) | 0;
  if (hi >> 15 !== 0 && hi >> 15 !== -1) return NaN;
  return hi * 4294967296 + parseInt(padded.slice(8), 16);
}
const count = (s: string): number => (/^[0-9a-fA-F]{1,8}$/.test(s) ? parseInt(s, 16) : NaN);
function vaHex(va: Va): string {
  const hi = Math.floor(va / 4294967296) >>> 0;
  return hex(hi) + (va >>> 0).toString(16).padStart(8, "0");
}

const WATCH_KINDS: Readonly<Record<string, WatchKind>> = { 2: "write", 3: "read", 4: "access" };
const WATCH_WORDS: Readonly<Record<WatchKind, string>> = { write: "watch", read: "rwatch", access: "awatch" };

export class GdbStub {
  private readonly reader: PacketReader;
  private last: Uint8Array | null = null;
  private why: Stop = { kind: "interrupt", vcpu: 0 };
  /** Threads that `g` and memory reads, and that `s` and `c` mean. */
  private general = 0;
  private cont = -1;
  /** gdb waits for the end of a resume. */
  private running = false;
  private gone = false;

  constructor(
    private readonly debug: Debugger,
    private readonly send: (bytes: Uint8Array) => void,
    private readonly options: StubOptions = {},
  ) {
    this.reader = new PacketReader(send);
    debug.onStop = (stop) => this.onStop(stop);
  }

  receive(bytes: Uint8Array): void {
    for (const got of this.reader.push(bytes)) {
      if (this.gone) return;
      if (got.kind === "interrupt") this.debug.interrupt();
      else if (got.kind === "again") {
        if (this.last !== null) this.send(this.last);
      } else this.command(got.text);
    }
  }

  /** The connection is gone: the domain goes on. */
  close(): void {
    if (this.gone) return;
    this.gone = true;
    this.debug.detach();
  }

  private reply(answer: string | Uint8Array): void {
    this.last = packet(typeof answer === "string" ? bytesOf(answer) : answer);
    this.send(this.last);
  }

  private onStop(stop: Stop): void {
    this.why = stop;
    if (!this.running || this.gone) return;
    this.running = false;
    if ("vcpu" in stop) this.general = this.cont = stop.vcpu;
    this.reply(this.stopReply());
  }

  private stopReply(): string {
    const { why } = this;
    switch (why.kind) {
      case "ended":
        return why.code === SHUTDOWN_poweroff ? "W00" : `W${hex(why.code & 0xff).padStart(2, "0")}`;
      case "crash":
        return `T${hex(SIGABRT).padStart(2, "0")}${this.threadOf(why.vcpu)}`;
      case "interrupt":
        return `T${hex(SIGINT).padStart(2, "0")}${this.threadOf(why.vcpu)}`;
      case "watch":
        return `T05${this.threadOf(why.vcpu)}${WATCH_WORDS[why.watch]}:${vaHex(why.va)};`;
      case "break":
        return `T05${this.threadOf(why.vcpu)}hwbreak:;`;
      case "beginning":
        return `T05${this.threadOf(why.vcpu)}replaylog:begin;`;
      case "end":
        return `T05${this.threadOf(why.vcpu)}replaylog:end;`;
      case "step":
        return `T${hex(SIGTRAP).padStart(2, "0")}${this.threadOf(why.vcpu)}`;
    }
  }
  private threadOf(vcpu: number): string {
    return `thread:${hex(vcpu + 1)};`;
  }

  private vcpu(n = this.general): Vcpu | undefined {
    return this.debug.domain.vcpus[n];
  }

  private command(bytes: Uint8Array): void {
    const s = text.decode(bytes);
    const rest = s.slice(1);
    if (this.debug.domain.dying && !"qH?".includes(s[0] ?? "")) return this.reply(E_INVAL);
    switch (s[0]) {
      case "?":
        return this.reply(this.stopReply());
      case "q":
        return this.query(s);
      case "Q":
        if (s !== "QStartNoAckMode") return this.reply("");
        this.reply(OK);
        this.reader.acks = false;
        return;
      case "H":
        return this.setThread(rest);
      case "T":
        return this.reply(this.vcpu(count(rest) - 1) === undefined ? E_INVAL : OK);
      case "g":
        return this.reply(this.allRegisters());
      case "G":
        return this.reply(this.setAllRegisters(rest) ? OK : E_INVAL);
      case "p":
        return this.reply(this.oneRegister(count(rest)));
      case "P": {
        const [n = "", value = ""] = rest.split("=");
        return this.reply(this.setRegister(count(n), fromHex(value)) ? OK : E_INVAL);
      }
      case "m":
        return this.readMemory(rest);
      case "M":
        return this.writeMemory(rest.split(":")[0] ?? "", fromHex(rest.slice(rest.indexOf(":") + 1)));
      case "X":
        return this.writeMemory(rest.split(":")[0] ?? "", bytes.subarray(s.indexOf(":") + 1));
      case "Z":
      case "z":
        return this.point(s[0] === "Z", rest);
      case "c":
      case "s":
        return this.resume(s[0] === "c" ? "run" : "step", rest);
      case "v":
        return this.verbose(s);
      case "b":
        return this.back(s);
      case "D":
        this.reply(OK);
        this.close();
        return;
      case "k":
        this.options.kill?.();
        this.close();
        return;
      default:
        return this.reply("");
    }
  }

  // --- queries --------------------------------------------------------------------------------------------------------------------

  private query(s: string): void {
    const { vcpus } = this.debug.domain;
    if (s.startsWith("qSupported")) {
      const back = this.options.history === undefined ? "" : ";ReverseStep+;ReverseContinue+";
      return this.reply(
        `PacketSize=${hex(PACKET_MAX)};QStartNoAckMode+;qXfer:features:read+;qXfer:threads:read+;hwbreak+;vContSupported+${back}`,
      );
    }
    if (s === "qC") return this.reply(`QC${hex(this.general + 1)}`);
    if (s === "qfThreadInfo") return this.reply(`m${vcpus.map((v) => hex(v.id + 1)).join(",")}`);
    if (s === "qsThreadInfo") return this.reply("l");
    if (s.startsWith("qThreadExtraInfo,")) {
      const v = this.vcpu(count(s.slice(17)) - 1);
      return this.reply(v === undefined ? E_INVAL : toHex(bytesOf(this.describe(v))));
    }
    if (s.startsWith("qAttached")) return this.reply("1");
    if (s === "qOffsets" || s === "qSymbol::") return this.reply(s === "qSymbol::" ? OK : "");
    if (s.startsWith("qXfer:features:read:target.xml:")) return this.transfer(targetXml(), s.slice(31));
    if (s.startsWith("qXfer:threads:read::")) {
      const rows = vcpus.map((v) => `<thread id="${hex(v.id + 1)}" name="vcpu${v.id}">${this.describe(v)}</thread>`);
      return this.transfer(`<?xml version="1.0"?><threads>${rows.join("")}</threads>`, s.slice(20));
    }
    if (s.startsWith("qRcmd,")) {
      const command = fromHex(s.slice(6));
      const answer = command === null ? null : (this.options.monitor?.(text.decode(command).trim()) ?? null);
      return this.reply(answer === null ? "" : answer === "" ? OK : toHex(new TextEncoder().encode(answer)));
    }
    this.reply("");
  }

  private describe(v: Vcpu): string {
    if (!v.up) return "offline";
    return v.kernelMode ? "kernel" : "user";
  }

  private transfer(whole: string, range: string): void {
    const [from, len] = range.split(",").map(count);
    if (from === undefined || len === undefined || Number.isNaN(from + len)) return this.reply(E_INVAL);
    const part = whole.slice(from, from + Math.min(len, PACKET_MAX - 16));
    this.reply((from + part.length < whole.length ? "m" : "l") + part);
  }

  private setThread(rest: string): void {
    const id = rest.slice(1);
    // −1: all, 0: any.
    const n = id === "-1" || id === "0" ? -1 : count(id) - 1;
    if (n !== -1 && this.vcpu(n) === undefined) return this.reply(E_INVAL);
    if (rest.startsWith("c")) this.cont = n;
    else this.general = n === -1 ? ("vcpu" in this.why ? this.why.vcpu : 0) : n;
    this.reply(OK);
  }

  // --- registers and memory -------------------------------------------------------------------------------------------------------

  private allRegisters(): string {
    const v = this.vcpu();
    if (v === undefined) return E_INVAL;
    return this.debug.onVcpu(v, (cpu) => {
      const fx = cpu.fxsave();
      return REGISTERS.map((_, n) => toHex(readRegister(cpu, n, fx) ?? new Uint8Array(0))).join("");
    });
  }
  private setAllRegisters(values: string): boolean {
    const v = this.vcpu();
    const bytes = fromHex(values);
    if (v === undefined || bytes === null) return false;
    return this.debug.onVcpu(v, (cpu) => {
      let at = 0;
      REGISTERS.forEach((r, n) => {
        // Some cannot be changed; gdb sends them all the same.
        if (at + r.bytes <= bytes.length) writeRegister(cpu, n, bytes.subarray(at, at + r.bytes));
        at += r.bytes;
      });
      return true;
    });
  }
  private oneRegister(n: number): string {
    const v = this.vcpu();
    if (v === undefined) return E_INVAL;
    const value = this.debug.onVcpu(v, (cpu) => readRegister(cpu, n, cpu.fxsave()));
    return value === null ? E_INVAL : toHex(value);
  }
  private setRegister(n: number, value: Uint8Array | null): boolean {
    const v = this.vcpu();
    if (v === undefined || value === null) return false;
    return this.debug.onVcpu(v, (cpu) => writeRegister(cpu, n, value));
  }

  private readMemory(range: string): void {
    const [at = "", len = ""] = range.split(",");
    const va = vaOf(at);
    const n = count(len);
    const v = this.vcpu();
    if (v === undefined || Number.isNaN(va) || !(n >= 0)) return this.reply(E_INVAL);
    const got = this.debug.readMemory(v, va, Math.min(n, (PACKET_MAX - 16) / 2));
    this.reply(got.length === 0 && n > 0 ? E_FAULT : toHex(got));
  }
  private writeMemory(range: string, bytes: Uint8Array | null): void {
    const [at = "", len = ""] = range.split(",");
    const va = vaOf(at);
    const v = this.vcpu();
    if (v === undefined || bytes === null || Number.isNaN(va) || count(len) !== bytes.length)
      return this.reply(E_INVAL);
    this.reply(this.debug.writeMemory(v, va, bytes) ? OK : E_FAULT);
  }

  // --- stopping and going ---------------------------------------------------------------------------------------------------------

  private point(set: boolean, rest: string): void {
    const [type = "", at = "", size = ""] = (rest.split(";")[0] ?? "").split(",");
    const va = vaOf(at);
    if (Number.isNaN(va)) return this.reply(E_INVAL);
    if (type === "0" || type === "1") {
      if (set) this.debug.setBreakpoint(va);
      else this.debug.clearBreakpoint(va);
      return this.reply(OK);
    }
    const kind = WATCH_KINDS[type];
    const len = count(size);
    if (kind === undefined) return this.reply("");
    if (!(len >= 1 && len <= 4096)) return this.reply(E_INVAL);
    if (set) this.debug.setWatchpoint(va, len, kind);
    else this.debug.clearWatchpoint(va, len, kind);
    this.reply(OK);
  }

  private resume(mode: ResumeMode, address: string): void {
    const n = this.cont < 0 ? this.general : this.cont;
    if (address !== "") {
      const va = vaOf(address);
      const v = this.vcpu(n);
      if (Number.isNaN(va) || v === undefined) return this.reply(E_INVAL);
      this.debug.onVcpu(v, (cpu) => {
        cpu.rip = va;
      });
    }
    const modes: ResumeMode[] = this.debug.domain.vcpus.map(() => "run");
    if (mode === "step") modes[n] = "step";
    this.go(modes);
  }

  private verbose(s: string): void {
    if (s === "vCont?") return this.reply("vCont;c;C;s;S");
    if (s.startsWith("vCont;")) {
      const { vcpus } = this.debug.domain;
      const modes: (ResumeMode | undefined)[] = vcpus.map(() => undefined);
      let others: ResumeMode = "hold";
      for (const action of s.slice(6).split(";")) {
        const [what = "", thread] = action.split(":");
        const mode = /^[cC]/.test(what) ? "run" : /^[sS]/.test(what) ? "step" : undefined;
        if (mode === undefined) return this.reply(E_INVAL);
        // The first action that names a thread holds for it.
        if (thread === undefined || thread === "-1") {
          others = mode;
          break;
        }
        const n = count(thread) - 1;
        if (n < 0 || n >= vcpus.length) return this.reply(E_INVAL);
        modes[n] ??= mode;
      }
      return this.go(modes.map((m) => m ?? others));
    }
    if (s.startsWith("vKill")) {
      this.reply(OK);
      this.options.kill?.();
      this.close();
      return;
    }
    this.reply("");
  }

  private go(modes: readonly ResumeMode[]): void {
    this.running = true;
    this.debug.resume(modes);
  }

  private back(s: string): void {
    const { history } = this.options;
    if (history === undefined || (s !== "bs" && s !== "bc")) return this.reply("");
    this.running = true;
    if (s === "bs") history.stepBack(this.cont < 0 ? this.general : this.cont);
    else history.continueBack();
  }
}
