/**
 * Settings of V8 that the CPU engine gains by. They count for modules compiled afterwards, so this is called before a machine is made.
 */
import { readdirSync } from "node:fs";
import { getPriority, setPriority } from "node:os";
import { setFlagsFromString } from "node:v8";
import { engineDefault, type EngineKind } from "../../machine/cpu/cpu.js";

/** The first Node whose V8 hints branches of WebAssembly without being asked. */
const HINTS_BY_DEFAULT = 25;
/** By how much less urgent than the guest V8's own threads are. */
const LESS_URGENT = 10;
let done = false;

export function engineFlags(): void {
  if (done) return;
  done = true;
  // One background thread at a time makes good code: it has one core, the guest's thread the other.
  setFlagsFromString("--wasm-num-compilation-tasks=1");
  if (Number(process.versions.node.split(".")[0]) < HINTS_BY_DEFAULT) {
    setFlagsFromString("--experimental-wasm-branch-hinting");
  }
  // A function is validated when it is first compiled: before that V8 would share it out among its threads and wait for them, which are
  // less urgent than the guest and have other work.
  setFlagsFromString("--wasm-lazy-validation");
  yieldToGuest();
  engineFromEnvironment();
}

const KINDS: ReadonlySet<string> = new Set<EngineKind>(["auto", "interpreter", "translator"]);

/** `XENOLITH_ENGINE`: the engine of every machine that asks for none, for commands and tests alike. */
export function engineFromEnvironment(): void {
  const kind = process.env["XENOLITH_ENGINE"] ?? "";
  if (KINDS.has(kind)) engineDefault.kind = kind as EngineKind;
  else if (kind !== "") process.emitWarning(`XENOLITH_ENGINE: there is ${[...KINDS].join(", ")}, and no "${kind}"`);
}

/**
 * While much is compiled, V8's threads want as much time as the machine's own thread. Where there are few cores they would take it from the
 * guest: a fifth of a boot on two. On Linux a thread has a priority of its own; elsewhere they stay as they are.
 */
function yieldToGuest(): void {
  if (process.platform !== "linux") return;
  try {
    const urgency = Math.min(getPriority() + LESS_URGENT, 19);
    for (const thread of readdirSync("/proc/self/task")) {
      if (Number(thread) !== process.pid) setPriority(Number(thread), urgency);
    }
  } catch {
    // No /proc, or a thread that has just ended: only slower.
  }
}
