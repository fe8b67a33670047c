/** The command line: `xenolith run`, `xenolith debian`. Reads options, catches mistakes, returns the exit status. */
import { readFileSync } from "node:fs";
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { schedulers } from "../hypervisor/scheduler/index.js";
import { VirtualClock } from "../machine/clock.js";
import type { EngineKind } from "../machine/cpu/cpu.js";
import { engineFlags, InputError, packageRoot, realClock, type DomainPlan } from "../sys/node/index.js";
import { BuildError } from "../toolstack/builder/index.js";
import { ConfigError } from "../toolstack/config/index.js";
import type { Machine } from "../toolstack/machine.js";
import { hostCommands } from "./host/commands.js";
import { DEBIAN_CMDLINE, prepareDebian, prepareDebianSystem } from "./debian.js";
import { Output } from "./output.js";
import { broadcast, BROADCAST_SYNTAX, type BroadcastSpec } from "./broadcast.js";
import { capture, CAPTURE_SYNTAX, link, LINK_SYNTAX, type CaptureSpec, type LinkSpec } from "./network.js";
import { plansFrom, type PlanFlags } from "./plans.js";
import { profiling, type ProfileFlags } from "./profile.js";
import { recordCommand, replayCommand, type RecordFlags, type ReplayFlags } from "./record.js";
import { Session, type SessionResult } from "./session.js";
import { writeSymbols } from "./symbols.js";
import { webCommand } from "./web.js";
import { STATUS_INPUT, STATUS_INTERNAL, STATUS_OK } from "./status.js";
import { parseTraceList, TraceListError, TRACE_KINDS } from "./trace-format.js";
import { collect, whole } from "./values.js";

interface MachineFlags extends PlanFlags {
  readonly trace?: string;
  readonly traceFile?: string;
  readonly xenstoreSocket?: string;
  readonly link?: LinkSpec[];
  readonly pcap?: CaptureSpec[];
  readonly broadcast?: BroadcastSpec[];
  readonly traceDomain?: string[];
  readonly timeout?: number;
  readonly scheduler?: string;
  readonly pcpus?: number;
  readonly engine?: EngineKind;
  readonly threshold?: number;
  readonly reboot: boolean;
  readonly gdb?: number;
  readonly gdbWait: boolean;
  readonly stats: boolean;
  readonly json: boolean;
}

interface DebianFlags extends MachineFlags {
  readonly generic: boolean;
  readonly system: boolean;
  readonly run?: string;
}

const version = (): string => {
  const text = readFileSync(`${packageRoot}package.json`, "utf8");
  return (JSON.parse(text) as { version: string }).version;
};

/** Runs the command; the result is the exit status. */
export async function main(argv: readonly string[]): Promise<number> {
  // xl has a syntax of its own: everything after its name is its.
  if (argv[0] === "xl") return (await import("./xl/entry.js")).main(argv.slice(1));
  engineFlags();
  let status = STATUS_OK;
  const program = new Command("xenolith")
    .description("The Xen hypervisor in TypeScript: runs unmodified Xen PV guests on a software x86-64 CPU.")
    .version(version())
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(`xenolith: ${oneLine(text)}\n`) })
    .showSuggestionAfterError(true);

  machineOptions(
    program
      .command("run")
      .description("run domains: each FILE is an xl.cfg configuration or a kernel (ELF or bzImage)")
      .argument("<file...>", "configurations or kernels; key=value after a configuration overrides it"),
  ).action(async (files: string[], flags: MachineFlags) => {
    status = await runPlans(await plansFrom(files, flags), flags);
  });

  machineOptions(
    program
      .command("debian")
      .description("boot Debian's own kernel to a busybox shell (fetches the packages the first time)")
      .option("--generic", "the generic kernel instead of the cloud kernel", false)
      .option(
        "--system",
        "a whole Debian on a virtual disk (systemd, sshd; root, password xenolith), built the first time",
        false,
      )
      .option("--run <command>", "run one shell command in the guest, then power off"),
  ).action(async (flags: DebianFlags) => {
    if (flags.run?.includes('"') === true) throw new InputError('--run: a command here holds no ": use single quotes');
    if (flags.system) {
      if (flags.generic || flags.run !== undefined) throw new InputError("--system goes without --generic and --run");
      const { name, kernel, ramdisk, cmdline, disk, vif } = prepareDebianSystem((line) =>
        process.stderr.write(`${line}\n`),
      );
      const given = { name, ramdisk, cmdline, ...flags, disk: [disk, ...(flags.disk ?? [])], vif: flags.vif ?? [vif] };
      status = await runPlans(await plansFrom([kernel], given), given);
      return;
    }
    const guest = prepareDebian(flags.generic, (line) => process.stderr.write(`${line}\n`));
    const run = flags.run === undefined ? "" : ` run="${flags.run}"`;
    const given: MachineFlags =
      guest.ramdisk === undefined
        ? flags
        : { ...flags, ramdisk: guest.ramdisk, cmdline: `${flags.cmdline ?? DEBIAN_CMDLINE}${run}` };
    status = await runPlans(await plansFrom([guest.kernel], { ...given, name: given.name ?? guest.name }), given);
  });

  machineOptions(
    program
      .command("profile")
      .description("run, and say where the time went: by part of the engine, by exit, by symbol of the guest")
      .argument("<file...>", "configurations or kernels; key=value after a configuration overrides it")
      .option("-o, --output <file>", "the flame graph: .svg, .json (speedscope) or collapsed stacks", "profile.svg")
      .option("--top <n>", "lines of each list", whole(1, 10000), 30)
      .option("--interval <n>", "instructions from sample to sample (default 50000)", whole(1000, 1e9))
      .option("--symbols <file>", "a System.map, or what `nm -n` prints, for kernels without names of their own"),
  ).action(async (files: string[], flags: MachineFlags & ProfileFlags) => {
    const plans = await plansFrom(files, flags);
    const { onMachine, report } = profiling(plans, flags);
    try {
      status = await runPlans(plans, flags, onMachine);
    } finally {
      report();
    }
  });

  domainOptions(
    program
      .command("record")
      .description("run domains with the virtual clock and record all that comes in, to replay it exactly")
      .argument("<file...>", "configurations or kernels; key=value after a configuration overrides it"),
  )
    .requiredOption("-o, --output <file>", "the recording")
    .addOption(new Option("--scheduler <name>", "the scheduler (default credit)").choices([...schedulers.keys()]))
    .option("--pcpus <n>", "physical CPUs of the machine (default 4)", whole(1, 32))
    .option("--timeout <seconds>", "end after so long (status 124)", seconds)
    .action(async (files: string[], flags: RecordFlags) => {
      status = await recordCommand(files, flags, version());
    });

  program
    .command("replay")
    .description("run a recording again, instruction for instruction; with --gdb also backwards")
    .argument("<recording>", "a file that record has made")
    .option("--gdb <port>", "wait for gdb on this port; reverse-step and reverse-continue work", whole(0, 65535))
    .option("--until <n>", "stop after so many instructions and show where", whole(1, Number.MAX_SAFE_INTEGER))
    .option("--trace <list>", `trace lines on stderr: ${TRACE_KINDS.join(",")},all; kind:name for one name`)
    .option("--json", "one result object on stdout, the console on stderr", false)
    .action(async (file: string, flags: ReplayFlags) => {
      status = await replayCommand(file, flags, version());
    });

  program
    .command("symbols")
    .description("a Linux kernel's own names and stack frames as a file for gdb (symbol-file FILE)")
    .argument("<kernel>", "bzImage or ELF")
    .requiredOption("-o, --output <file>", "the file to write")
    .option("--map", "a System.map instead", false)
    .action(async (kernel: string, flags: { output: string; map: boolean }) => {
      await writeSymbols(kernel, flags.output, flags.map);
    });

  program.command("xl").description("Xen's xl, as the command `xl` is it: xenolith xl help").allowUnknownOption();

  hostCommands(program, version(), (code) => {
    status = code;
  });
  webCommand(program, (code) => {
    status = code;
  });

  try {
    await program.parseAsync([...argv], { from: "user" });
    return status;
  } catch (e) {
    return failed(e);
  }
}

function domainOptions(command: Command): Command {
  return command
    .option("--ramdisk <file>", "initial RAM disk")
    .option("--cmdline <text>", "the kernel's command line")
    .option("--memory <MiB>", "memory of the domain (default 256, or what the configuration says)", whole(1, 65536))
    .option("--vcpus <n>", "virtual CPUs of the domain (default 1)", whole(1, 128))
    .option("--name <name>", "name of the domain", domainName)
    .option("--disk <spec>", "a virtual disk, as in xl.cfg: FILE,raw,xvda,rw (repeatable)", collect)
    .option(
      "--vif <spec>",
      "a network interface, as in xl.cfg; bridge=nat leads to the host's network (repeatable)",
      collect,
    );
}

function machineOptions(command: Command): Command {
  return domainOptions(command)
    .addOption(
      new Option("--clock <kind>", "real time, or virtual: the same run every time")
        .choices(["real", "virtual"])
        .default("real"),
    )
    .option("--timeout <seconds>", "end after so long (status 124)", seconds)
    .addOption(new Option("--scheduler <name>", "the scheduler (default credit)").choices([...schedulers.keys()]))
    .option("--pcpus <n>", "physical CPUs of the machine (default 4)", whole(1, 32))
    .addOption(new Option("--engine <kind>", "the CPU engine").choices(["auto", "interpreter", "translator"]))
    .option("--threshold <n>", "executions after which code is translated", whole(1, 1e9))
    .option("--no-reboot", "a reboot ends the domain")
    .option("--trace <list>", `trace lines on stderr: ${TRACE_KINDS.join(",")},all; kind:name for one name`)
    .option("--trace-file <file>", "trace lines to a file")
    .option("--trace-domain <list>", "only these domains (names or numbers)", (text) => text.split(","))
    .option("--link <spec>", `join a bridge with another xenolith: ${LINK_SYNTAX} (repeatable)`, link)
    .option("--pcap <spec>", `write a vif's frames to a file for Wireshark: ${CAPTURE_SYNTAX} (repeatable)`, capture)
    .option("--broadcast <spec>", `domains on a broadcast channel: ${BROADCAST_SYNTAX} (repeatable)`, broadcast)
    .option("--xenstore-socket <path>", "serve XenStore there: XENSTORED_PATH=<path> xenstore-ls")
    .option("--gdb <port>", "serve gdb for the first domain on this port of the loopback interface", whole(0, 65535))
    .option("--gdb-wait", "with --gdb: the domain starts when gdb says so", false)
    .option("--stats", "counters at the end", false)
    .option("--json", "one result object on stdout, the console on stderr", false);
}

// --- values of options ------------------------------------------------------------------------------------------------------------

function seconds(text: string): number {
  const n = /^\d+(\.\d+)?$/.test(text) ? Number(text) : NaN;
  if (!(n > 0)) throw new InvalidArgumentError("It must be a number of seconds above 0.");
  return n;
}

function domainName(text: string): string {
  if (text === "" || /[/\s\0]/.test(text))
    throw new InvalidArgumentError("A domain name holds no spaces and no slashes.");
  return text;
}

// --- domains ----------------------------------------------------------------------------------------------------------------------

async function runPlans(
  plans: readonly DomainPlan[],
  flags: MachineFlags,
  onMachine?: (machine: Machine) => void,
): Promise<number> {
  const trace = flags.trace === undefined ? undefined : parseTraceList(flags.trace, flags.traceDomain);
  if (trace === undefined && (flags.traceFile ?? flags.traceDomain) !== undefined) {
    throw new InputError("--trace-file and --trace-domain need --trace");
  }
  for (const p of plans) for (const w of p.warnings) process.stderr.write(`xenolith: ${w}\n`);
  const output = new Output(flags.json ? process.stderr : process.stdout, process.stderr);
  const session = new Session(
    plans,
    {
      clock: flags.clock === "virtual" ? new VirtualClock() : realClock(),
      scheduler: flags.scheduler,
      pcpus: flags.pcpus,
      engine: flags.engine,
      threshold: flags.threshold,
      reboot: flags.reboot,
      timeoutMs: flags.timeout === undefined ? undefined : flags.timeout * 1000,
      trace,
      traceFile: flags.traceFile,
      xenstoreSocket: flags.xenstoreSocket,
      links: flags.link,
      captures: flags.pcap,
      broadcasts: flags.broadcast,
      stats: flags.stats,
      gdb: flags.gdb,
      gdbWait: flags.gdbWait,
      onMachine,
    },
    output,
    process.stdin,
  );
  const release = guard(session);
  let result: SessionResult;
  try {
    result = await session.start();
  } finally {
    release();
  }
  if (flags.json) process.stdout.write(`${JSON.stringify(result)}\n`);
  return result.status;
}

/** While a session runs: signals and a closed pipe end it, and what nobody caught gives the terminal back first. */
function guard(session: Session): () => void {
  const signals: Readonly<Record<string, number>> = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 };
  const handlers = Object.entries(signals).map(([name, status]): [string, () => void] => [
    name,
    () => session.stop("signal", status),
  ]);
  handlers.push(["SIGQUIT", () => session.dumpAll()]);
  const onPipe = (): void => session.stop("signal", 141);
  const onFatal = (e: unknown): void => {
    session.close();
    process.exit(failed(e));
  };
  for (const [name, handler] of handlers) process.on(name, handler);
  process.stdout.on("error", onPipe);
  process.on("uncaughtException", onFatal);
  process.on("unhandledRejection", onFatal);
  return () => {
    for (const [name, handler] of handlers) process.off(name, handler);
    process.stdout.off("error", onPipe);
    process.off("uncaughtException", onFatal);
    process.off("unhandledRejection", onFatal);
  };
}

// --- mistakes ---------------------------------------------------------------------------------------------------------------------

const oneLine = (text: string): string =>
  text
    .trim()
    .replace(/^error: /, "")
    .replace(/\s*\n\s*/g, " ");

/** Says what went wrong; the status that goes with it. */
function failed(e: unknown): number {
  if (e instanceof CommanderError) {
    // Help and version are no errors; what commander had to say it has said.
    return e.exitCode === 0 ? STATUS_OK : STATUS_INPUT;
  }
  if (
    e instanceof InputError ||
    e instanceof ConfigError ||
    e instanceof BuildError ||
    e instanceof TraceListError ||
    isFileError(e)
  ) {
    const { message, path } = e as NodeJS.ErrnoException;
    process.stderr.write(`xenolith: ${isFileError(e) ? `${path}: cannot be written` : oneLine(message)}\n`);
    return STATUS_INPUT;
  }
  const error = e instanceof Error ? e : new Error(String(e));
  process.stderr.write(
    `xenolith: internal error: ${error.stack ?? error.message}\n` +
      `xenolith: this is a mistake in xenolith, not in the guest: please report these lines, the command and the kernel used ` +
      `(xenolith ${version()}, Node ${process.versions.node}, ${process.platform} ${process.arch})\n`,
  );
  return STATUS_INTERNAL;
}

/** A file that the user named (a trace file) could not be opened. */
function isFileError(e: unknown): boolean {
  return e instanceof Error && "syscall" in e && (e as NodeJS.ErrnoException).syscall === "open" && "path" in e;
}
