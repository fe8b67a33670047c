// One machine, three ways to execute it: interpreted, translated when hot, translated at first sight. Guests must not be able to tell, and
// under the virtual clock every run repeats exactly.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { SHUTDOWN_crash, SHUTDOWN_poweroff, SHUTDOWN_reboot } from "../../src/abi/sched.js";
import type { TraceRecord } from "../../src/hypervisor/trace.js";
import { VirtualClock } from "../../src/machine/clock.js";
import type { EngineKind } from "../../src/machine/cpu/cpu.js";
import { debianFile, guestFile, Host, missing, TEST_LIMIT } from "./harness.js";

const ENGINES: readonly EngineKind[] = ["interpreter", "auto", "translator"];
const noDebian = missing(debianFile("vmlinuz-cloud"), debianFile("initramfs.cpio.gz"));
const noGrub = missing(debianFile("grub-x86_64-xen.bin"));

/** How our own guests end; the others need a partner, input or for ever. */
const GUESTS: readonly (readonly [string, number])[] = [
  ...[
    "hello",
    "hello-legacy",
    "shared-info",
    "grant-map",
    "grants",
    "events",
    "memory",
    "time",
    "sched",
    "traps",
    "console",
  ].map((name) => [name, SHUTDOWN_poweroff] as const),
  ["reboot", SHUTDOWN_reboot],
  ["crash", SHUTDOWN_crash],
];
const noGuests = missing(...GUESTS.map(([name]) => guestFile(name)));

/** Types GRUB's commands, each as soon as it asks: at the same points of the guest's time in every run. */
async function grub(host: Host): Promise<string> {
  const commands = ["ls", "cat (memdisk)/grub.cfg", "hashsum -h sha256 (memdisk)/grub.cfg", "halt"];
  const guest = await host.start(debianFile("grub-x86_64-xen.bin"), { memoryMiB: 64 });
  let typed = 0;
  guest.onOutput = () => {
    if (guest.text.split("grub> ").length - 1 > typed) guest.type(`${commands[typed++]}\r`);
  };
  expect(await guest.end()).toBe(SHUTDOWN_poweroff);
  return guest.text;
}

describe.each(ENGINES)("%s", { timeout: TEST_LIMIT }, (engine) => {
  it.skipIf(noGuests !== "")(`our own guests${noGuests}`, async () => {
    // Under the virtual clock: translating at first sight takes the host's time, and a guest that measures time would see it.
    const host = new Host({ memoryMiB: 64, engine, clock: new VirtualClock() });
    for (const [name, code] of GUESTS) {
      const guest = await host.guest(name, { vcpus: 2 });
      expect([name, await guest.end()]).toEqual([name, code]);
      if (code === SHUTDOWN_poweroff) expect(guest.log).toContain(`PASS: ${name}`);
      guest.running.destroy();
    }
  });

  it.skipIf(noGrub !== "")(`GRUB${noGrub}`, async () => {
    const text = await grub(new Host({ memoryMiB: 96, engine }));
    expect(text).toContain("(memdisk) (proc)");
    expect(text).toContain("configfile /boot/grub/grub.cfg");
    // The file lies in the image as it is (its length stands in what GRUB shows of its progress).
    const image = readFileSync(debianFile("grub-x86_64-xen.bin"));
    const at = image.indexOf("# First search for a suitable grub");
    const length = Number(/grub\.cfg +(\d+)B/.exec(text)?.[1]);
    expect(text).toContain(
      createHash("sha256")
        .update(image.subarray(at, at + length))
        .digest("hex"),
    );
  });
});

describe.skipIf(noDebian !== "")(`Debian to user space${noDebian}`, { timeout: TEST_LIMIT }, () => {
  // At first sight means ten minutes for Debian's 60,000 blocks, nearly all in V8: a low threshold has most of them translated too.
  it.each([
    ["interpreted", { engine: "interpreter" }],
    ["nearly all translated", { engine: "auto", threshold: 20 }],
  ] as const)("%s", async (_name, options) => {
    const host = new Host({ memoryMiB: 300, ...options });
    const guest = await host.debian("cloud", "quiet");
    // In between all code is forgotten, as when there is no room for more.
    const { cpu } = host.machine;
    for (let i = 0; i < 3; i++) {
      await host.runInstructions(6e8);
      cpu.forgetCode();
      expect(cpu.regions.stats.live).toBe(0);
      const { freeSlots } = cpu.regions as unknown as { freeSlots: number[] };
      expect(new Set(freeSlots).size).toBe(freeSlots.length);
    }
    await guest.shell();
    expect(await guest.sh("echo $((6 * 7)) | sed 's/4/x/'")).toBe("x2\n");
    host.close();
  });
});

/** A run under the virtual clock: its trace as a hash (with and without times), and how much was executed. */
interface Trail {
  records: number;
  hash: string;
  order: string;
  retired: number;
  time: number;
}

/** Run a guest, and follow it up to `most` records. */
async function trail(
  engine: EngineKind,
  run: (host: Host, full: () => boolean) => Promise<void>,
  most = Infinity,
): Promise<Trail> {
  const host = new Host({ memoryMiB: 300, engine, clock: new VirtualClock() });
  const { cpu, clock, xen } = host.machine;
  const hash = createHash("sha256");
  const order = createHash("sha256");
  const t: Trail = { records: 0, hash: "", order: "", retired: 0, time: 0 };
  const kinds = new Set<TraceRecord["kind"]>(["hypercall", "trap", "event", "grant", "sched"]);
  xen.trace.add((r) => {
    if (t.records >= most || !kinds.has(r.kind)) return;
    t.records++;
    hash.update(JSON.stringify(r));
    if (r.kind === "hypercall") order.update(JSON.stringify([r.domid, r.vcpu, r.name, r.args, r.result]));
    t.retired = cpu.retired;
    t.time = clock.now();
  });
  await run(host, () => t.records >= most);
  t.hash = hash.digest("hex");
  t.order = order.digest("hex");
  host.close();
  return t;
}

describe("under the virtual clock", { timeout: TEST_LIMIT }, () => {
  const whole =
    (name: string) =>
    async (host: Host): Promise<void> => {
      expect(await (await host.guest(name, { vcpus: 2 })).end()).toBe(SHUTDOWN_poweroff);
    };

  for (const engine of ENGINES) {
    it.skipIf(noGuests !== "")(`the same guests give the same trace twice, ${engine}${noGuests}`, async () => {
      for (const name of ["sched", "time", "events", "traps"]) {
        const first = await trail(engine, whole(name));
        expect(first.records).toBeGreaterThan(50);
        expect([name, await trail(engine, whole(name))]).toEqual([name, first]);
      }
    });
    it.skipIf(noGrub !== "")(`so does one with input, ${engine}${noGrub}`, async () => {
      const run = async (host: Host): Promise<void> => void (await grub(host));
      expect(await trail(engine, run)).toEqual(await trail(engine, run));
    });
  }

  for (const engine of ["interpreter", "auto"] as const) {
    it.skipIf(noDebian !== "")(`so does Debian on two vCPUs, ${engine}${noDebian}`, async () => {
      const run = async (host: Host, full: () => boolean): Promise<void> => {
        const guest = await host.debian("cloud", "quiet", { vcpus: 2 });
        await host.run(() => full() || guest.ended);
        expect(guest.ended).toBe(false);
      };
      // Interpreted, the beginning; else far into user space.
      const most = engine === "interpreter" ? 5_000 : 150_000;
      const first = await trail(engine, run, most);
      expect(first.records).toBe(most);
      expect(await trail(engine, run, most)).toEqual(first);
    });
  }

  // Not the same times: translated code looks at its budget where it jumps back, the interpreter at each instruction, so that a slice ends
  // a few instructions later, and a timer's event with it. A guest that does not look at the clock does the same with each engine.
  it.skipIf(noGuests !== "")(`the engines agree on what guests do${noGuests}`, async () => {
    for (const name of ["hello", "grants", "memory"]) {
      const [a, b, c] = await Promise.all(ENGINES.map((engine) => trail(engine, whole(name))));
      expect([name, b?.order, c?.order]).toEqual([name, a?.order, a?.order]);
    }
  });
});
