/**
 * The host's interface over a line: one JSON text per message, whatever carries it (a unix socket, one per line; a WebSocket, one per frame).
 *
 *   up    {id, method, params}       a request; methods and parameters are `HostApi`'s
 *         {stream, write: base64}    typed at an open console          {stream, close: true}    leave it
 *   down  {id, result} | {id, error: {code, message}}
 *         {stream, data: base64}     printed by it                     {stream, end: reason}    it ended
 *         {event}                    after a request `onEvent`
 *
 * Invariant: what comes over the line is checked here before the host sees it. A caller that breaks the form, or that does not read what it
 * asked for, costs its own connection and nothing else.
 */
import { HostError, type ConsoleChannel, type HostApi, type HostErrorCode } from "./api.js";
import { fromBase64, toBase64 } from "./base64.js";

/** The version of this form; a client and a host of different ones do not talk. */
export const WIRE_VERSION = 1;
/** Longest message in characters. */
export const MAX_MESSAGE = 8 << 20;
/** What may wait for a peer that does not read. */
const MAX_WAITING = 32 << 20;
/** Beyond it what a console prints is left out until the peer has caught up. */
const MAX_UNREAD = 4 << 20;
/** Requests of one connection in progress, and consoles it has open. */
const MAX_REQUESTS = 256;
const MAX_STREAMS = 64;

/** One end of a line. */
export interface WirePort {
  send(text: string): void;
  close(): void;
  /** Characters or bytes sent and not yet taken. */
  readonly buffered?: number;
}

// --- the methods ----------------------------------------------------------------------------------------------------------------------

type Check = (v: unknown) => boolean;
const text: Check = (v) => typeof v === "string";
const whole: Check = (v) => typeof v === "number" && Number.isSafeInteger(v);
const flag: Check = (v) => typeof v === "boolean";
const ref: Check = (v) => text(v) || (whole(v) && (v as number) >= 0);
const optional =
  (c: Check): Check =>
  (v) =>
    v === undefined || v === null || c(v);
const one =
  (...of: readonly unknown[]): Check =>
  (v) =>
    of.includes(v);
const either =
  (...of: readonly Check[]): Check =>
  (v) =>
    of.some((c) => c(v));
const listOf =
  (c: Check): Check =>
  (v) =>
    Array.isArray(v) && v.every(c);
const isRecord = (v: unknown): v is Record<string, unknown> => typeof v === "object" && v !== null && !Array.isArray(v);
const record =
  (fields: Readonly<Record<string, Check>>): Check =>
  (v) =>
    isRecord(v) &&
    Object.keys(v).every((k) => Object.hasOwn(fields, k)) &&
    Object.entries(fields).every(([k, c]) => c(v[k]));
const numbers: Check = (v) => isRecord(v) && Object.values(v).every((n) => typeof n === "number" && Number.isFinite(n));

const cpus = listOf(whole);
const createRequest = record({
  config: text,
  source: text,
  overrides: optional(listOf(text)),
  cwd: optional(text),
  paused: optional(flag),
  forget: optional(flag),
});

/** Methods that are one request and one answer. */
export type RequestMethod = Exclude<keyof HostApi, "openConsole" | "onEvent">;

const METHODS: Readonly<Record<RequestMethod, readonly Check[]>> = {
  info: [],
  listDomains: [],
  getDomain: [ref],
  create: [createRequest],
  destroy: [ref],
  shutdown: [ref, one("poweroff", "reboot"), optional(flag)],
  waitForEnd: [ref, optional(whole)],
  pause: [ref],
  unpause: [ref],
  rename: [ref, text],
  getConfig: [ref],
  updateConfig: [ref, createRequest],
  sysrq: [ref, text],
  trigger: [ref, text, optional(whole)],
  dumpCore: [ref, text],
  gdb: [ref, whole],
  setMemoryTarget: [ref, whole],
  setMemoryMax: [ref, whole],
  setVcpus: [ref, whole],
  pinVcpu: [ref, either(whole, one("all")), either(one(undefined, null), cpus), either(one(undefined, null), cpus)],
  getSched: [ref],
  setSched: [ref, text, numbers],
  getSchedGlobal: [optional(text)],
  setSchedGlobal: [numbers, optional(text)],
  listPools: [],
  createPool: [text, optional(text), cpus],
  destroyPool: [text],
  renamePool: [text, text],
  poolAddCpus: [text, cpus],
  poolRemoveCpus: [text, cpus],
  poolMoveDomain: [ref, text],
  deviceStats: [ref],
  listDevices: [ref, one("vbd", "vif", "console")],
  attachDisk: [ref, text, optional(text)],
  detachDisk: [ref, text, optional(flag)],
  insertCd: [ref, text, text, optional(text)],
  ejectCd: [ref, text],
  attachVif: [ref, text],
  detachVif: [ref, text],
  save: [ref, record({ file: text, after: optional(one("destroy", "continue", "pause")), config: optional(text) })],
  restore: [text, optional(record({ paused: optional(flag), config: optional(text) }))],
  migrate: [ref, text, optional(record({ config: optional(text), keepName: optional(flag) }))],
  fork: [ref, optional(record({ count: optional(whole), name: optional(text), paused: optional(flag) }))],
  dmesg: [optional(flag)],
  debugKeys: [text],
  claims: [],
};

export const REQUEST_METHODS = Object.keys(METHODS) as readonly RequestMethod[];

/** `undefined` does not survive JSON: in an argument list it travels as this. */
const ABSENT = { absent: true } as const;
const isAbsent = (v: unknown): boolean => isRecord(v) && v["absent"] === true && Object.keys(v).length === 1;

// --- the host's end -------------------------------------------------------------------------------------------------------------------

/** Requests a shell answers itself (`hello`, `stop`), beside the host's. */
export type ExtraMethods = Readonly<Record<string, (params: readonly unknown[]) => Promise<unknown>>>;

export interface WireEnd {
  receive(text: string): void;
  /** The line is gone. */
  closed(): void;
}

/** A result, and what is to follow it on the line. */
class AnswerFirst {
  constructor(
    readonly result: unknown,
    readonly follow: () => void,
  ) {}
}

interface StreamEnd {
  channel: ConsoleChannel | null;
  open: boolean;
}

/** Answer the requests of one connection. `onInternal` hears of what is a mistake of ours. */
export function serveHost(
  host: HostApi,
  port: WirePort,
  extra: ExtraMethods = {},
  onInternal: (e: Error) => void = () => {},
): WireEnd {
  let alive = true;
  let pending = 0;
  let nextStream = 1;
  const streams = new Map<number, StreamEnd>();
  let stopEvents: (() => void) | null = null;

  const end = (): void => {
    if (!alive) return;
    alive = false;
    stopEvents?.();
    for (const s of streams.values()) {
      s.open = false;
      s.channel?.close();
    }
    streams.clear();
  };
  const breakOff = (): void => {
    end();
    port.close();
  };
  const send = (message: unknown): void => {
    if (!alive) return;
    port.send(JSON.stringify(message));
    if ((port.buffered ?? 0) > MAX_WAITING) breakOff();
  };

  const openConsole = async (params: readonly unknown[]): Promise<unknown> => {
    const [domain, index] = params;
    if (params.length !== 2 || !ref(domain) || !whole(index)) throw wrongParams("openConsole");
    if (streams.size >= MAX_STREAMS) throw new HostError("state", "too many consoles are open on this connection");
    const id = nextStream++;
    const s: StreamEnd = { channel: null, open: true };
    streams.set(id, s);
    try {
      // The answer must come before the first output does.
      const early: Uint8Array[] = [];
      let answered = false;
      let over: string | null = null;
      let lost = 0;
      const print = (bytes: Uint8Array): void => {
        if ((port.buffered ?? 0) > MAX_UNREAD) {
          lost += bytes.length;
          return;
        }
        if (lost > 0) {
          send({
            stream: id,
            data: toBase64(new TextEncoder().encode(`\r\n[${lost} bytes were not read in time]\r\n`)),
          });
          lost = 0;
        }
        send({ stream: id, data: toBase64(bytes) });
      };
      const channel = await host.openConsole(domain as string | number, index as number, {
        data: (bytes) => {
          if (answered) print(bytes);
          else early.push(bytes);
        },
        end: (reason) => {
          if (answered) {
            streams.delete(id);
            send({ stream: id, end: reason });
          } else over = reason;
        },
      });
      if (!s.open) channel.close();
      s.channel = channel;
      return new AnswerFirst({ stream: id }, () => {
        answered = true;
        for (const bytes of early) print(bytes);
        if (over !== null) {
          streams.delete(id);
          send({ stream: id, end: over });
        }
      });
    } catch (e) {
      streams.delete(id);
      throw e;
    }
  };

  const call = (method: string, params: readonly unknown[]): Promise<unknown> => {
    if (method === "openConsole") return openConsole(params);
    if (method === "onEvent") {
      stopEvents ??= host.onEvent((event) => send({ event }));
      return Promise.resolve(true);
    }
    const own = Object.hasOwn(extra, method) ? extra[method] : undefined;
    if (own !== undefined) return own(params);
    if (!Object.hasOwn(METHODS, method)) {
      return Promise.reject(new HostError("unsupported", `the host knows no request "${method.slice(0, 60)}"`));
    }
    const checks = METHODS[method as RequestMethod];
    if (params.length > checks.length || !checks.every((c, i) => c(params[i]))) {
      return Promise.reject(wrongParams(method));
    }
    const f = host[method as RequestMethod] as ((...args: unknown[]) => Promise<unknown>) | undefined;
    if (f === undefined) return Promise.reject(new HostError("unsupported", `this host has no "${method}"`));
    return f.apply(host, [...params]);
  };

  return {
    closed: end,
    receive: (line) => {
      if (!alive) return;
      const m = line.length <= MAX_MESSAGE ? parse(line) : undefined;
      if (m === undefined) return breakOff();
      if (typeof m["stream"] === "number") {
        const s = streams.get(m["stream"]);
        if (typeof m["write"] === "string") {
          const bytes = fromBase64(m["write"]);
          if (bytes === null) return breakOff();
          s?.channel?.write(bytes);
        } else if (m["close"] === true) {
          streams.delete(m["stream"]);
          if (s !== undefined) {
            s.open = false;
            s.channel?.close();
          }
        } else breakOff();
        return;
      }
      const { id, method, params } = m;
      if (typeof id !== "number" || typeof method !== "string" || !Array.isArray(params)) return breakOff();
      if (++pending > MAX_REQUESTS) return breakOff();
      const args = params.map((p: unknown) => (isAbsent(p) ? undefined : p));
      const answer = (message: object): void => {
        pending--;
        send({ id, ...message });
      };
      let result: Promise<unknown>;
      try {
        result = call(method, args);
      } catch (e) {
        result = Promise.reject(e instanceof Error ? e : new Error(String(e)));
      }
      result.then(
        (value) => {
          if (value instanceof AnswerFirst) {
            answer({ result: value.result });
            value.follow();
          } else answer({ result: value ?? null });
        },
        (e: unknown) => {
          const error = errorOf(e);
          if (error.code === "internal") onInternal(e instanceof Error ? e : new Error(String(e)));
          answer({ error });
        },
      );
    },
  };
}

function wrongParams(method: string): HostError {
  return new HostError("invalid", `the request "${method}" has parameters of the wrong form`);
}
function errorOf(e: unknown): { code: HostErrorCode; message: string } {
  if (e instanceof HostError) return { code: e.code, message: e.message };
  return { code: "internal", message: e instanceof Error ? e.message : String(e) };
}
function parse(line: string): Record<string, unknown> | undefined {
  try {
    const v: unknown = JSON.parse(line);
    return isRecord(v) ? v : undefined;
  } catch {
    return undefined;
  }
}

// --- the caller's end -----------------------------------------------------------------------------------------------------------------

const CODES: ReadonlySet<string> = new Set<HostErrorCode>([
  "unknown-domain",
  "not-found",
  "exists",
  "invalid",
  "no-memory",
  "state",
  "timeout",
  "unsupported",
  "io",
  "internal",
]);

interface Waiting {
  resolve(value: unknown): void;
  reject(e: HostError): void;
}

/** The line of a client: requests out, answers and streams in. `HostClient` is made of one. */
export class WireCaller implements WireEnd {
  private readonly waiting = new Map<number, Waiting>();
  private readonly streams = new Map<number, { data(bytes: Uint8Array): void; end(reason: string): void }>();
  private readonly events = new Set<(event: never) => void>();
  private nextId = 1;
  private over: string | null = null;
  private readonly whenClosed: ((reason: string) => void)[] = [];

  constructor(private readonly port: WirePort) {}

  /** `first` sees the result before anything else that comes over the line. */
  call(method: string, params: readonly unknown[], first?: (result: unknown) => void): Promise<unknown> {
    if (this.over !== null) return Promise.reject(new HostError("io", this.over));
    const id = this.nextId++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, {
        resolve: (result) => {
          first?.(result);
          resolve(result);
        },
        reject,
      });
      const args = params.map((p) => (p === undefined ? ABSENT : p));
      this.port.send(JSON.stringify({ id, method, params: args }));
    });
  }

  async openConsole(
    params: readonly unknown[],
    sink: { data(bytes: Uint8Array): void; end(reason: string): void },
  ): Promise<ConsoleChannel> {
    let stream = -1;
    await this.call("openConsole", params, (r) => {
      if (isRecord(r) && typeof r["stream"] === "number") this.streams.set((stream = r["stream"]), sink);
    });
    return {
      write: (bytes) => {
        if (this.streams.has(stream)) this.port.send(JSON.stringify({ stream, write: toBase64(bytes) }));
      },
      close: () => {
        if (this.streams.delete(stream) && this.over === null) this.port.send(JSON.stringify({ stream, close: true }));
      },
    };
  }

  onEvent(sink: (event: never) => void): () => void {
    if (this.events.size === 0) this.call("onEvent", []).catch(() => undefined);
    this.events.add(sink);
    return () => void this.events.delete(sink);
  }

  receive(line: string): void {
    const m = parse(line);
    if (m === undefined) {
      this.port.close();
      return this.closed("the host said something that makes no sense");
    }
    if (typeof m["stream"] === "number") {
      const { stream } = m;
      const sink = this.streams.get(stream);
      if (typeof m["end"] === "string") {
        this.streams.delete(stream);
        sink?.end(m["end"]);
      } else {
        const bytes = typeof m["data"] === "string" ? fromBase64(m["data"]) : null;
        if (bytes !== null) sink?.data(bytes);
      }
      return;
    }
    if ("event" in m) {
      for (const s of [...this.events]) s(m["event"] as never);
      return;
    }
    const w = typeof m["id"] === "number" ? this.waiting.get(m["id"]) : undefined;
    if (w === undefined) return;
    this.waiting.delete(m["id"] as number);
    const { error } = m;
    if (isRecord(error)) {
      const code = String(error["code"]);
      w.reject(new HostError(CODES.has(code) ? (code as HostErrorCode) : "internal", String(error["message"])));
    } else w.resolve(m["result"]);
  }

  /** The line is gone: nothing more will be answered. */
  closed(reason = "the connection to the host service was lost"): void {
    if (this.over !== null) return;
    this.over = reason;
    for (const w of this.waiting.values()) w.reject(new HostError("io", reason));
    this.waiting.clear();
    for (const s of this.streams.values()) s.end(reason);
    this.streams.clear();
    for (const f of this.whenClosed) f(reason);
  }
  onClosed(f: (reason: string) => void): void {
    if (this.over !== null) f(this.over);
    else this.whenClosed.push(f);
  }
  close(): void {
    this.port.close();
    this.closed("the connection was closed");
  }
}
