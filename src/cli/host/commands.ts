/** `xenolith up`, `down`, `info`: the host service for people and scripts. */
import { InvalidArgumentError, Option, type Command } from "commander";
import { link, LINK_SYNTAX, type LinkSpec } from "../network.js";
import type { Forward } from "../../devices/network/index.js";
import { schedulers } from "../../hypervisor/scheduler/index.js";
import type { EngineKind } from "../../machine/cpu/cpu.js";
import {
  connectHost,
  InputError,
  runService,
  serviceGone,
  SERVICE_COMMAND,
  startService,
  statePaths,
  type HostConnection,
  type ServiceOptions,
} from "../../sys/node/index.js";
import { HostError, type DomainInfo, type HostInfo } from "../../toolstack/host/api.js";
import { STATUS_OK } from "../status.js";
import { collect, whole } from "../values.js";

/** How long `down --shutdown` waits for the guests, in seconds. */
const SHUTDOWN_S = 60;

interface UpFlags {
  readonly memory?: number;
  readonly pcpus?: number;
  readonly scheduler?: string;
  readonly engine?: EngineKind;
  readonly threshold?: number;
  readonly bridge?: string[];
  readonly forward?: Forward[];
  readonly link?: LinkSpec[];
  readonly migrationPort?: number;
  readonly migrationAddress?: string;
}
interface DownFlags {
  readonly shutdown: boolean;
  readonly force: boolean;
  readonly timeout: number;
}

/** PROTO:HOSTPORT:[GUESTADDRESS:]GUESTPORT */
function forward(text: string, before: Forward[] = []): Forward[] {
  const m = /^(tcp|udp):(\d{1,5}):(?:(\d{1,3}(?:\.\d{1,3}){3}):)?(\d{1,5})$/.exec(text);
  const [hostPort, guestPort] = [Number(m?.[2]), Number(m?.[4])];
  if (m === null || hostPort > 65535 || guestPort > 65535 || guestPort === 0)
    throw new InvalidArgumentError("It must be like tcp:2222:22 or tcp:2222:10.0.2.16:22.");
  const guestAddress = m[3];
  return [
    ...before,
    {
      proto: m[1] === "tcp" ? "tcp" : "udp",
      hostPort,
      guestPort,
      ...(guestAddress === undefined ? {} : { guestAddress }),
    },
  ];
}

/** Add the commands; `done` hears the exit status. */
export function hostCommands(program: Command, version: string, done: (status: number) => void): void {
  program
    .command("up")
    .description("start the host service, which keeps domains running (the first xl command does so by itself)")
    .option(
      "--memory <MiB>",
      "memory for all domains together (default 2048, or half of what is free)",
      whole(64, 3840),
    )
    .option("--pcpus <n>", "physical CPUs of the machine (default 4)", whole(1, 32))
    .addOption(new Option("--scheduler <name>", "the scheduler (default credit)").choices([...schedulers.keys()]))
    .addOption(new Option("--engine <kind>", "the CPU engine").choices(["auto", "interpreter", "translator"]))
    .option("--threshold <n>", "executions after which code is translated", whole(1, 1e9))
    .option("--bridge <name>", "a bridge to make at once (repeatable)", collect)
    .option(
      "--forward <spec>",
      "a port of the host that leads to a guest behind the NAT: tcp:2222:22 or tcp:2222:10.0.2.16:22 (repeatable)",
      forward,
    )
    .option("--link <spec>", `join a bridge with that of another host: ${LINK_SYNTAX} (repeatable)`, link)
    .option("--migration-port <port>", "take incoming migrations on this TCP port (0: any)", whole(0, 65535))
    .option("--migration-address <address>", "and on this address (default 127.0.0.1)")
    .action(async (flags: UpFlags) => done(await up(flags, version)));
  program
    .command("down")
    .description("end the host service; it stays while domains run, unless told what to do with them")
    .option("--shutdown", "shut the domains down first", false)
    .option("--force", "destroy the domains", false)
    .option("--timeout <seconds>", "how long --shutdown waits", whole(1, 86_400), SHUTDOWN_S)
    .action(async (flags: DownFlags) => done(await down(flags)));
  program
    .command("info")
    .description("facts of the host service")
    .option("--json", "as one JSON object", false)
    .option("--no-start", "do not start a service where there is none")
    .action(async (flags: { json: boolean; start: boolean }) => done(await info(flags)));
  program
    .command(SERVICE_COMMAND, { hidden: true })
    .argument("<options>")
    .action(async (text: string) => {
      done(await runService({ ...(JSON.parse(text) as ServiceOptions), version }));
    });
}

/** A host's refusal is a line on stderr and status 1. */
async function said(body: () => Promise<number>): Promise<number> {
  try {
    return await body();
  } catch (e) {
    if (!(e instanceof HostError)) throw e;
    if (e.code === "internal") throw e;
    throw new InputError(e.message);
  }
}

function up(flags: UpFlags, version: string): Promise<number> {
  return said(async () => {
    const { folder } = statePaths();
    const { started } = await startService({
      stateDir: folder,
      memoryMiB: flags.memory,
      pcpus: flags.pcpus,
      scheduler: flags.scheduler,
      engine: flags.engine,
      threshold: flags.threshold,
      bridges: flags.bridge,
      forwards: flags.forward,
      links: flags.link,
      migrationPort: flags.migrationPort,
      migrationAddress: flags.migrationAddress,
      version,
    });
    const host = await connectHost({ autostart: true });
    const facts = await host.info();
    host.close();
    const state = started ? "is up" : "is up already";
    process.stdout.write(
      `the host service ${state}: process ${facts.pid ?? "?"}, ${facts.totalMemory} MiB for domains, ${facts.nrCpus} CPUs, state in ${facts.stateDir ?? "?"}\n`,
    );
    if (!started && Object.keys(flags).length > 0) {
      process.stderr.write(
        "xenolith: the options have no effect on a service that runs: end it with `xenolith down` first\n",
      );
    }
    return STATUS_OK;
  });
}

function down(flags: DownFlags): Promise<number> {
  return said(async () => {
    let host: HostConnection;
    try {
      host = await connectHost({ autostart: false });
    } catch (e) {
      if (!(e instanceof HostError && e.code === "state")) throw e;
      process.stdout.write("no host service is running\n");
      return STATUS_OK;
    }
    if (flags.shutdown && !flags.force) await shutDownAll(host, flags.timeout);
    try {
      await host.request("stop", flags.force ? "force" : "gently");
    } catch (e) {
      if (!(e instanceof HostError && e.code === "state")) throw e;
      throw new InputError(`${e.message}: --shutdown shuts them down first, --force destroys them`);
    }
    await host.closed;
    // What is started next must find the folder free.
    await serviceGone();
    process.stdout.write("the host service has ended\n");
    return STATUS_OK;
  });
}

/** Ask every domain to shut down, all at once; those that do not in time are named. */
async function shutDownAll(host: HostConnection, seconds: number): Promise<void> {
  const guests = (await host.listDomains()).filter((d) => d.domid !== 0);
  const late: string[] = [];
  const end = async (d: DomainInfo): Promise<void> => {
    try {
      if (d.shutdown) return await host.destroy(d.domid);
      await host.shutdown(d.domid, "poweroff");
      await host.waitForEnd(d.domid, seconds * 1000);
      // What its configuration keeps or starts again goes too.
      await host.destroy(d.domid);
    } catch (e) {
      if (e instanceof HostError && e.code === "unknown-domain") return;
      if (e instanceof HostError && e.code === "timeout") late.push(d.name);
      else throw e;
    }
  };
  await Promise.all(guests.map(end));
  if (late.length > 0) {
    throw new InputError(`still running after ${seconds} s: ${late.join(", ")}: --force destroys them`);
  }
}

function info(flags: { json: boolean; start: boolean }): Promise<number> {
  return said(async () => {
    const host = await connectHost({ autostart: flags.start });
    const facts = await host.info();
    const domains = await host.listDomains();
    host.close();
    if (flags.json)
      process.stdout.write(`${JSON.stringify({ ...snakes(facts), domains: domains.map(domainFacts) }, null, 2)}\n`);
    else for (const [k, v] of Object.entries(snakes(facts))) process.stdout.write(`${k.padEnd(22)} : ${text(v)}\n`);
    return STATUS_OK;
  });
}

const text = (v: unknown): string => (Array.isArray(v) ? v.join(":") : String(v));
const snake = (k: string): string =>
  k.replace(/[MK]iB/g, (unit) => `_${unit.toLowerCase()}`).replace(/[A-Z]/g, (l) => `_${l.toLowerCase()}`);

/** Keys in snake_case. */
function snakes(facts: HostInfo): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [k, v] of Object.entries(facts)) out[snake(k)] = v;
  out["hw_caps"] = facts.hwCaps.map((w) => w.toString(16).padStart(8, "0"));
  return out;
}

function domainFacts(d: DomainInfo): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [k, v] of Object.entries(d)) if (k !== "vcpus" && k !== "sched") out[snake(k)] = v;
  return out;
}
