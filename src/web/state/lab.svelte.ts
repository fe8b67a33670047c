/**
 * The page's view of a lab: which one it is connected to, its domains, their terminals, and what a person can do with them.
 *
 * Invariant: every domain that runs has a session; a session without a domain is one that has ended and was not closed yet.
 */
import type { DomainView, InspectApi, LogView, MachineView } from "../../inspect/api.js";
import type { LabClient, LabHost } from "../../inspect/remote/lab.js";
import type { CreateResult, HostEvent } from "../../toolstack/host/api.js";
import type { Environment } from "../worker/protocol.js";
import { openSocket, openWorker, type Connection } from "./connection.js";
import { Session } from "./session.svelte.js";
import { theme } from "./theme.svelte.js";
import { tell, toasts } from "./toasts.svelte.js";

/** How often domains are looked at, in milliseconds. */
const POLL_MS = 400;
const MEMORY_MIB = 2048;
/** Fewer than domains that compute, so that the scheduler has something to decide. */
const PCPUS = 2;
const LOG_LINES = 400;

export interface DomainConfigText {
  readonly name: string;
  /** An xl.cfg. */
  readonly text: string;
}

export type ViewName =
  "machine" | "scheduler" | "events" | "grants" | "rings" | "store" | "memory" | "hypercalls" | "trace" | "cpu";

class LabState {
  status = $state<"starting" | "ready" | "lost">("starting");
  why = $state("");
  environment = $state.raw<Environment | null>(null);
  machine = $state.raw<MachineView | null>(null);
  /** Millions of guest instructions a second. */
  mips = $state(0);
  sessions = $state.raw<readonly Session[]>([]);
  /** The domain the views are about. */
  selected = $state<number | null>(null);
  /** The one terminal that is shown alone. */
  maximised = $state<number | null>(null);
  view = $state<ViewName>("machine");
  /** A page of the book, beside everything. */
  page = $state<string | null>(null);
  inspectorOpen = $state(true);
  /** What is being waited for: shown, and no second click. */
  busy = $state<string | null>(null);
  /** Xen's console. */
  log = $state.raw<LogView["lines"]>([]);

  private connection: Connection | null = null;
  /** The machine of the page while another one is looked at. */
  private parked: Connection | null = null;
  private deaf: (() => void)[] = [];
  private timer: ReturnType<typeof setTimeout> | undefined;
  private lastDomid = 0;
  private logged = -1;
  private lastCount: { instructions: number; at: number } | null = null;

  get client(): LabClient {
    if (this.connection === null) throw new Error("the machine is not ready yet");
    return this.connection.client;
  }
  get host(): LabHost {
    return this.client.host;
  }
  get inspect(): InspectApi {
    return this.client.inspect;
  }
  get guests(): readonly DomainView[] {
    return this.machine?.domains.filter((d) => !d.native) ?? [];
  }
  domain(domid: number | null): DomainView | undefined {
    return this.machine?.domains.find((d) => d.domid === domid);
  }
  session(domid: number): Session | undefined {
    return this.sessions.find((s) => s.domid === domid);
  }

  /** The machine of this page. */
  startWorker(): Promise<void> {
    return this.connect(async () => openWorker({ memoryMiB: MEMORY_MIB, pcpus: PCPUS, scheduler: "credit" }));
  }
  /** The host service behind this page's server. */
  startService(url: string): Promise<void> {
    return this.connect(() => openSocket(url));
  }

  /** Another machine for a while; this one goes on behind it. */
  visit(other: Connection): Promise<void> {
    if (this.parked === null) {
      this.parked = this.connection;
      this.connection = null;
    }
    return this.connect(async () => other);
  }
  /** Back to the machine of the page. */
  comeBack(): Promise<void> {
    const { parked } = this;
    this.parked = null;
    return parked === null ? this.startWorker() : this.connect(async () => parked);
  }
  /** Time went back: what was kept of the machine's words is not said yet. */
  rewound(): void {
    this.log = [];
    this.logged = -1;
    void this.refresh();
  }

  private async connect(open: () => Promise<Connection>): Promise<void> {
    clearTimeout(this.timer);
    for (const stop of this.deaf.splice(0)) stop();
    this.connection?.close();
    this.connection = null;
    for (const s of this.sessions) s.dispose();
    this.sessions = [];
    this.machine = null;
    this.selected = null;
    this.maximised = null;
    this.lastCount = null;
    this.lastDomid = 0;
    this.log = [];
    this.logged = -1;
    this.status = "starting";
    try {
      const connection = await open();
      this.connection = connection;
      const { client } = connection;
      this.deaf = [
        client.rpc.on("closed", (why) => {
          if (this.connection !== connection) return;
          this.status = "lost";
          this.why = String(why);
        }),
        client.host.onEvent((e) => this.onEvent(e)),
      ];
      this.environment = (await client.extraCall("environment")) as Environment;
      this.status = "ready";
      await this.poll();
    } catch (e) {
      this.status = "lost";
      this.why = e instanceof Error ? e.message : String(e);
    }
  }

  private onEvent(e: HostEvent): void {
    if (e.type === "created") this.lastDomid = Math.max(this.lastDomid, e.domid);
    if (e.type === "destroyed") this.session(e.domid)?.ended();
    // It has started again under another number: the new terminal has the old one's text.
    if (e.type === "action" && e.newDomid !== undefined) {
      if (this.maximised === e.domid) this.maximised = e.newDomid;
      this.close(e.domid);
    }
    if (e.type === "renamed") {
      const s = this.session(e.domid);
      if (s !== undefined) s.name = e.name;
    }
    void this.refresh();
  }

  private async poll(): Promise<void> {
    clearTimeout(this.timer);
    await this.refresh();
    if (this.status === "ready") this.timer = setTimeout(() => void this.poll(), POLL_MS);
  }

  private refreshing: Promise<void> | null = null;
  refresh(): Promise<void> {
    this.refreshing ??= this.look().finally(() => (this.refreshing = null));
    return this.refreshing;
  }
  private async look(): Promise<void> {
    const { connection } = this;
    if (connection === null) return;
    let m: MachineView;
    let said: LogView;
    try {
      [m, said] = await Promise.all([connection.client.inspect.machine(), connection.client.inspect.log(this.logged)]);
    } catch (e) {
      if (this.status === "ready") toasts.error(e);
      return;
    }
    if (this.connection !== connection) return;
    this.machine = m;
    const instructions = m.counters["instructions"] ?? 0;
    const at = performance.now();
    if (this.lastCount === null) this.lastCount = { instructions, at };
    else if (at - this.lastCount.at > 300) {
      this.mips = Math.max(0, (instructions - this.lastCount.instructions) / (at - this.lastCount.at) / 1000);
      this.lastCount = { instructions, at };
    }
    for (const d of m.domains) {
      this.lastDomid = Math.max(this.lastDomid, d.domid);
      if (d.native) continue;
      const s = this.session(d.domid);
      if (s === undefined) await this.addSession(d.domid, d.name);
      // A domain that is being restored has no console at first.
      else await s.open(this.host).catch(() => {});
    }
    if (said.lines.length > 0) this.takeLog(said);
    for (const s of this.sessions) if (!m.domains.some((d) => d.domid === s.domid)) s.ended();
    if (this.selected === null || this.domain(this.selected) === undefined) {
      this.selected = this.guests.at(-1)?.domid ?? null;
    }
  }

  /** What guests say with console_io belongs in their terminals too: small kernels have no other voice. */
  private takeLog(said: LogView): void {
    const fresh = said.lines.filter((l) => l.seq > this.logged);
    this.logged = said.next;
    for (const l of fresh) if (l.domid > 0) this.session(l.domid)?.say(l.text.replace(/^\(d\d+\) /, ""));
    this.log = [...this.log, ...fresh].slice(-LOG_LINES);
  }

  private async addSession(domid: number, name: string): Promise<Session> {
    const known = this.session(domid);
    if (known !== undefined) return known;
    const s = new Session(domid, name, theme.now);
    this.sessions = [...this.sessions, s];
    try {
      await s.open(this.host);
    } catch {
      // It ended meanwhile; or it has no console (another shell has it).
    }
    return s;
  }

  // --- what a person does ----------------------------------------------------------------------------------------------------------

  private async while<T>(what: string, work: () => Promise<T>): Promise<T | undefined> {
    if (this.busy !== null) return undefined;
    this.busy = what;
    try {
      return await work();
    } catch (e) {
      toasts.error(e);
      return undefined;
    } finally {
      this.busy = null;
      void this.refresh();
    }
  }

  /** A name no domain has. */
  freeName(name: string): string {
    const taken = new Set(this.machine?.domains.map((d) => d.name));
    for (let n = 2, free = name; ; free = `${name}-${n++}`) if (!taken.has(free)) return free;
  }
  /** The number the next domain will have, as far as is known. */
  get nextDomid(): number {
    return this.lastDomid + 1;
  }

  /** Create and start; the terminal is there before the first instruction runs. */
  boot(config: DomainConfigText): Promise<CreateResult | undefined> {
    return this.while(`starting ${config.name}`, () => this.create(config));
  }
  /** Several that belong together: all are made before the first runs. */
  bootAll(configs: (next: number) => readonly DomainConfigText[]): Promise<readonly CreateResult[] | undefined> {
    return this.while("starting domains", async () => {
      const first = this.nextDomid;
      let made = await this.createPaused(configs(first));
      // Numbers go up by one, but another shell may have made a domain meanwhile.
      const got = made[0]?.domid ?? first;
      if (got !== first) {
        for (const d of made) await this.discard(d.domid);
        made = await this.createPaused(configs(this.nextDomid));
      }
      for (const d of made) await this.host.unpause(d.domid);
      return made;
    });
  }
  private async createPaused(configs: readonly DomainConfigText[]): Promise<CreateResult[]> {
    const made: CreateResult[] = [];
    for (const c of configs) {
      const r = await this.host.create({ config: c.text, source: c.name, paused: true });
      for (const w of r.warnings) toasts.say(w);
      await this.addSession(r.domid, r.name);
      this.lastDomid = Math.max(this.lastDomid, r.domid);
      made.push(r);
    }
    await this.refresh();
    this.selected = made.at(-1)?.domid ?? this.selected;
    return made;
  }
  private async create(config: DomainConfigText): Promise<CreateResult> {
    const [made] = await this.createPaused([config]);
    if (made === undefined) throw new Error("nothing was created");
    await this.host.unpause(made.domid);
    this.session(made.domid)?.terminal.focus();
    return made;
  }

  async pause(domid: number): Promise<void> {
    await tell(this.domain(domid)?.paused === true ? this.host.unpause(domid) : this.host.pause(domid));
    await this.refresh();
  }
  async shutdown(domid: number): Promise<void> {
    if ((await tell(this.host.shutdown(domid, "poweroff").then(() => true))) === true) {
      toasts.say(
        `${this.domain(domid)?.name ?? "The domain"} was asked to power off. Guests without XenBus do not hear it: destroy those.`,
      );
    }
  }
  async destroy(domid: number): Promise<void> {
    await tell(this.host.destroy(domid));
    await this.refresh();
  }
  private async discard(domid: number): Promise<void> {
    await this.host.destroy(domid);
    this.close(domid);
  }
  /** Close the terminal of a domain that is gone. */
  close(domid: number): void {
    this.session(domid)?.dispose();
    this.sessions = this.sessions.filter((s) => s.domid !== domid);
    if (this.maximised === domid) this.maximised = null;
  }
  /** Take away what has ended, with its terminals. */
  async clear(): Promise<void> {
    for (const d of this.guests) if (d.ended) await tell(this.host.destroy(d.domid));
    await this.refresh();
    for (const s of [...this.sessions]) if (s.gone) this.close(s.domid);
  }
  clone(domid: number): Promise<void> {
    const name = this.domain(domid)?.name ?? String(domid);
    return this.while(`cloning ${name}`, async () => {
      const [copy] = await this.host.fork(domid, { name: this.freeName(`${name}-clone`) });
      if (copy !== undefined) {
        await this.addSession(copy.domid, copy.name);
        this.selected = copy.domid;
      }
    }) as Promise<void>;
  }
  /** Save to a file that the browser downloads; the domain is destroyed after, as `xl save` does, or goes on. */
  save(domid: number, after: "destroy" | "continue"): Promise<Blob | undefined> {
    const name = this.domain(domid)?.name ?? String(domid);
    return this.while(`saving ${name}`, async () => {
      const file = `${this.environment?.files ?? ""}${name}.xensave`;
      await this.host.save(domid, { file, after });
      const blob = (await this.client.extraCall("getFile", file)) as Blob | Uint8Array;
      await this.client.extraCall("removeFile", file);
      return blob instanceof Blob ? blob : new Blob([new Uint8Array(blob)]);
    });
  }
  restore(file: File): Promise<CreateResult | undefined> {
    return this.while(`restoring ${file.name}`, async () => {
      const path = await this.putFile(file);
      const made = await this.host.restore(path, {});
      await this.client.extraCall("removeFile", path);
      await this.addSession(made.domid, made.name);
      this.selected = made.domid;
      return made;
    });
  }
  /** Give the lab a file; the result is its name there. */
  async putFile(file: File): Promise<string> {
    const name = `files/${file.name.replace(/[^\w.+-]/g, "_")}`;
    const remote = this.environment?.kind === "service";
    const content = remote ? new Uint8Array(await file.arrayBuffer()) : file;
    const put: unknown = await this.client.extraCall("putFile", name, content);
    return typeof put === "string" ? put : name;
  }

  /** Show a domain's view. */
  show(view: ViewName, domid?: number): void {
    this.view = view;
    this.inspectorOpen = true;
    if (domid !== undefined) this.selected = domid;
  }
}

export const lab = new LabState();
