/**
 * Settings of V8 that the CPU engine gains by. They count for modules compiled afterwards, so this is called before a machine is made.
 */
import { setFlagsFromString } from "node:v8";

/** The first Node whose V8 hints branches of WebAssembly without being asked. */
const HINTS_BY_DEFAULT = 25;
let done = false;

export function engineFlags(): void {
  if (done) return;
  done = true;
  // One background thread at a time makes good code: with more, the machine's own thread loses its core to them where there are few.
  setFlagsFromString("--wasm-num-compilation-tasks=1");
  if (Number(process.versions.node.split(".")[0]) < HINTS_BY_DEFAULT) {
    setFlagsFromString("--experimental-wasm-branch-hinting");
  }
}
