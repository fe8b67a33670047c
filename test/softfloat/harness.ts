/** Builds what the floating-point tests need: the helpers with a stand-in MMU, and programs for the host CPU. */
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as layout from "../../src/machine/layout.js";

const ROOT = join(import.meta.dirname, "../..");

/** Can the host run the comparison? */
export const hasHost = process.arch === "x64" && spawnSync("cc", ["--version"]).status === 0;

export function workDir(): { path: string; remove: () => void } {
  const path = mkdtempSync(join(tmpdir(), "xenolith-fp-"));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/** The floating-point helpers and batch.ts as a module. */
export async function compileCore(dir: string): Promise<WebAssembly.Module> {
  const asm = join(dir, "assembly");
  mkdirSync(asm);
  mkdirSync(join(dir, "generated"));
  const core = join(ROOT, "src/machine/core/assembly");
  for (const f of readdirSync(core)) if (f.endsWith(".ts")) copyFileSync(join(core, f), join(asm, f));
  const own = join(import.meta.dirname, "assembly");
  for (const f of readdirSync(own)) copyFileSync(join(own, f), join(asm, f));
  copyFileSync(join(ROOT, "src/machine/core/generated/layout.ts"), join(dir, "generated/layout.ts"));
  const { default: asc } = await import("assemblyscript/asc");
  const wasm = join(dir, "batch.wasm");
  const { error, stderr } = await asc.main([
    join(asm, "batch.ts"),
    "--outFile",
    wasm,
    "--runtime",
    "stub",
    "--noAssert",
    "--optimizeLevel",
    "3",
    "--importMemory",
    "--sharedMemory",
    "--initialMemory",
    "64",
    "--maximumMemory",
    "65536",
    "--memoryBase",
    String(layout.CORE_DATA),
    "--disableWarning",
    "--enable",
    "simd",
    "--enable",
    "bulk-memory",
    "--enable",
    "threads",
  ]);
  if (error) throw new Error(stderr.toString());
  return new WebAssembly.Module(readFileSync(wasm));
}

export function compileHost(dir: string, name: string, sources: readonly string[]): string {
  const out = join(dir, name);
  execFileSync("cc", ["-O1", "-w", "-no-pie", "-o", out, ...sources]);
  return out;
}
export function runHost(program: string, args: readonly string[]): Uint8Array {
  return execFileSync(program, args, { maxBuffer: 1 << 30 });
}

export type Fn = (...args: (number | bigint)[]) => number;
export function instantiate(
  module: WebAssembly.Module,
  bytes: number,
): { memory: WebAssembly.Memory; x: Record<string, Fn> } {
  const initial = Math.max(64 + Math.ceil(bytes / 65536), layout.ENGINE_END / 65536);
  const memory = new WebAssembly.Memory({ initial, maximum: 65536, shared: true });
  const abort = (): never => {
    throw new Error("abort");
  };
  const instance = new WebAssembly.Instance(module, { env: { memory, abort } });
  return { memory, x: instance.exports as unknown as Record<string, Fn> };
}
