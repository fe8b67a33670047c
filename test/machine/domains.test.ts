// Many domains on one machine: everyone makes progress, whoever is paused does not, and nothing is left of who is gone.
import { describe, expect, it } from "vitest";
import { SHUTDOWN_crash, SHUTDOWN_poweroff } from "../../src/abi/sched.js";
import { RUNSTATE_running } from "../../src/abi/vcpu.js";
import type { MachineOptions } from "../../src/toolstack/machine.js";
import { debianFile, type Guest, guestFile, holdings, Host, missing, TEST_LIMIT } from "./harness.js";

const noDebian = missing(debianFile("vmlinuz-cloud"), debianFile("initramfs.cpio.gz"));
const noGuests = missing(guestFile("spin"), guestFile("hello"), guestFile("grant-map"));

/** Nanoseconds that a guest's vCPUs have run. */
function runTime(g: Guest): number {
  const now = g.host.machine.clock.now();
  return g.running.domain.vcpus.reduce((sum, v) => sum + v.time.runstate.spent(RUNSTATE_running, now), 0);
}

/** Let what was posted happen. */
function settle(host: Host): void {
  for (let i = 0; i < 3; i++) host.machine.runSlice(1);
}

/** A machine that has had a domain: what is made once for all is there. */
async function usedHost(options: MachineOptions): Promise<Host> {
  const host = new Host(options);
  await (await host.guest("hello")).end();
  host.close();
  host.guests.length = 0;
  settle(host);
  return host;
}

describe.skipIf(noDebian + noGuests !== "")(
  `Debian and a guest that never stops, on one pCPU${noDebian}${noGuests}`,
  { timeout: TEST_LIMIT },
  () => {
    it("credit: two Debians make progress, a paused one does not, one is destroyed", async () => {
      const host = new Host({ pcpus: 1, memoryMiB: 640 });
      const { xen, cpu } = host.machine;
      const spin = await host.guest("spin");
      await host.run(() => spin.log.includes("spinning"));
      const a = await host.debian("cloud", "quiet", { name: "a" });
      const b = await host.debian("cloud", "quiet", { name: "b" });
      await a.shell();
      await b.shell();
      expect(await a.sh("echo in $((1 + 1))")).toBe("in 2\n");
      expect(await b.sh("echo in $((2 + 1))")).toBe("in 3\n");

      // Paused, its vCPU is not given the pCPU at all; the others go on.
      xen.pause(b.running.domain);
      host.machine.runSlice(1);
      const ran = runTime(b);
      const shown = b.text;
      b.type("echo late\n");
      expect(await a.sh("seq 1 2000 | tail -n 1")).toBe("2000\n");
      expect(runTime(b)).toBe(ran);
      expect(b.text).toBe(shown);
      // With the others paused too, nothing is executed.
      for (const g of [a, spin]) xen.pause(g.running.domain);
      host.machine.runSlice(1);
      const { retired } = cpu;
      for (let i = 0; i < 5; i++) host.machine.runSlice(1);
      expect(cpu.retired).toBe(retired);
      for (const g of [a, b, spin]) xen.unpause(g.running.domain);
      await b.expect("late\r\n");
      await b.shell();
      expect(runTime(b)).toBeGreaterThan(ran);

      // Destroyed in the middle of work: the others do not notice.
      const spun = runTime(spin);
      b.type("while true; do :; done\n");
      await host.runInstructions(20e6);
      b.running.destroy();
      expect(await a.sh("echo still here")).toBe("still here\n");
      expect(runTime(spin)).toBeGreaterThan(spun);
      expect(spin.ended).toBe(false);
      spin.running.destroy();
      a.type("poweroff -f\n");
      expect(await a.end()).toBe(SHUTDOWN_poweroff);
      a.running.destroy();
      holdings(host.machine);
    });

    it("sedf: Debian boots all the same", async () => {
      const host = new Host({ pcpus: 1, memoryMiB: 320, scheduler: "sedf" });
      const spin = await host.guest("spin");
      await host.run(() => spin.log.includes("spinning"));
      const spun = runTime(spin);
      const guest = await host.debian("cloud", "quiet");
      await guest.shell();
      expect(await guest.sh("uname")).toBe("Linux\n");
      expect(runTime(spin)).toBeGreaterThan(spun);
      host.close();
      holdings(host.machine);
    });
  },
);

describe.skipIf(noGuests !== "")(`small guests${noGuests}`, { timeout: TEST_LIMIT }, () => {
  it("24 at once", async () => {
    const host = await usedHost({ memoryMiB: 24 * 16 + 64 });
    const before = holdings(host.machine);
    const names = ["hello", "grant-map", "shared-info", "spin"];
    const guests: Guest[] = [];
    for (let i = 0; i < 24; i++) guests.push(await host.guest(names[i % names.length] as string));
    const rest = guests.filter((_, i) => i % names.length !== 3);
    await host.run(() => rest.every((g) => g.ended));
    for (const g of rest) expect([g.code, g.host.tail()]).toEqual([SHUTDOWN_poweroff, expect.anything()]);
    const spinning = guests.filter((g) => !g.ended);
    await host.run(() => spinning.every((g) => g.log.includes("spinning")));
    expect(spinning).toHaveLength(6);
    const ran = spinning.map(runTime);
    await host.run(() => spinning.every((g, i) => runTime(g) > (ran[i] as number)));
    host.close();
    settle(host);
    expect(holdings(host.machine)).toEqual(before);
  });

  it("one that crashes takes nobody along", async () => {
    const host = new Host({ memoryMiB: 96 });
    const spin = await host.guest("spin");
    const crash = await host.guest("crash");
    expect(await crash.end()).toBe(SHUTDOWN_crash);
    expect(spin.ended).toBe(false);
    host.close();
    holdings(host.machine);
  });
});

describe.skipIf(noGuests !== "")(`nothing remains${noGuests}`, { timeout: TEST_LIMIT }, () => {
  it("after 200 rounds of creation and destruction", async () => {
    const host = await usedHost({ memoryMiB: 96 });
    const { machine } = host;
    const names = [
      "hello",
      "grant-map",
      "events",
      "shared-info",
      "spin",
      "grants",
      "memory",
      "console",
      "sched",
      "traps",
    ];
    const before = holdings(machine);
    for (let round = 0; round < 200; round++) {
      host.guests.length = 0;
      const name = names[round % names.length] as string;
      const guest = await host.guest(name, { vcpus: 1 + (round % 3) });
      // Most are ended in the middle of what they do: later with each round.
      if (round % 4 === 0 && name !== "spin" && name !== "console") await guest.end();
      else await host.runInstructions(1 + round * 997, () => guest.ended);
      guest.running.destroy();
      if (round % 20 === 19) {
        settle(host);
        expect(holdings(machine), `after round ${round}, ${name}`).toEqual(before);
      }
    }
  });

  it.skipIf(noDebian !== "")(`of a Debian that is destroyed while it boots${noDebian}`, async () => {
    const host = await usedHost({ memoryMiB: 300 });
    const { machine } = host;
    const before = holdings(machine);
    for (const instructions of [1e5, 5e6, 5e7, 4e8, 12e8]) {
      host.guests.length = 0;
      const guest = await host.debian("cloud", "", { vcpus: 2 });
      await host.runInstructions(instructions);
      guest.running.destroy();
      settle(host);
      expect(holdings(machine), `after ${instructions} instructions`).toEqual(before);
    }
  });
});
