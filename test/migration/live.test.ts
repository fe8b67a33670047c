// Live migration of a small guest between two machines in this process: what moves, and a link that breaks at every moment.
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { describe, expect, it } from "vitest";
import { VirtualClock } from "../../src/machine/clock.js";
import { connectLink, listenForLinks } from "../../src/sys/node/migration-streams.js";
import {
  MigrationError,
  MigrationLedger,
  receiveDomain,
  resumeDomain,
  sendDomain,
  type Duplex,
  type Progress,
  type SendOptions,
} from "../../src/toolstack/migration/index.js";
import type { RunningDomain } from "../../src/toolstack/machine.js";
import { Host, holdings, LIMIT } from "../machine/harness.js";
import { during } from "./during.js";
import { follow, goingsOn, startMini, wentOn, works } from "./mini.js";
import { pipe, type Cut } from "./pipe.js";

const MEMORY = { memoryMiB: 48 };

/** Both results, whatever they are. */
async function migrate(
  one: Host,
  two: Host,
  running: RunningDomain,
  link: { a: Duplex; b: Duplex },
  ledger: MigrationLedger,
  options: SendOptions = {},
) {
  const [sent, got] = await during(
    [one, two],
    Promise.allSettled([
      sendDomain(one.machine, running, link.a, options),
      receiveDomain(two.machine, link.b, ledger, { patienceMs: 300 }),
    ]),
  );
  return { sent, got };
}

describe("live migration", { timeout: LIMIT }, () => {
  it("a guest that writes all the time goes on with every page as it was; rounds become shorter", async () => {
    const one = new Host(MEMORY);
    const two = new Host({ ...MEMORY, pcpus: 1 });
    await two.guest("hello", { memoryMiB: 6 });
    const g = await startMini(one, "work=12");
    await works(one, g.running);
    const seen: Progress[] = [];
    const { sent, got } = await migrate(one, two, g.running, pipe(), new MigrationLedger(), {
      onProgress: (p) => seen.push(p),
    });
    if (sent.status !== "fulfilled" || got.status !== "fulfilled" || got.value === null)
      throw new Error("no migration");
    expect(one.machine.xen.domains.has(g.domid)).toBe(false);
    expect(sent.value.remoteDomid).toBe(got.value.running.domain.domid);
    expect(sent.value.rounds).toBeGreaterThan(1);
    expect(sent.value.downtimeMs).toBeLessThan(sent.value.totalMs);
    // What it wrote while it was copied went a second time, and not everything did.
    const last = seen.filter((p) => p.phase === "final").at(-1);
    expect(last?.of).toBeGreaterThan(0);
    expect(last?.of).toBeLessThan(200);
    const h = await follow(two, got.value);
    await works(two, h.running);
    await works(two, h.running);
    expect(h.running.domain.name).toBe(g.running.domain.name);
    expect(two.machine.xs.read(`/local/domain/${h.domid}/name`)).toBe(g.running.domain.name);
    two.close();
  });

  it("there and back again, over a socket", async () => {
    const hosts = [new Host(MEMORY), new Host(MEMORY)] as const;
    const ledger = new MigrationLedger();
    let g = await startMini(hosts[0]);
    for (let i = 0; i < 4; i++) {
      const from = hosts[i % 2] as Host;
      const to = hosts[(i + 1) % 2] as Host;
      let taken: ReturnType<typeof receiveDomain> | null = null;
      const server = await listenForLinks({ port: 0 }, (link) => (taken = receiveDomain(to.machine, link, ledger)));
      const { port } = server.address() as AddressInfo;
      const out = await during(
        hosts,
        connectLink(`127.0.0.1:${port}`).then((link) => sendDomain(from.machine, g.running, link)),
      );
      expect(out.pagesSent).toBeGreaterThanOrEqual(1024);
      const got = await during(hosts, taken ?? Promise.resolve(null));
      const closed = once(server, "close");
      server.close();
      if (got === null) throw new Error("nothing came");
      g = await follow(to, got);
      await works(to, g.running);
      await closed;
    }
    for (const h of hosts) h.close();
  });

  it("under the virtual clock too, where waiting takes no time", async () => {
    const [one, two] = [0, 1].map(() => new Host({ ...MEMORY, clock: new VirtualClock() })) as [Host, Host];
    const g = await startMini(one);
    await works(one, g.running);
    const { sent, got } = await migrate(one, two, g.running, pipe(), new MigrationLedger(), { patienceMs: 300 });
    expect(sent.status).toBe("fulfilled");
    if (got.status !== "fulfilled" || got.value === null) throw new Error("no migration");
    const h = await follow(two, got.value);
    await works(two, h.running);
    expect([one.machine.xen.hostBusy, two.machine.xen.hostBusy]).toEqual([0, 0]);
    two.close();
  });

  it("a host without room says so, and the domain never stopped", async () => {
    const one = new Host(MEMORY);
    const two = new Host(MEMORY);
    const filler = two.machine.xen.createDomain({ uuid: "0", name: "filler", maxVcpus: 1, maxPages: 1e6 });
    while (two.machine.xen.frames.freeFrames > 500) filler.mm.allocPage(0);
    const before = holdings(two.machine);
    const g = await startMini(one);
    const { sent, got } = await migrate(one, two, g.running, pipe(), new MigrationLedger());
    expect(got.status).toBe("rejected");
    expect(sent).toMatchObject({ status: "rejected", reason: { code: "peer" } });
    expect(String((sent as PromiseRejectedResult).reason)).toContain("has not enough free memory");
    expect(goingsOn(one, g.domid, 1)).toBe(0);
    await works(one, g.running);
    expect(holdings(two.machine)).toEqual(before);
    one.close();
  });

  it("a token is good for one migration, and a question before the commit calls it off", async () => {
    const ledger = new MigrationLedger();
    let fenced = 0;
    const ticket = ledger.begin("a", () => fenced++);
    expect(ledger.begin("a", () => {})).toBe(null);
    expect(ledger.settle("a")).toBe("aborted");
    expect([fenced, ticket?.commit(5), ledger.settle("a")]).toEqual([1, false, "aborted"]);
    const second = ledger.begin("b", () => fenced++);
    expect([second?.commit(7), ledger.settle("b"), ledger.domidOf("b"), fenced]).toEqual([true, "committed", 7, 1]);
    second?.abort();
    expect(ledger.settle("b")).toBe("committed");
    // Asked about before it began: it may not begin any more.
    expect(ledger.settle("c")).toBe("aborted");
    expect(ledger.begin("c", () => {})).toBe(null);
    // Many strangers do not push a committed one out.
    for (let i = 0; i < 10_000; i++) ledger.settle(`x${i}`);
    expect(ledger.settle("b")).toBe("committed");
  });
});

describe("a broken link leaves the domain running on exactly one side", { timeout: 4 * LIMIT }, () => {
  /** One migration over a link with a cut; both hosts are used again and again, the domain is wherever it is. */
  class Pair {
    readonly hosts = [new Host(MEMORY), new Host(MEMORY)] as const;
    readonly ledgers = [new MigrationLedger(), new MigrationLedger()] as const;
    at: 0 | 1 = 0;
    running!: RunningDomain;
    async start(): Promise<this> {
      this.running = (await startMini(this.hosts[0])).running;
      return this;
    }
    private alive(i: 0 | 1): RunningDomain[] {
      const { machine } = this.hosts[i];
      return [...machine.xen.domains.values()]
        .filter((d) => !d.native && !d.dying)
        .map((d) => machine.runningOf(d.domid))
        .filter((r) => r !== undefined);
    }
    /** Migrate to the other side, the link breaking; the side where the domain runs afterwards, alone. */
    async attempt(cut: Cut, reconnects = true, link = pipe(cut)): Promise<"stayed" | "moved" | "undecided"> {
      const { hosts, at } = this;
      const to = (1 - at) as 0 | 1;
      const [one, two] = [hosts[at], hosts[to]];
      const before = holdings(two.machine);
      const times = goingsOn(one, this.running.domain.domid, 1);
      const later: Promise<unknown>[] = [];
      const reconnect = (): Promise<Duplex> => {
        const p = pipe();
        later.push(receiveDomain(two.machine, p.b, this.ledgers[to]).catch(() => {}));
        return Promise.resolve(p.a);
      };
      const { sent, got } = await migrate(one, two, this.running, link, this.ledgers[to], {
        patienceMs: 300,
        ...(reconnects ? { reconnect } : {}),
      });
      await during(hosts, Promise.all(later));
      if (sent.status === "rejected" && (sent.reason as MigrationError).code === "undecided") return "undecided";
      // Exactly one domain, on one side, that runs and finds its memory in order.
      expect(this.alive(at).length + this.alive(to).length, JSON.stringify(cut)).toBe(1);
      expect(sent.status).toBe(got.status === "fulfilled" ? "fulfilled" : "rejected");
      if (sent.status === "rejected") {
        expect(sent.reason).toBeInstanceOf(MigrationError);
        expect(this.alive(at)).toEqual([this.running]);
        expect(holdings(two.machine)).toEqual(before);
        const { domain } = this.running;
        if (goingsOn(one, domain.domid, 1) > times) await wentOn(one, this.running, 1, times + 1);
        await works(one, this.running);
        return "stayed";
      }
      const moved = this.alive(to)[0];
      if (moved === undefined) throw new Error("it is nowhere");
      this.running = moved;
      this.at = to;
      await wentOn(two, moved, 0);
      await works(two, moved);
      return "moved";
    }
    close(): void {
      for (const h of this.hosts) {
        for (const d of [...h.machine.xen.domains.values()]) h.machine.runningOf(d.domid)?.destroy();
      }
    }
  }

  it("after every message, and at many bytes of what is sent", async () => {
    const pair = await new Pair().start();
    // One that comes through says where messages end.
    const whole = pipe();
    expect(await pair.attempt({}, true, whole)).toBe("moved");
    expect(whole.bounds.length).toBeGreaterThan(20);
    let p = 1;
    const offsets = new Set([0, 1, 7, 20, 29]);
    for (const b of whole.bounds) offsets.add(b);
    for (let i = 0; i < 14; i++) {
      p = (p * 48271) % 2147483647;
      offsets.add(p % 4_200_000);
    }
    for (const there of offsets) {
      const outcome = await pair.attempt({ there });
      // The first round is always as long; how long the others are differs.
      if (there < 4_190_000) expect(outcome, `cut at ${there}`).toBe("stayed");
      else expect(["stayed", "moved"]).toContain(outcome);
    }
    pair.close();
  });

  it("around the commit, byte by byte, in both directions", async () => {
    const pair = await new Pair().start();
    const outcomes = new Set<string>();
    // What comes back: WELCOME and READY of eight bytes each, COMMITTED of twelve.
    for (let back = 0; back <= 28; back++) {
      const outcome = await pair.attempt({ back });
      outcomes.add(outcome);
      if (back < 8) expect(outcome, `${back} bytes back`).toBe("stayed");
      // The link broke with READY itself: no commit can follow it.
      if (back > 16) expect(outcome, `${back} bytes back`).toBe("moved");
    }
    expect(outcomes).toEqual(new Set(["stayed", "moved"]));
    pair.close();
  });

  it("while the commit itself is on its way", async () => {
    const pair = await new Pair().start();
    const outcomes: string[] = [];
    for (let arrived = 0; arrived <= 8; arrived++) {
      const { hosts, at, ledgers } = pair;
      const to = (1 - at) as 0 | 1;
      const p = pipe();
      let ready = false;
      const a: Duplex = {
        ...p.a,
        write: (bytes) => {
          // READY has come: the next message is the commit.
          if (ready && bytes.length === 8 && bytes[0] === 4) {
            if (arrived > 0) void p.a.write(bytes.subarray(0, arrived));
            p.break();
            throw new Error("connection reset");
          }
          return p.a.write(bytes);
        },
        read: async () => {
          const b = await p.a.read();
          if (b?.[0] === 0x82) ready = true;
          return b;
        },
      };
      const later: Promise<unknown>[] = [];
      const { sent, got } = await migrate(hosts[at], hosts[to], pair.running, { a, b: p.b }, ledgers[to], {
        patienceMs: 300,
        reconnect: () => {
          const q = pipe();
          later.push(receiveDomain(hosts[to].machine, q.b, ledgers[to]).catch(() => {}));
          return Promise.resolve(q.a);
        },
      });
      await during(hosts, Promise.all(later));
      expect(sent.status).toBe(got.status);
      outcomes.push(sent.status);
      if (got.status === "fulfilled" && got.value !== null) {
        pair.running = got.value.running;
        pair.at = to;
        await wentOn(hosts[to], pair.running, 0);
      } else await wentOn(hosts[at], pair.running, 1);
      await works(hosts[pair.at], pair.running);
    }
    // Whole, it counts, although its sender saw an error; in part it does not.
    expect(outcomes).toEqual([...Array<string>(8).fill("rejected"), "fulfilled"]);
    pair.close();
  });

  it("nobody to ask: it is set going on neither side, until somebody decides", async () => {
    const pair = await new Pair().start();
    const [one, two] = pair.hosts;
    expect(await pair.attempt({ back: 20 }, false)).toBe("undecided");
    // It did arrive: the sender's copy must stay as it is.
    const copy = [...two.machine.xen.domains.values()].find((d) => !d.native);
    expect(copy?.pauseCount).toBe(0);
    for (let i = 0; i < 10; i++) one.machine.runSlice(2);
    expect(goingsOn(one, pair.running.domain.domid, 1)).toBe(0);
    expect(pair.running.domain.shutdownCode).toBe(2);
    // Whoever knows better may still say so.
    if (copy !== undefined) two.machine.runningOf(copy.domid)?.destroy();
    resumeDomain(one.machine, pair.running);
    await wentOn(one, pair.running, 1);
    await works(one, pair.running);
    pair.close();
  });
});
