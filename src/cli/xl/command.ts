/** What a command of `xl` is: its place in the table, and the context it runs in. */
import { resolve } from "node:path";
import type { DeviceInfo, DomainInfo, HostApi } from "../../toolstack/host/api.js";
import { HostError } from "../../toolstack/host/api.js";
import { XlExit, FAILURE, OK, USAGE } from "./exit.js";
import { getopt, OptionError, type OptionSpec } from "./getopt.js";
import type { XlIo } from "./io.js";
import { printHelp } from "./usage.js";

export interface Command {
  readonly name: string;
  /** What follows the name in the usage line: an interface, as xl has it. */
  readonly synopsis: string;
  /** In words of our own, without the full stop. */
  readonly brief: string;
  /** Lines below `Options:`. */
  readonly options?: string | undefined;
  /** It changes something: `-f` is offered. */
  readonly modifies?: boolean | undefined;
  /** It has a dry run: `-N` is offered. */
  readonly dryRun?: boolean | undefined;
  readonly spec?: OptionSpec | undefined;
  /** Arguments it takes at least. */
  readonly least?: number | undefined;
  run(xl: Xl, args: readonly string[]): Promise<number> | number;
}

export interface Globals {
  /** How many `-v`. */
  readonly verbose: number;
  readonly force: boolean;
  readonly dryRun: boolean;
  /** Progress on one line (`-t`). */
  readonly carriageReturn: boolean;
  readonly timestamps: boolean;
}

/** The host and how it is reached: once, at the first need. */
export type Connect = () => Promise<HostApi>;

/** As many `-v` as show libxl's debug messages. */
const DEBUG = 3;
/** An argument of a request, no longer than a line takes. */
const brief = (value: unknown): string =>
  typeof value === "function" ? "…" : (JSON.stringify(value) ?? "").slice(0, 60);

export class Xl {
  private connected: Promise<HostApi> | undefined;

  constructor(
    readonly io: XlIo,
    readonly globals: Globals,
    readonly command: Command,
    private readonly connect: Connect,
  ) {}

  host(): Promise<HostApi> {
    return (this.connected ??= this.connect().then((host) =>
      this.globals.verbose >= DEBUG ? this.traced(host) : host,
    ));
  }

  /** `-vvv`: every request to the host, and how long its answer took. */
  private traced(host: HostApi): HostApi {
    return new Proxy(host, {
      get: (target, name): unknown => {
        const member: unknown = Reflect.get(target, name);
        if (typeof member !== "function") return member;
        return (...args: unknown[]): unknown => {
          const from = this.io.now();
          const result: unknown = Reflect.apply(member, target, args);
          const done = (how: string): void =>
            this.log("debug", `${String(name)}(${args.map(brief).join(", ")}): ${how}, ${this.io.now() - from} ms`);
          if (result instanceof Promise) {
            result.then(
              () => done("ok"),
              (e: unknown) => done(e instanceof HostError ? e.code : "failed"),
            );
          }
          return result;
        };
      },
    });
  }

  out(line: string): void {
    this.io.out(`${line}\n`);
  }
  err(line: string): void {
    this.io.err(`${line}\n`);
  }

  /** A line on stderr, and the end of the command. */
  fail(line: string, status = FAILURE): never {
    this.err(line);
    throw new XlExit(status);
  }

  /** The usage on stdout and the end of the command, as xl ends it when there are too many words. */
  usage(status = USAGE): never {
    printHelp(this.io, this.command);
    throw new XlExit(status);
  }

  /** Options and arguments of this command; prints xl's words for what is wrong with them. */
  parse(words: readonly string[]): {
    has(letter: string): boolean;
    value(letter: string): string | undefined;
    count(letter: string): number;
    args: readonly string[];
  } {
    const { command } = this;
    let parsed;
    try {
      parsed = getopt(words, command.spec ?? { short: "" });
    } catch (e) {
      if (!(e instanceof OptionError)) throw e;
      return this.fail(`option \`${e.letter}' not supported.`, USAGE);
    }
    const { options, args } = parsed;
    if (options.some((o) => o.letter === "h" && !(command.spec?.short ?? "").includes("h"))) {
      printHelp(this.io, command);
      throw new XlExit(OK);
    }
    const least = command.least ?? 0;
    if (args.length < least) {
      this.err(`'xl ${command.name}' requires at least ${least} argument${least > 1 ? "s" : ""}.\n`);
      this.usage();
    }
    return {
      has: (letter) => options.some((o) => o.letter === letter),
      value: (letter) => options.filter((o) => o.letter === letter).at(-1)?.value,
      count: (letter) => options.filter((o) => o.letter === letter).length,
      args,
    };
  }

  // --- domains --------------------------------------------------------------------------------------------------------------------

  /** The number that a word stands for: all digits are one, whether such a domain exists or not; undefined: no domain has that name. */
  async lookup(word: string): Promise<number | undefined> {
    if (/^\d+$/.test(word)) return Number(word);
    return (await (await this.host()).listDomains()).find((d) => d.name === word)?.domid;
  }

  /** As `lookup`; a name that no domain has ends the command. */
  async domid(word: string): Promise<number> {
    const domid = await this.lookup(word);
    if (domid === undefined) this.fail(`${word} is an invalid domain identifier (rc=-6)`);
    return domid;
  }

  /** The domain of a word, which must exist. */
  async domain(word: string): Promise<DomainInfo> {
    const domid = await this.domid(word);
    const found = (await (await this.host()).listDomains()).find((d) => d.domid === domid);
    return found ?? this.fail(`Error: Domain '${word}' does not exist.`);
  }

  async domains(): Promise<readonly DomainInfo[]> {
    return [...(await (await this.host()).listDomains())].sort((a, b) => a.domid - b.domid);
  }

  /** Runs a request of the host; what it refuses is said with libxl's prefix and the domain, then `then` ends the command. */
  async ask<T>(
    domid: number | undefined,
    request: (host: HostApi) => Promise<T>,
    then: (e: HostError) => never,
  ): Promise<T> {
    try {
      return await request(await this.host());
    } catch (e) {
      if (!(e instanceof HostError)) throw e;
      this.libxlError(e.message, domid);
      return then(e);
    }
  }

  /** `libxl: error: Domain 3:what`: the part of libxl's lines that people look for. */
  libxlError(what: string, domid?: number): void {
    const text = what.replace(/\n+$/, "").replace(/^Domain \d+: ?/, "");
    this.log("error", `${domid === undefined || domid === 0 ? "" : `Domain ${domid}:`}${text}`);
  }

  /** A line as libxl writes it; `-T` puts the time in front. */
  private log(level: "error" | "debug", text: string): void {
    const iso = new Date(this.io.now()).toISOString();
    const stamp = this.globals.timestamps ? `${iso.slice(0, 10)} ${iso.slice(11, 19)} UTC ` : "";
    this.err(`${stamp}libxl: ${level}: ${text}`);
  }

  /** A domain's devices by number; a number that no domain has shows none, as with xl. */
  async devices(domid: number, kind: DeviceInfo["kind"]): Promise<readonly DeviceInfo[]> {
    try {
      const all = await (await this.host()).listDevices(domid, kind);
      return [...all].sort((a, b) => a.devid - b.devid);
    } catch (e) {
      if (e instanceof HostError && e.code === "unknown-domain") return [];
      throw e;
    }
  }

  /** The host may have another working directory: what it is given is absolute. */
  path(file: string): string {
    return resolve(this.io.cwd, file);
  }

  /** Ends the command with a status. */
  exit(status: number): never {
    throw new XlExit(status);
  }
}
