/**
 * The CPU policy that travels with a domain (X86_CPUID_POLICY, X86_MSR_POLICY): what CPUID told it. A host that lacks a feature the guest was
 * told of must refuse it.
 */
import { xen_cpuid_leaf as L, xen_msr_entry as M, XEN_CPUID_NO_SUBLEAF } from "../../abi/arch_x86_xen.js";
import { ARCH_CAPS_HI, ARCH_CAPS_LO, type CpuidPolicy, type CpuidRegs } from "../../hypervisor/traps/cpuid-policy.js";
import { viewOf } from "./bytes.js";
import { MigrationError } from "./errors.js";

const MSR_PLATFORM_INFO = 0xce;
const MSR_ARCH_CAPABILITIES = 0x10a;

export interface CpuidLeaf {
  readonly leaf: number;
  readonly subleaf: number;
  readonly regs: CpuidRegs;
}

/** Leaves with subleaves, and how many of those. */
const SUBLEAVES: readonly (readonly [number, number])[] = [
  [4, 4],
  [7, 3],
];
/** Words of features: leaf, subleaf, register. */
const FEATURES: readonly (readonly [number, number, number])[] = [
  [1, 0, 2],
  [1, 0, 3],
  [7, 0, 1],
  [7, 0, 2],
  [7, 0, 3],
  [7, 2, 3],
  [0x80000001, 0, 2],
  [0x80000001, 0, 3],
  [0x80000007, 0, 3],
];

export function cpuidLeaves(policy: CpuidPolicy): CpuidLeaf[] {
  const out: CpuidLeaf[] = [];
  const range = (first: number): void => {
    const last = policy.query(first, 0)[0] >>> 0;
    for (let leaf = first; leaf <= last && leaf < first + 64; leaf++) {
      const subs = SUBLEAVES.find(([n]) => n === leaf)?.[1];
      if (subs === undefined) out.push({ leaf, subleaf: XEN_CPUID_NO_SUBLEAF, regs: policy.query(leaf, 0) });
      else for (let s = 0; s < subs; s++) out.push({ leaf, subleaf: s, regs: policy.query(leaf, s) });
    }
  };
  range(0);
  range(0x80000000);
  return out;
}

export function encodeLeaves(leaves: readonly CpuidLeaf[]): Uint8Array {
  const out = new Uint8Array(leaves.length * L.size);
  const d = viewOf(out);
  leaves.forEach((l, i) => {
    const at = i * L.size;
    d.setUint32(at + L.leaf, l.leaf, true);
    d.setUint32(at + L.subleaf, l.subleaf, true);
    [L.a, L.b, L.c, L.d].forEach((f, r) => d.setUint32(at + f, (l.regs[r] as number) >>> 0, true));
  });
  return out;
}

/** The guest was told of more than this host has: a MigrationError names the first such word. */
export function checkLeaves(bytes: Uint8Array, here: CpuidPolicy): void {
  const d = viewOf(bytes);
  for (let at = 0; at + L.size <= bytes.length; at += L.size) {
    const leaf = d.getUint32(at + L.leaf, true);
    const sub = d.getUint32(at + L.subleaf, true);
    const subleaf = sub === XEN_CPUID_NO_SUBLEAF ? 0 : sub;
    for (const [fl, fs, r] of FEATURES) {
      if (fl !== leaf || fs !== subleaf) continue;
      const told = d.getUint32(at + ([L.a, L.b, L.c, L.d][r] as number), true);
      const missing = (told & ~(here.query(leaf, subleaf)[r] as number)) >>> 0;
      if (missing !== 0)
        throw new MigrationError(
          "unsupported",
          `the domain was told of processor features that this host has not (CPUID leaf 0x${leaf.toString(16)}, ${"eax ebx ecx edx".split(" ")[r]} 0x${missing.toString(16)})`,
        );
    }
  }
}

export function encodeMsrPolicy(): Uint8Array {
  const entries: readonly (readonly [number, number, number])[] = [
    [MSR_PLATFORM_INFO, 0, 0],
    [MSR_ARCH_CAPABILITIES, ARCH_CAPS_LO, ARCH_CAPS_HI],
  ];
  const out = new Uint8Array(entries.length * M.size);
  const d = viewOf(out);
  entries.forEach(([idx, lo, hi], i) => {
    d.setUint32(i * M.size + M.idx, idx, true);
    d.setUint32(i * M.size + M.val, lo >>> 0, true);
    d.setUint32(i * M.size + M.val + 4, hi >>> 0, true);
  });
  return out;
}
