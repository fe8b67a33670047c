// What real xl answers, command by command, against a fake host with the same facts: standard output to the character, standard error
// by its recognisable parts in order, exit statuses.
import { describe, expect, it } from "vitest";
import { fakeDomain, FakeHost, uuid } from "./fake-host.js";
import { FakeIo, runFake, runFakeXentop } from "./fake-io.js";
import { readTranscript, shellWords, type Step } from "./transcript.js";
import { parseDomainConfig } from "../../src/toolstack/config/index.js";

const GOLDEN1 = `name="golden1"
type="pv"
kernel="/lab/vmlinuz-cloud"
ramdisk="/lab/initrd2.gz"
extra="console=hvc0 oracle.tick"
memory=256
maxmem=320
vcpus=2
uuid="11111111-2222-3333-4444-555555555555"
disk=["phy:/dev/loop0,xvda,w"]
vif=["mac=00:16:3e:aa:bb:01,bridge=xenbr0"]
`;

function withDomain0(): FakeHost {
  const host = new FakeHost();
  host.add(fakeDomain(0, "Domain-0", { running: true }));
  return host;
}

function withGolden1(): FakeHost {
  const host = withDomain0();
  host.add(
    fakeDomain(
      1,
      "golden1",
      {
        uuid: "11111111-2222-3333-4444-555555555555",
        currentKiB: 262144,
        targetKiB: 262144,
        maxKiB: 327680,
        blocked: true,
        config: parseDomainConfig(GOLDEN1, "golden1.cfg"),
      },
      2,
    ),
  );
  host.rings = [
    [15, 8, -1],
    [-1, 522, 523],
    [9, 589, -1],
    [-1, 1101, 1102],
  ];
  host.device(1, "vbd", 51712);
  host.device(1, "vif", 0, "00:16:3e:aa:bb:01");
  const net = { devid: 0, rxPackets: 13, rxDropped: 0, txPackets: 16, txDropped: 0 };
  host.stats.set(1, {
    vifs: [{ ...net, rxBytes: 852, txBytes: 1324 }],
    vbds: [{ devid: 51712, outOfRequests: 0, reads: 44, writes: 13, sectorsRead: 8480, sectorsWritten: 48 }],
  });
  return host;
}

/** The hosts that the transcripts were taken on. */
const HOSTS: Readonly<Record<string, () => FakeHost>> = {
  host: withDomain0,
  errors: withDomain0,
  dom0: withDomain0,
  config: withDomain0,
  dryrun: withDomain0,
  life: withGolden1,
  running: () => {
    const host = withGolden1();
    host.facts.freeMemory = 2772;
    host.pools[0].name = "Pool-node0";
    for (const d of host.domains) d.pool = "Pool-node0";
    // The hypervisor's limit: memory= and 1 MiB.
    host.domains[1].maxKiB = 263168;
    return host;
  },
  credit: () => {
    const host = new FakeHost();
    Object.assign(host.facts, {
      nrCpus: 2,
      scheduler: "credit",
      hwCaps: [0x1fcbf3fd, ...host.facts.hwCaps.slice(1)],
      commandLine: `${host.facts.commandLine}sched=credit`,
    });
    host.pools = [{ id: 0, name: "Pool-0", scheduler: "credit", cpus: [0, 1], domains: 1 }];
    host.globals = { tslice_ms: 30, ratelimit_us: 1000, migration_delay_us: 0 };
    host.add(fakeDomain(0, "Domain-0", { running: true }, 2));
    return host;
  },
};

/** Times and states that a transcript was taken with. */
function apply(host: FakeHost, io: FakeIo, [what, id, ...args]: readonly string[]): void {
  if (what === "clock") io.wallClock = id;
  if (what === "gone") host.domains = host.domains.filter((x) => x.domid !== Number(id));
  if (what === "next") host.nextDomid = Number(id);
  const d = host.domains.find((x) => x.domid === Number(id));
  if (d === undefined) return;
  if (what === "run") {
    d.running = args[0][0] === "r";
    d.blocked = args[0][1] === "b";
    d.cpuTimeNs = Number(args[1]) * 1e9;
    d.vcpusOnline = Number(args[2]);
  } else if (what === "vcpu") {
    const [vcpu, cpu, state, time] = args;
    const v = d.vcpus[Number(vcpu)];
    if (cpu !== "-") v.cpu = Number(cpu);
    v.online = !state.endsWith("p");
    v.running = state.startsWith("r");
    v.blocked = state[1] === "b";
    v.timeNs = Number(time) * 1e9;
  } else if (what === "up") {
    io.time = Math.max(io.time, 1_000_000);
    d.startedAt = io.time - Number(args[0]) * 1000;
  } else throw new Error(`unknown directive ${what}`);
}

function compare(step: Step, status: number, stdout: string, stderr: string): void {
  const where = `${step.section} $ ${step.command}\n${stdout}${stderr}`;
  const more = step.stdout.indexOf("...");
  const lines = stdout.split("\n");
  if (more >= 0) expect(lines.slice(0, more), where).toEqual(step.stdout.slice(0, more));
  else expect(stdout.replace(/\n$/, "").split("\n"), where).toEqual(step.stdout.length === 0 ? [""] : [...step.stdout]);
  let at = 0;
  for (const part of step.stderr) {
    const found = stderr.indexOf(part, at);
    expect(found, `${where}\nmissing on stderr: ${part}`).toBeGreaterThanOrEqual(0);
    at = found + part.length;
  }
  if (step.stderr.length === 0) expect(stderr, where).toBe("");
  expect(status, where).toBe(step.status);
}

describe.each(Object.keys(HOSTS))("as real xl: %s", (name) => {
  const host = HOSTS[name]();
  const io = new FakeIo();
  const text = (s: string): Uint8Array => new TextEncoder().encode(s);
  const g1 = text(GOLDEN1.replace("oracle.tick", "demo.tick"));
  io.files.set("golden1.cfg", g1);
  io.files.set("g.cfg", g1);
  io.files.set("empty.cfg", text(""));
  io.files.set("bin.cfg", Uint8Array.of(0xff, 0xfe, 0, 1));
  io.files.set("p1.cfg", text('name="p1"\nsched="credit2"\ncpus=["1"]\n'));
  // What was used between two looks of xentop.
  io.onSleep = () => {
    host.domains[0].cpuTimeNs += 43e6;
    if (host.domains.length > 1) host.domains[1].cpuTimeNs += 94e6;
  };
  const steps = readTranscript(name).filter((s) => !s.directives.some(([d]) => d === "host"));
  it.each(steps.map((s, i) => [`${i} ${s.section} $ ${s.command}`, s] as const))("%s", async (_, step) => {
    for (const d of step.directives) apply(host, io, d);
    for (const [file, content] of step.files) io.files.set(file, text(content.replace(/\n$/, "")));
    if (name === "config") host.domains = host.domains.filter((d) => d.domid === 0);
    const [first, ...words] = shellWords(step.command.replace(/^timeout \d+ |^.*; (?=xl )/, ""));
    if (first === "xentop") {
      const r = await runFakeXentop(host, words, io);
      compare(step, r.status, r.stdout, r.stderr);
      return;
    }
    expect(first).toBe("xl");
    const r = await runFake(host, words, io);
    compare(step, r.status, r.stdout, r.stderr);
  });
});

it("the transcripts are all there", () => {
  expect(uuid(0)).toBe("00000000-0000-0000-0000-000000000000");
  const counts = Object.keys(HOSTS).map((n) => readTranscript(n).length);
  expect(counts.every((c) => c > 0)).toBe(true);
  expect(counts.reduce((a, b) => a + b)).toBeGreaterThan(300);
});
