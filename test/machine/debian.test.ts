// Debian's unmodified kernels from power-on to user space, on one, two and four virtual CPUs, and every way they end.
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { SHUTDOWN_crash, SHUTDOWN_poweroff, SHUTDOWN_reboot } from "../../src/abi/sched.js";
import { debianFile, type Guest, Host, missing, TEST_LIMIT } from "./harness.js";

const initramfs = debianFile("initramfs.cpio.gz");
const noCloud = missing(debianFile("vmlinuz-cloud"), initramfs);
const noGeneric = missing(debianFile("vmlinuz-generic"), initramfs);

describe.skipIf(noCloud !== "")(`Debian's cloud kernel on one vCPU${noCloud}`, { timeout: TEST_LIMIT }, () => {
  let guest: Guest;
  beforeAll(async () => {
    guest = await new Host().debian("cloud", "");
    await guest.shell();
  }, TEST_LIMIT);
  afterAll(() => guest.host.close());

  it("says that it runs on Xen", async () => {
    expect(guest.text).toMatch(/Booting kernel on Xen\.?\r?\n/);
    expect(guest.text).not.toMatch(/BUG:|WARNING:|Oops|Call Trace/);
    // What the kernel says from now on would be in between.
    await guest.sh("dmesg -n 1");
    const dmesg = await guest.sh("dmesg | grep -i xen");
    expect(dmesg).toMatch(/Hypervisor detected: Xen PV/);
    expect(dmesg).toMatch(/Xen version: 4\.17/);
    expect(dmesg).toMatch(/printk: console \[hvc0\] enabled|xen:events: Using FIFO-based ABI/);
  });
  it("uname -a", async () => {
    expect(await guest.sh("uname -a")).toMatch(
      /^Linux xenolith 6\.1\.0-\d+-cloud-amd64 #1 SMP PREEMPT_DYNAMIC Debian .* x86_64 GNU\/Linux\n$/,
    );
  });
  it("cat /proc/cpuinfo", async () => {
    const info = await guest.sh("cat /proc/cpuinfo");
    expect(info.match(/^processor\s*: /gm)).toHaveLength(1);
    expect(info).toMatch(/^flags\s*:.*\bsse4_2\b.*\bpopcnt\b.*\bhypervisor\b/m);
  });
  it("cat /sys/hypervisor/type", async () => {
    expect(await guest.sh("cat /sys/hypervisor/type")).toBe("xen\n");
  });
  it("ps", async () => {
    const ps = await guest.sh("ps");
    expect(ps).toMatch(/^ *1 (?:0|root) .*\binit$/m);
    expect(ps).toMatch(/\[kthreadd\]/);
    expect(ps).toMatch(/\bsh$/m);
  });
  it("pipes", async () => {
    expect(await guest.sh("seq 1 1000 | awk '{ s += $1 } END { print s }' | rev")).toBe("005005\n");
    expect(await guest.sh("dd if=/dev/zero bs=1k count=1000 2>/dev/null | tr '\\000' x | md5sum")).toBe(
      "3e61c6d04269b0abc53149139da94300  -\n",
    );
    expect(await guest.sh("false | true; echo $?; (exit 3); echo $?")).toBe("0\n3\n");
  });
  it("vi", async () => {
    guest.type("vi /tmp/text\n");
    await guest.expect(/~.*\/tmp\/text/s);
    guest.type("ihello from vi\rand a second line");
    await guest.expect("second line");
    // Busybox takes what follows an escape at once for a key's sequence.
    guest.type("\x1b");
    await guest.expect("- /tmp/text");
    guest.type(":wq\r");
    await guest.shell();
    expect(await guest.sh("cat /tmp/text")).toBe("hello from vi\nand a second line\n");
  });
  it("Ctrl-C ends a command", async () => {
    // Between its start and its place in the foreground a command does not get the terminal's signals: one that has read is there.
    guest.type("sh -c 'read x; echo got $x; sleep 10000'\n");
    await guest.expect("10000'\r\n");
    guest.type("it\n");
    await guest.expect("got it\r\n");
    guest.type("\x03");
    await guest.shell();
    expect(await guest.sh("echo still here")).toBe("still here\n");
  });
  it("reboot ends it with code 1", async () => {
    guest.type("reboot\n");
    expect(await guest.end()).toBe(SHUTDOWN_reboot);
    expect(guest.text).toMatch(/reboot: Restarting system/);
  });
});

describe.skipIf(noCloud !== "")(`Debian's cloud kernel on several vCPUs${noCloud}`, { timeout: TEST_LIMIT }, () => {
  let host: Host;
  afterEach(() => host.close());

  async function smp(vcpus: number): Promise<Guest> {
    host = new Host();
    const guest = await host.debian("cloud", "quiet", { vcpus });
    await guest.shell();
    expect(await guest.sh("nproc")).toBe(`${vcpus}\n`);
    expect(await guest.sh("dmesg | grep smp:")).toContain(`Brought up 1 node, ${vcpus} CPU`);
    // All at once, so that the vCPUs wake and stop each other.
    const jobs = Array.from({ length: 2 * vcpus }, (_, i) => `(seq ${i + 1} 3000 | md5sum > /tmp/${i}) &`).join(" ");
    await guest.sh(`${jobs} wait`);
    expect(await guest.sh("seq 1 3000 | md5sum | diff - /tmp/0 && echo same")).toContain("same\n");
    const interrupts = await guest.sh("cat /proc/interrupts");
    const counts = (name: string): number[] =>
      [...interrupts.matchAll(new RegExp(`^ *\\S+: +((?:\\d+ +){${vcpus}}).*\\b${name}\\d*$`, "gm"))].map((m) =>
        (m[1] as string)
          .trim()
          .split(/ +/)
          .map(Number)
          .reduce((a, b) => a + b),
      );
    const resched = counts("resched");
    expect(resched).toHaveLength(vcpus);
    expect(Math.max(...resched)).toBeGreaterThan(0);
    expect(Math.max(...counts("callfunc"), ...counts("callfuncsingle"))).toBeGreaterThan(0);
    expect(Math.min(...counts("timer"))).toBeGreaterThan(0);
    return guest;
  }

  it("two; poweroff ends it with code 0", async () => {
    const guest = await smp(2);
    guest.type("poweroff\n");
    expect(await guest.end()).toBe(SHUTDOWN_poweroff);
    // Its last words are warnings, which quiet hides: what init says must do.
    expect(guest.text).toMatch(/The system is going down|Requesting system poweroff/);
  });
  it("four; a panic ends it with code 3", async () => {
    const guest = await smp(4);
    guest.type("echo c > /proc/sysrq-trigger\n");
    expect(await guest.end()).toBe(SHUTDOWN_crash);
    expect(guest.text).toContain("Kernel panic - not syncing: sysrq triggered crash");
    expect(guest.running.crashed).toBe(true);
  });
});

describe.skipIf(noGeneric !== "")(`Debian's generic kernel${noGeneric}`, { timeout: TEST_LIMIT }, () => {
  it("boots to user space, and powers off when the toolstack asks for it", async () => {
    const host = new Host();
    const guest = await host.debian("generic", "quiet");
    await guest.shell();
    expect(await guest.sh("uname -r; cat /sys/hypervisor/type")).toMatch(/^6\.1\.0-\d+-amd64\nxen\n$/);
    guest.running.requestShutdown("poweroff");
    expect(await guest.end()).toBe(SHUTDOWN_poweroff);
    host.close();
  });
});
