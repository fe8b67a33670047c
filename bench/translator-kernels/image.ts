/** Builds kernels.c: a flat binary for the guest, and a native program to compare with. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const TEXT = 0x6000000;
const FLAGS =
  "-O2 -fno-tree-vectorize -mgeneral-regs-only -fno-stack-protector -fcf-protection=none -fno-pic -fno-asynchronous-unwind-tables";

export interface Kernels {
  text: number;
  image: Uint8Array;
  symbols: Map<string, number>;
  /** Runs the native program with these arguments and gives back its output. */
  native(...args: string[]): string;
}

export function kernels(): Kernels {
  const here = new URL(".", import.meta.url).pathname.replace(/dist\/$/, "");
  const dir = mkdtempSync(join(tmpdir(), "kernels-"));
  const sh = (cmd: string, ...args: string[]): string => execFileSync(cmd, args, { cwd: here, encoding: "utf8" });
  const flags = FLAGS.split(" ");
  const elf = join(dir, "k.elf");
  const bin = join(dir, "k.bin");
  const at = `-Wl,-Ttext=0x${TEXT.toString(16)}`;
  sh(
    "gcc",
    ...flags,
    "-ffreestanding",
    "-nostdlib",
    "-static",
    "-Wl,--build-id=none",
    at,
    "-Wl,-e,k_alu",
    "-o",
    elf,
    "kernels.c",
  );
  sh("objcopy", "-O", "binary", "-j", ".text", "-j", ".rodata", "-j", ".data", elf, bin);
  sh("gcc", ...flags, "-c", "-o", join(dir, "k.o"), "kernels.c");
  sh("gcc", "-O2", "-no-pie", "-DSEPARATE", "-o", join(dir, "native"), "native.c", join(dir, "k.o"));
  const symbols = new Map(
    sh("nm", elf)
      .trim()
      .split("\n")
      .map((l) => l.split(" "))
      .map((f) => [f[2] as string, parseInt(f[0] as string, 16)]),
  );
  return { text: TEXT, image: readFileSync(bin), symbols, native: (...args) => sh(join(dir, "native"), ...args) };
}
