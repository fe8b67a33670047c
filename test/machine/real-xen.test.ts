// What guests ask of Xen, in which order and with which answers, compared with transcripts of real Xen 4.17 (same images, same memory).
// Addresses differ with where a domain's frames lie; what a page-table entry allows, what is pinned and what is answered does not.
import { describe, expect, it } from "vitest";
import { SHUTDOWN_poweroff } from "../../src/abi/sched.js";
import type { TraceRecord } from "../../src/hypervisor/trace.js";
import { debianFile, Host, missing, TEST_LIMIT } from "./harness.js";

const MMUEXT: Readonly<Record<number, string>> = {
  0: "pin_l1",
  1: "pin_l2",
  2: "pin_l3",
  3: "pin_l4",
  4: "unpin",
  5: "new_baseptr",
  7: "invlpg_local",
};

/** Follows a machine's hypercalls as lines of text. */
class Watch {
  readonly lines: string[] = [];
  readonly records: TraceRecord[] = [];
  readonly counts = new Map<string, number>();
  private inner: TraceRecord[] = [];

  constructor(private readonly host: Host) {
    host.machine.xen.trace.add((r) => this.see(r));
  }

  private see(r: TraceRecord): void {
    if (r.kind === "pagetable") this.inner.push(r);
    else if (r.kind === "hypercall") {
      this.records.push(r);
      this.lines.push(`${this.describe(r)} = ${r.result}`);
      this.inner = [];
      this.counts.set(r.name, (this.counts.get(r.name) ?? 0) + 1);
    } else if (r.kind === "trap") {
      const name = `~${r.name}`;
      this.records.push(r);
      this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
    }
  }

  /** A hypercall with what counts of its arguments; the guest that issued it is loaded. */
  private describe(r: TraceRecord): string {
    const a = (i: number): number => r.args[`a${i}`] as number;
    const read = (va: number, n: number): DataView => {
      const bytes = this.host.machine.xen.guest.copyFrom(va, n);
      if (bytes === null) throw new Error(`${r.name}: an argument cannot be read`);
      return new DataView(bytes.buffer, bytes.byteOffset, n);
    };
    const inner = (): string =>
      this.inner
        .map((x) =>
          x.name === "mmuext_op" ? MMUEXT[x.args["cmd"] as number] : permissions(x.args["val"] as number | string),
        )
        .join(",");
    switch (r.name) {
      case "xen_version.get_features":
        return `${r.name} ${hex(read(a(1), 8).getUint32(4, true))}`;
      case "memory_op.machphys_mapping": {
        const d = read(a(1), 24);
        return `${r.name} ${[0, 8, 16].map((at) => hex(d.getBigUint64(at, true))).join(" ")}`;
      }
      case "memory_op.memory_map":
        return `${r.name} ${read(a(1), 4).getUint32(0, true)}`;
      case "console_io.write": {
        const d = read(a(2), Math.min(28, a(1)));
        const text = String.fromCharCode(...new Uint8Array(d.buffer, d.byteOffset, d.byteLength));
        return text.startsWith("[") ? r.name : `${r.name} ${text.trimEnd()}`;
      }
      case "update_va_mapping":
        return `${r.name} ${inner()} flush ${a(2)}`;
      case "mmu_update":
      case "mmuext_op":
        return `${r.name} ${inner()}`;
      case "set_gdt":
        return `${r.name} ${a(1)}`;
      case "set_segment_base":
        return `${r.name} ${a(0)}`;
      case "vm_assist.enable":
        return `${r.name} ${a(1)}`;
      default:
        return r.name;
    }
  }
}

const hex = (n: number | bigint): string => `0x${n.toString(16)}`;
/** What an entry says beside the frame: bits 52–63 and 0–11. */
function permissions(value: number | string): string {
  const v = BigInt(value);
  return `${((v >> 52n) & 0xfffn).toString(16)}.${(v & 0xfffn).toString(16)}`;
}

function times(n: number, ...lines: string[]): string[] {
  return Array.from({ length: n }, () => lines).flat();
}

const noDebian = missing(debianFile("vmlinuz-cloud"), debianFile("initramfs.cpio.gz"));
const noMach = missing(debianFile("gnumach.gz"));
const noGrub = missing(debianFile("grub-x86_64-xen.bin"));

describe("as on real Xen 4.17", { timeout: TEST_LIMIT }, () => {
  it.skipIf(noDebian !== "")(`Debian's cloud kernel starts${noDebian}`, async () => {
    const host = new Host({ memoryMiB: 300 });
    const watch = new Watch(host);
    const guest = await host.debian("cloud", "earlyprintk=xen", { memoryMiB: 256 });
    const real = [
      "xen_version.get_features 0x220e0 = 0",
      "memory_op.machphys_mapping 0xffff800000000000 0xffff804000000000 0x7ffffffff = 0",
      "update_va_mapping 800.61 flush 0 = 0",
      "set_gdt 16 = 0",
      "set_segment_base 2 = 0",
      "set_trap_table = 0",
      "console_io.write mapping kernel into physical = 0",
      ...times(8, "update_va_mapping 800.61 flush 0 = 0"),
      "mmuext_op pin_l4 = 0",
      "mmuext_op unpin = 0",
      "update_va_mapping 800.61 flush 0 = 0",
      "mmuext_op pin_l3 = 0",
      "mmuext_op new_baseptr = 0",
      ...times(3, "update_va_mapping 800.63 flush 2 = 0"),
      "physdev_op.set_iopl = 0",
      "console_io.write about to get started... = 0",
      "vcpu_op.register_runstate_memory_area = 0",
      ...times(3, "set_trap_table = 0"),
      "update_va_mapping 1.65 flush 0 = 0",
      "mmuext_op pin_l1 = 0",
      "mmu_update 0.67 = 0",
      "vm_assist.enable 0 = 0",
      "vm_assist.enable 2 = 0",
      "vm_assist.enable 3 = 0",
      ...times(4, "callback_op.register = 0"),
      "memory_op.memory_map 1 = 0",
      ...times(11, "console_io.write = 0"),
      ...times(16, "mmu_update 800.63 = 0", "mmuext_op invlpg_local = 0"),
    ];
    await host.run(() => watch.lines.length >= real.length || guest.ended, { what: "so many hypercalls" });
    expect(watch.lines.slice(0, real.length)).toEqual(real);
    host.close();
  });

  it.skipIf(noMach !== "")(`GNU Mach comes as far${noMach}`, async () => {
    const host = new Host({ memoryMiB: 160 });
    const watch = new Watch(host);
    const guest = await host.start(debianFile("gnumach.gz"), { memoryMiB: 128 });
    expect(await guest.end()).toBe(252);
    expect([...watch.counts]).toEqual([
      ["set_callbacks", 1],
      ["update_va_mapping", 166],
      ["vm_assist.enable", 2],
      // One less than in the transcript: there the unpinning of the first L4 was preempted once.
      ["mmuext_op", 147],
      ["mmu_update", 153],
      ["memory_op.decrease_reservation", 9],
      ["update_descriptor", 4],
      ["set_gdt", 1],
      ["set_trap_table", 1],
      ["stack_switch", 1],
      ["~#PF", 1],
      ["sched_op_compat.shutdown", 1],
    ]);
    expect(watch.lines.slice(0, 12)).toEqual([
      "set_callbacks = 0",
      "update_va_mapping 0.1 flush 0 = 0",
      "vm_assist.enable 3 = 0",
      ...times(3, "update_va_mapping 0.1 flush 0 = 0", "mmuext_op pin_l1 = 0", "mmu_update 0.3 = 0"),
    ]);
    expect(watch.lines.filter((l) => /unpin|new_baseptr/.test(l))).toEqual([
      "mmuext_op new_baseptr = 0",
      "mmuext_op unpin = 0",
    ]);
    expect(watch.records.filter((r) => r.name === "memory_op.decrease_reservation").map((r) => r.result)).toEqual(
      times(9, "1").map(Number),
    );
    const fault = watch.records.find((r) => r.kind === "trap");
    expect(fault?.args).toMatchObject({ rip: 0x4000524c, error: 3 });
    host.close();
  });

  it.skipIf(noGrub !== "")(`GRUB comes to its prompt${noGrub}`, async () => {
    const host = new Host({ memoryMiB: 96 });
    const watch = new Watch(host);
    const guest = await host.start(debianFile("grub-x86_64-xen.bin"), { memoryMiB: 64 });
    await guest.expect("grub> ");
    expect([...watch.counts.keys()]).toEqual([
      "grant_table_op.set_version",
      "grant_table_op.setup_table",
      "mmu_update",
      "update_va_mapping",
      "mmuext_op",
      "event_channel_op.send",
      "sched_op.yield",
    ]);
    const count = (name: string): number | undefined => watch.counts.get(name);
    expect(count("update_va_mapping")).toBe(44);
    // Two more in the transcript: pinning was preempted there.
    expect(count("mmuext_op")).toBe(1);
    expect(count("sched_op.yield")).toBeLessThanOrEqual(4);
    expect(watch.lines.filter((l) => !l.startsWith("event_channel") && !l.startsWith("sched_op"))).toEqual([
      "grant_table_op.set_version = 0",
      "grant_table_op.setup_table = 0",
      // Frame numbers of the M2P, exchanged pairwise.
      "mmu_update 0.635,0.fff,0.636,0.ffe = 0",
      ...times(36, "update_va_mapping 0.7 flush 2 = 0"),
      "update_va_mapping 0.0 flush 2 = 0",
      "mmuext_op pin_l4,new_baseptr,unpin = 0",
      ...times(7, "update_va_mapping 0.7 flush 2 = 0"),
    ]);
    host.close();
  });
});

describe.skipIf(noGrub !== "")(`GRUB${noGrub}`, { timeout: TEST_LIMIT }, () => {
  /** Its answer to a command, without what moves the cursor. */
  async function command(
    guest: { type(s: string): void; expect(p: string): Promise<string> },
    line: string,
  ): Promise<string> {
    guest.type(`${line}\r`);
    await guest.expect("\n\r");
    const out = (await guest.expect("grub> ")).slice(0, -"grub> ".length);
    return out.replace(/\x1b\[[0-9;?]*[A-Za-z]/g, "").replaceAll("\n\r", "\n");
  }

  it("knows its commands, its memory disk, and how to stop", async () => {
    const host = new Host({ memoryMiB: 96 });
    const image = debianFile("grub-x86_64-xen.bin");
    const guest = await host.start(image, { memoryMiB: 64 });
    expect((await guest.expect("grub> ")).replaceAll("\n\r", "\n")).toMatch(/GNU GRUB +version 2\.06/);
    const help = await command(guest, "help");
    for (const c of ["boot", "cat FILE", "configfile FILE", "ls [-l|-h|-a] [FILE ...]", "multiboot", "xen_ls [DIR]"])
      expect(help).toContain(c);
    expect(await command(guest, "ls")).toBe("(memdisk) (proc) \n");
    expect(await command(guest, "ls (memdisk)/")).toBe("grub.cfg \n");
    const shown = await command(guest, "cat (memdisk)/grub.cfg");
    expect(shown.split("\n").map((l) => l.trim())).toEqual(
      expect.arrayContaining([
        "# First search for a suitable grub to chainload",
        "if search -s -f /boot/xen/pvboot-x86_64.elf ; then",
        'multiboot "/boot/xen/pvboot-x86_64.elf"',
        "configfile /boot/grub/grub.cfg",
      ]),
    );
    expect(await command(guest, "cat (memdisk)/none")).toBe("error: file `/none' not found.\n");
    guest.type("halt\r");
    expect(await guest.end()).toBe(SHUTDOWN_poweroff);
    host.close();
  });
});
