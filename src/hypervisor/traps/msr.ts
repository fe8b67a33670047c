/**
 * RDMSR and WRMSR of a PV guest. Model-specific registers are virtual: a few have state of their own, a few have fixed values that
 * guests read unguarded, all others are #GP(0), as Xen 4.17 answers an unprivileged PV domain on an Intel processor.
 * Numbers: SDM vol. 4.
 */
import { TSC_AUX } from "../../machine/layout.js";
import { FS, GS } from "../../machine/cpu/insn.js";
import type { Vcpu } from "../vcpu.js";
import { ARCH_CAPS_HI, ARCH_CAPS_LO } from "./cpuid-policy.js";
import { writeHypercallPage } from "./hypercall-page.js";

const MSR_TSC = 0x10,
  MSR_PLATFORM_ID = 0x17,
  MSR_APIC_BASE = 0x1b,
  MSR_FEATURE_CONTROL = 0x3a,
  MSR_SPEC_CTRL = 0x48,
  MSR_PRED_CMD = 0x49,
  MSR_UCODE_REV = 0x8b,
  MSR_PLATFORM_INFO = 0xce,
  MSR_ARCH_CAPABILITIES = 0x10a,
  MSR_MISC_FEATURES_ENABLES = 0x140,
  MSR_MCG_CAP = 0x179,
  MSR_MCG_STATUS = 0x17a,
  MSR_MCG_CTL = 0x17b,
  MSR_PERF_STATUS = 0x198,
  MSR_PERF_CTL = 0x199,
  MSR_THERM_CONTROL = 0x19a,
  MSR_THERM_STATUS = 0x19c,
  MSR_MISC_ENABLE = 0x1a0,
  MSR_ENERGY_PERF_BIAS = 0x1b0,
  MSR_CR_PAT = 0x277,
  MSR_PERF_CAPABILITIES = 0x345,
  MSR_EFER = 0xc0000080,
  MSR_FS_BASE = 0xc0000100,
  MSR_GS_BASE = 0xc0000101,
  MSR_SHADOW_GS_BASE = 0xc0000102,
  MSR_TSC_AUX = 0xc0000103,
  MSR_XEN_HYPERCALL = 0x40000000;

/** SCE LME LMA NX. */
const EFER_VALUE = 0xd01;
/** Fast strings; BTS and PEBS unavailable; xTPR disabled. */
const MISC_ENABLE_VALUE = 0x801801;
/** WB WT UC− UC WC WP UC UC: the layout of Xen, the same for every PV guest. */
const PAT_LO = 0x00070406,
  PAT_HI = 0x00000501;
/** Two banks, TES_P, SER_P. */
const MCG_CAP_VALUE = 0x01000802;

/** The value of the last successful read. */
export const msr = { lo: 0, hi: 0 };

function value(lo: number, hi: number): true {
  msr.lo = lo;
  msr.hi = hi;
  return true;
}

/** P6 performance counters and the architectural ones: there is no vPMU, they read zero and ignore writes. */
function isPmu(index: number): boolean {
  return (
    (index >= 0xc1 && index <= 0xc8) ||
    (index >= 0x186 && index <= 0x18d) ||
    (index >= 0x309 && index <= 0x30b) ||
    (index >= 0x38d && index <= 0x390)
  );
}

/** False: #GP(0). */
export function readMsr(v: Vcpu, index: number): boolean {
  const { cpu } = v.domain.xen;
  const t = v.traps;
  switch (index >>> 0) {
    case MSR_FS_BASE:
      return value(cpu.segBaseLo(FS), cpu.segBaseHi(FS));
    case MSR_GS_BASE:
      return value(cpu.segBaseLo(GS), cpu.segBaseHi(GS));
    case MSR_SHADOW_GS_BASE:
      return value(t.gsUserLo, t.gsUserHi);
    case MSR_TSC: {
      const tsc = cpu.tsc();
      return value(tsc >>> 0, Math.floor(tsc / 4294967296) >>> 0);
    }
    case MSR_EFER:
      return value(EFER_VALUE, 0);
    case MSR_CR_PAT:
      return value(PAT_LO, PAT_HI);
    case MSR_APIC_BASE:
      return value((0xfee00800 | (v.id === 0 ? 0x100 : 0)) >>> 0, 0);
    case MSR_MISC_ENABLE:
      return value(MISC_ENABLE_VALUE, 0);
    case MSR_SPEC_CTRL:
      return value(t.specCtrl, 0);
    case MSR_ARCH_CAPABILITIES:
      return value(ARCH_CAPS_LO, ARCH_CAPS_HI);
    case MSR_TSC_AUX:
      return value(t.tscAux, 0);
    case MSR_FEATURE_CONTROL:
      return value(1, 0);
    case MSR_MCG_CAP:
      return value(MCG_CAP_VALUE, 0);
    case MSR_PLATFORM_ID:
    case MSR_UCODE_REV:
    case MSR_PLATFORM_INFO:
    case MSR_MISC_FEATURES_ENABLES:
    case MSR_MCG_STATUS:
    case MSR_MCG_CTL:
    case MSR_PERF_STATUS:
    case MSR_PERF_CTL:
    case MSR_THERM_STATUS:
    case MSR_PERF_CAPABILITIES:
    case MSR_XEN_HYPERCALL:
    case 0: // P5_MC_ADDR
    case 1: // P5_MC_TYPE
      return value(0, 0);
    default:
      if (isPmu(index)) return value(0, 0);
      // Machine check banks: control reads all ones in the two that exist, the rest reads zero.
      if (index >= 0x400 && index <= 0x47f) {
        const ones = (index & 3) === 0 && index < 0x408;
        return value(ones ? -1 : 0, ones ? -1 : 0);
      }
      if (index >= 0x280 && index <= 0x29f) return value(0, 0);
      // Nobody to tell: before the guest has a #GP handler, an unknown register reads zero.
      if (t.address[13] === 0 && index >>> 16 !== 0x4000) return value(0, 0);
      return false;
  }
}

const canonical = (hi: number): boolean => (hi | 0) >> 15 === 0 || (hi | 0) >> 15 === -1;

/** False: #GP(0). */
export function writeMsr(v: Vcpu, index: number, lo: number, hi: number): boolean {
  const { cpu, mem } = v.domain.xen;
  const t = v.traps;
  switch (index >>> 0) {
    case MSR_FS_BASE:
      if (!canonical(hi)) return false;
      cpu.setSegBase(FS, lo, hi);
      return true;
    case MSR_GS_BASE:
      if (!canonical(hi)) return false;
      cpu.setSegBase(GS, lo, hi);
      return true;
    case MSR_SHADOW_GS_BASE:
      if (!canonical(hi)) return false;
      t.gsUserLo = lo;
      t.gsUserHi = hi;
      return true;
    case MSR_EFER:
      return lo >>> 0 === EFER_VALUE && hi === 0;
    case MSR_SPEC_CTRL:
      // IBRS, STIBP and BHI_DIS_S.
      if (((lo & ~0x403) | hi) !== 0) return false;
      t.specCtrl = lo;
      return true;
    case MSR_PRED_CMD:
      return ((lo & ~1) | hi) === 0;
    case MSR_TSC_AUX:
      if (hi !== 0) return false;
      t.tscAux = lo;
      mem.u32[TSC_AUX >>> 2] = lo;
      return true;
    case MSR_MISC_FEATURES_ENABLES:
    case MSR_UCODE_REV:
      return (lo | hi) === 0;
    case MSR_MISC_ENABLE:
    case MSR_PERF_CTL:
    case MSR_THERM_CONTROL:
    case MSR_ENERGY_PERF_BIAS:
    case MSR_MCG_STATUS:
    case MSR_MCG_CTL:
    case MSR_MCG_CAP:
      return true;
    case MSR_XEN_HYPERCALL:
      return writeHypercallPage(v.domain, lo, hi);
    default:
      if (isPmu(index)) return true;
      return (index >= 0x400 && index <= 0x47f) || (index >= 0x280 && index <= 0x29f);
  }
}
