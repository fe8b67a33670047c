/** Domains from the words of a command line: configurations and kernels with the options that speak over them. */
import { createHash, randomUUID } from "node:crypto";
import { InputError, loadDomain, type DomainPlan } from "../sys/node/index.js";

/** What options say of the domains. */
export interface PlanFlags {
  readonly ramdisk?: string;
  readonly cmdline?: string;
  readonly memory?: number;
  readonly vcpus?: number;
  readonly name?: string;
  readonly disk?: string[];
  readonly vif?: string[];
  readonly clock: "real" | "virtual";
}

/** Files with the settings that follow them. */
function split(words: readonly string[]): { file: string; overrides: string[] }[] {
  const out: { file: string; overrides: string[] }[] = [];
  for (const word of words) {
    const last = out.at(-1);
    if (last !== undefined && /^[A-Za-z_]\w*\s*\+?=/.test(word)) last.overrides.push(word);
    else out.push({ file: word, overrides: [] });
  }
  return out;
}

export async function plansFrom(words: readonly string[], flags: PlanFlags): Promise<DomainPlan[]> {
  const files = split(words);
  if (flags.name !== undefined && files.length > 1) throw new InputError("--name is for one domain, not for several");
  if ((flags.disk ?? flags.vif) !== undefined && files.length > 1) {
    throw new InputError("--disk and --vif are for one domain, not for several");
  }
  const plans: DomainPlan[] = [];
  const taken = new Set<string>();
  for (const { file, overrides } of files) {
    const plan = await loadDomain(file, {
      name: flags.name,
      ramdisk: flags.ramdisk,
      cmdline: flags.cmdline,
      memoryMiB: flags.memory,
      vcpus: flags.vcpus,
      disks: files.length === 1 ? flags.disk : [],
      vifs: files.length === 1 ? flags.vif : [],
      overrides,
    });
    let { name } = plan.spec;
    // Names of kernels are made up, so that they may differ; those of configurations are the user's.
    if (taken.has(name)) {
      if (file !== plan.kernelPath) throw new InputError(`${file}: there is a domain with the name "${name}" already`);
      for (let n = 2; taken.has(name); n++) name = `${plan.spec.name}-${n}`;
    }
    taken.add(name);
    const uuid = plan.spec.uuid ?? (flags.clock === "virtual" ? uuidOf(name) : randomUUID());
    plans.push({ ...plan, spec: { ...plan.spec, name, uuid } });
  }
  return plans;
}

/** The same UUID for the same name: a run with the virtual clock is the same every time. */
function uuidOf(name: string): string {
  const hex = createHash("sha1").update(`xenolith ${name}`).digest("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-5${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}
