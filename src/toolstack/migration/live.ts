/**
 * Live migration between two hosts over a byte stream.
 *
 *   sender                                   receiver
 *   HELLO token  ------------------------>   opens its ledger
 *                <------------------------   WELCOME
 *   DATA … (the domain runs: rounds)  --->   pages
 *   (suspends it) DATA … IMAGE_END  ----->   builds it, paused, with its devices
 *                <------------------------   READY
 *   COMMIT       ------------------------>   ledger: committed; unpauses
 *                <------------------------   COMMITTED
 *   destroys its own
 *
 * The rule: before COMMIT is sent the domain is the sender's, whatever happens: the receiver sets nothing going without it. Once COMMIT may
 * have left, the receiver's ledger decides: if the answer is lost, the sender asks on a new link (QUERY), and asking fences, so that either
 * the domain runs there ("committed") or never will ("aborted": it goes on here). Until it is answered the sender's copy stays suspended; it
 * is never set going on a guess. So at most one side runs it at any time, and exactly one as soon as the two can talk.
 */
import { LogDirty } from "../../hypervisor/memory/log-dirty.js";
import { Timer } from "../../hypervisor/time/timers.js";
import { fromUtf8, utf8 } from "../../xenstore/text.js";
import { domainPath } from "../../xenstore/paths.js";
import type { Machine, RunningDomain } from "../machine.js";
import { Reader, viewOf, type ByteSink, type ByteSource, type Duplex } from "./bytes.js";
import { defaultConfig } from "./config.js";
import { MigrationError } from "./errors.js";
import * as P from "./frames.js";
import { FrameLink, LinkLost, type Frame } from "./frames.js";
import type { MigrationLedger, Ticket } from "./ledger.js";
import { quiesceDisks } from "./quiesce.js";
import { buildFrom, discard, equip, type Restored, type RestoreOptions } from "./restore.js";
import { breathe, Copier, type Progress } from "./save.js";
import { resumeDomain, suspendDomain } from "./suspend.js";
import { readP2m } from "./p2m.js";

const VERSION = 1;
/** How long one side waits for the other's next word, in ns of the machine's time. */
const PATIENCE = 60e9;
/** Questions about an undecided migration, and the pause before each. */
const ATTEMPTS = 10;
const RETRY = 500e6;
const MAX_ROUNDS = 8;
/** So little is left to send that the domain may be stopped for it (libxc: 50 pages). */
const ENOUGH_PAGES = 64;
/** The end of a name while the domain is on its way, as xl has it. */
const INCOMING = "--incoming";

export interface SendOptions {
  /** The configuration for the other host (libxl's JSON); default as for `saveDomain`. */
  readonly config?: string | undefined;
  /** A new link to the same host, to ask what became of the domain after the first one broke. */
  readonly reconnect?: (() => Promise<Duplex>) | undefined;
  readonly maxRounds?: number | undefined;
  readonly suspendTimeoutMs?: number | undefined;
  /** For the other host's next word. Default 60 s. */
  readonly patienceMs?: number | undefined;
  readonly onProgress?: ((p: Progress) => void) | undefined;
}

export interface SendResult {
  readonly rounds: number;
  readonly pagesSent: number;
  readonly bytes: number;
  /** From the guest's suspension to the other host's word that it runs there. */
  readonly downtimeMs: number;
  readonly totalMs: number;
  /** Its number on the other host. */
  readonly remoteDomid: number;
}

/** The other side's work, waited for so long at most. Virtual time does not run off meanwhile: it would only measure our idleness. */
function deadline<T>(machine: Machine, ns: number, what: string, work: Promise<T>): Promise<T> {
  const { xen } = machine;
  const held = machine.clock.virtual ? 1 : 0;
  xen.hostBusy += held;
  return new Promise<T>((resolve, reject) => {
    const timer = new Timer(() => over(() => reject(new LinkLost(`no ${what} within ${Math.round(ns / 1e9)} s`))));
    let waiting = true;
    const over = (then: () => void): void => {
      if (!waiting) return;
      waiting = false;
      xen.hostBusy -= held;
      xen.timers.stop(timer);
      then();
    };
    xen.timers.set(timer, xen.clock.now() + ns);
    work.then(
      (v) => over(() => resolve(v)),
      (e: unknown) => over(() => reject(e instanceof Error ? e : new Error(String(e)))),
    );
  });
}

/** 16 bytes that no other migration has. */
function newToken(machine: Machine): Uint8Array {
  const out = new Uint8Array(16);
  for (let i = 0; i < out.length; i++) out[i] = Math.floor(machine.random() * 256);
  return out;
}
const tokenText = (token: Uint8Array): string => [...token].map((b) => b.toString(16).padStart(2, "0")).join("");

function hello(type: number, token: Uint8Array): readonly [number, Uint8Array] {
  const body = new Uint8Array(4 + token.length);
  viewOf(body).setUint32(0, VERSION, true);
  body.set(token, 4);
  return [type, body];
}

// --- the sending host -----------------------------------------------------------------------------------------------------------

/** The other host has given up, and has said so: it will never set the domain going. */
class Refused extends MigrationError {
  constructor(f: Frame) {
    super("peer", `the other host cannot take the domain: ${fromUtf8(f.body)}`);
  }
}

/** What the other host says, collected while we write. */
class Inbox {
  private readonly frames: Frame[] = [];
  private wake: (() => void) | null = null;
  /** Why there is no more. */
  lost: Error | null = null;
  constructor(private readonly link: FrameLink) {
    void this.pump();
  }
  private async pump(): Promise<void> {
    try {
      for (;;) {
        this.frames.push(await this.link.next());
        this.wake?.();
      }
    } catch (e) {
      this.lost = e instanceof Error ? e : new Error(String(e));
      this.wake?.();
    }
  }
  /** Throws if the other host has given up. */
  check(): void {
    for (const f of this.frames) if (f.type === P.FAILED) throw new Refused(f);
    if (this.lost !== null) throw this.lost;
  }
  async expect(type: number): Promise<Frame> {
    for (;;) {
      const f = this.frames.shift();
      if (f === undefined) {
        if (this.lost !== null) throw this.lost;
        await new Promise<void>((resolve) => (this.wake = resolve));
        this.wake = null;
        continue;
      }
      if (f.type === P.FAILED) throw new Refused(f);
      if (f.type !== type)
        throw new MigrationError("peer", `the other host sent message ${f.type} in place of ${type}`);
      return f;
    }
  }
}

/** Move a running domain to the other end of a link. A MigrationError of any code but "undecided" means that it runs on here. */
export async function sendDomain(
  machine: Machine,
  running: RunningDomain,
  duplex: Duplex,
  options: SendOptions = {},
): Promise<SendResult> {
  const { domain } = running;
  const { clock } = machine;
  const started = clock.now();
  const patience = options.patienceMs === undefined ? PATIENCE : options.patienceMs * 1e6;
  const link = new FrameLink(duplex);
  const progress = options.onProgress ?? ((): void => {});
  const token = newToken(machine);
  const say = (type: number, body?: Uint8Array): Promise<void> =>
    deadline(machine, patience, "room for more", link.send(type, body));
  let log: LogDirty | null = null;
  let stopped = 0;
  let committing = false;
  let mine = false;
  let result: Omit<SendResult, "downtimeMs" | "totalMs" | "remoteDomid">;
  let remoteDomid: number;
  try {
    readP2m(domain);
    if (running.suspending === "asked" || running.ended || domain.pauseCount > 0)
      throw new MigrationError("state", `domain ${domain.domid} does not run`);
    const config = options.config ?? defaultConfig(machine, running);
    await say(...hello(P.HELLO, token));
    const inbox = new Inbox(link);
    await deadline(machine, patience, "greeting", inbox.expect(P.WELCOME));
    const sink: ByteSink = {
      write: (bytes) => {
        inbox.check();
        return say(P.DATA, bytes);
      },
    };
    const copier = new Copier(machine, domain, sink, config, progress);
    log = new LogDirty(machine.xen);
    await copier.live(log, { maxRounds: options.maxRounds ?? MAX_ROUNDS, enoughPages: ENOUGH_PAGES });
    progress({ phase: "suspending", round: copier.round, pages: copier.pages, of: copier.pages, bytes: copier.bytes });
    await suspendDomain(machine, running, { timeoutMs: options.suspendTimeoutMs });
    mine = true;
    stopped = clock.now();
    await quiesceDisks(running);
    await copier.final(log);
    await say(P.IMAGE_END);
    result = { rounds: copier.round + 1, pagesSent: copier.pages, bytes: copier.bytes };
    await deadline(machine, patience, "readiness", inbox.expect(P.READY));
    committing = true;
    await say(P.COMMIT);
    const answer = await deadline(machine, patience, "confirmation", inbox.expect(P.COMMITTED));
    remoteDomid = answer.body.length >= 4 ? viewOf(answer.body).getUint32(0, true) : -1;
  } catch (e) {
    log?.close();
    log = null;
    if (!committing || e instanceof Refused) {
      // The receiver needs no word: it sets nothing going without the commit.
      await say(P.ABORT).catch(() => {});
      link.close();
      if (mine && !domain.dying) resumeDomain(machine, running);
      throw e;
    }
    link.close();
    const decided = await settle(machine, token, options, patience);
    if (decided === null)
      throw new MigrationError(
        "undecided",
        `domain ${domain.domid} is suspended here: whether the other host runs it could not be learned (resume it only if it does not)`,
      );
    if (decided === "aborted") {
      if (!domain.dying) resumeDomain(machine, running);
      throw e;
    }
    remoteDomid = decided.domid;
    result ??= { rounds: 0, pagesSent: 0, bytes: 0 };
  }
  log?.close();
  link.close();
  const now = clock.now();
  running.destroy();
  return { ...result, remoteDomid, downtimeMs: (now - stopped) / 1e6, totalMs: (now - started) / 1e6 };
}

/** Ask what became of it; null if nobody answers. */
async function settle(
  machine: Machine,
  token: Uint8Array,
  options: SendOptions,
  patience: number,
): Promise<"aborted" | { readonly domid: number } | null> {
  if (options.reconnect === undefined) return null;
  for (let i = 0; i < ATTEMPTS; i++) {
    let link: FrameLink | null = null;
    try {
      link = new FrameLink(await options.reconnect());
      await link.send(...hello(P.QUERY, token));
      const { type, body } = await deadline(machine, patience, "answer", link.next());
      if (type === P.ANSWER && body.length >= 1)
        return body[0] === 1 ? { domid: body.length >= 5 ? viewOf(body).getUint32(1, true) : -1 } : "aborted";
    } catch {
      // Once more.
    } finally {
      link?.close();
    }
    await new Promise<void>((resolve) => {
      machine.xen.timers.set(new Timer(() => resolve()), machine.xen.clock.now() + RETRY);
    });
  }
  return null;
}

// --- the receiving host ---------------------------------------------------------------------------------------------------------

export interface ReceiveOptions extends Omit<RestoreOptions, "paused"> {
  /** For the sender's next word once the domain is built. Default 60 s. */
  readonly patienceMs?: number | undefined;
}

/** The domain's bytes out of messages. */
function imageSource(next: () => Promise<Frame>): ByteSource {
  let over = false;
  return {
    read: async () => {
      if (over) return null;
      const { type, body } = await next();
      if (type === P.DATA) return body;
      over = true;
      if (type === P.IMAGE_END) return null;
      throw new MigrationError(
        "peer",
        type === P.ABORT ? "the sending host gave up" : `the sending host sent message ${type}`,
      );
    },
  };
}

/**
 * Serve one link: take a domain, or answer a question about an earlier one (null). Resolves when the domain runs here; if it does not come to
 * that, rejects, with nothing left behind.
 */
export async function receiveDomain(
  machine: Machine,
  duplex: Duplex,
  ledger: MigrationLedger,
  options: ReceiveOptions = {},
): Promise<Restored | null> {
  const link = new FrameLink(duplex);
  const patience = options.patienceMs === undefined ? PATIENCE : options.patienceMs * 1e6;
  const next = (what: string): Promise<Frame> => deadline(machine, patience, what, link.next());
  let ticket: Ticket | null = null;
  let restored: Restored | null = null;
  try {
    const first = await next("greeting");
    if (first.body.length < 20 || viewOf(first.body).getUint32(0, true) !== VERSION)
      throw new MigrationError("peer", "the sending host speaks another version");
    const token = tokenText(first.body.subarray(4, 20));
    if (first.type === P.QUERY) {
      await link.send(P.ANSWER, answer(ledger.settle(token) === "committed", ledger.domidOf(token)));
      link.close();
      return null;
    }
    if (first.type !== P.HELLO) throw new MigrationError("peer", `the sending host began with message ${first.type}`);
    ticket = ledger.begin(token, () => link.close());
    if (ticket === null) throw new MigrationError("peer", "this migration was tried before");
    await link.send(P.WELCOME);
    restored = await buildFrom(
      machine,
      new Reader(imageSource(() => next("more of the domain"))),
      options,
      (name) => name + INCOMING,
    );
    const end = await next("end of the image");
    if (end.type !== P.IMAGE_END) throw new MigrationError("peer", `the sending host sent message ${end.type}`);
    await equip(machine, restored);
    await link.send(P.READY);
    const word = await next("commit");
    if (word.type !== P.COMMIT) throw new MigrationError("peer", "the sending host gave up");
    const { domain } = restored.running;
    if (domain.dying) throw new MigrationError("state", "the domain was destroyed while it was received");
    if (!ticket.commit(domain.domid)) throw new MigrationError("peer", "the migration was called off");
  } catch (e) {
    ticket?.abort();
    const why = e instanceof Error ? e.message : String(e);
    await link.send(P.FAILED, utf8(why).subarray(0, 1024)).catch(() => {});
    link.close();
    if (restored !== null && !restored.running.domain.dying) discard(machine, restored.running.domain);
    throw e;
  }
  // It is ours, and goes on whatever becomes of the link.
  const { running, plan } = restored;
  rename(machine, running, plan.name);
  machine.xen.unpause(running.domain);
  machine.onInput();
  const body = new Uint8Array(4);
  viewOf(body).setUint32(0, running.domain.domid, true);
  await link.send(P.COMMITTED, body).catch(() => {});
  await breathe(machine);
  link.close();
  return restored;
}

function answer(committed: boolean, domid: number): Uint8Array {
  const out = new Uint8Array(5);
  out[0] = committed ? 1 : 0;
  viewOf(out).setUint32(1, domid >>> 0, true);
  return out;
}

function rename(machine: Machine, running: RunningDomain, name: string): void {
  const { domain } = running;
  domain.name = name;
  machine.xs.write(`${domainPath(domain.domid)}/name`, name);
  machine.xs.write(`/vm/${domain.uuid}/name`, name);
}
