/**
 * What CPUID answers in a PV domain: exactly what the engine implements (x86-64-v2 without XSAVE and AES), plus Xen's own leaves
 * (public/arch-x86/cpuid.h). Out-of-range leaves are zero.
 *
 * PV rules kept: VME, PSE, PGE, PSE36, MTRR, MONITOR and the like are hidden; leaf 1's initial APIC ID is zero; leaf 4 of Xen's
 * (HVM) is zero. IBRS and ARCH_CAPABILITIES say that nothing is speculated here, so that a guest needs no retpolines
 * and no buffer clearing.
 */
import {
  XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD,
  XEN_CPUID_FIRST_LEAF,
  XEN_CPUID_MAX_NUM_LEAVES,
  XEN_CPUID_SIGNATURE_EBX,
  XEN_CPUID_SIGNATURE_ECX,
  XEN_CPUID_SIGNATURE_EDX,
} from "../../abi/arch_x86_cpuid.js";
import { TSC_KHZ } from "../../machine/clock.js";

export type CpuidRegs = [number, number, number, number];

export const XEN_MAJOR = 4;
export const XEN_MINOR = 17;

const bits = (...n: number[]): number => n.reduce((m, b) => m | (1 << b), 0);

/** FPU DE TSC MSR PAE MCE CX8 APIC SEP MCA CMOV PAT CLFLUSH MMX FXSR SSE SSE2. */
const LEAF1_EDX = bits(0, 2, 4, 5, 6, 7, 8, 9, 11, 14, 15, 16, 19, 23, 24, 25, 26);
/** SSE3 SSSE3 CX16 SSE4.1 SSE4.2 POPCNT HYPERVISOR. */
const LEAF1_ECX = bits(0, 9, 13, 19, 20, 23, 31);
/** ERMS. */
const LEAF7_EBX = bits(9);
/** FSRM, IBRSB, ARCH_CAPABILITIES. */
const LEAF7_EDX = bits(4, 26, 29);
/** BHI_CTRL: guests that do not trust BHI_NO then set a bit instead of clearing the branch history in software. */
const LEAF7_2_EDX = bits(4);
/** SYSCALL NX RDTSCP LM. */
const EXT1_EDX = bits(11, 20, 27, 29);
/** LAHF/SAHF. */
const EXT1_ECX = bits(0);
/** Invariant TSC. */
const EXT7_EDX = bits(8);

/** MSR 0x10a: RDCL_NO IBRS_ALL SKIP_L1DFL SSB_NO MDS_NO PSCHANGE_MC_NO TAA_NO SBDR_SSDP_NO FBSDP_NO PSDP_NO BHI_NO PBRSB_NO GDS_NO RFDS_NO. */
export const ARCH_CAPS_LO = bits(0, 1, 3, 4, 5, 6, 8, 13, 14, 15, 20, 24, 26, 27);
/** ITS_NO (bit 62). */
export const ARCH_CAPS_HI = bits(30);

const VENDOR = "GenuineIntel";
const BRAND = "Xenolith virtual CPU";
/** Family 6, model 0x8f: a model that no guest keeps errata workarounds for. */
const FAMILY_MODEL_STEPPING = 0x000806f8;

function word(text: string, at: number): number {
  let v = 0;
  for (let i = 0; i < 4; i++) v |= (at + i < text.length ? text.charCodeAt(at + i) : 0) << (8 * i);
  return v;
}

export interface CpuidOptions {
  /** Replace leaves: `leaf` or `leaf:subleaf` in hexadecimal → registers. */
  readonly override?: ReadonlyMap<string, CpuidRegs>;
  readonly tscKhz?: number;
  /** tsc_mode=1: the guest's RDTSC is emulated. */
  readonly vtsc?: boolean;
}

/** Multiplier and shift of vcpu_time_info for a TSC of `khz`: ns = (ticks << shift) * mul >> 32. */
export function tscScale(khz: number): { mul: number; shift: number } {
  let hz = khz * 1000;
  let shift = 0;
  while (hz > 2_000_000_000) {
    hz /= 2;
    shift--;
  }
  while (hz <= 1_000_000_000) {
    hz *= 2;
    shift++;
  }
  return { mul: Math.floor((1_000_000_000 * 4294967296) / hz) >>> 0, shift };
}

export class CpuidPolicy {
  readonly tscKhz: number;
  constructor(
    private readonly options: CpuidOptions = {},
    /** How often the domain's TSC frame of reference was moved (save, restore). */
    public incarnation = 0,
  ) {
    this.tscKhz = options.tscKhz ?? TSC_KHZ;
  }

  query(leaf: number, subleaf: number): CpuidRegs {
    const l = leaf >>> 0;
    const s = subleaf >>> 0;
    if (this.options.override !== undefined) {
      const o =
        this.options.override.get(`${l.toString(16)}:${s.toString(16)}`) ?? this.options.override.get(l.toString(16));
      if (o !== undefined) return [o[0], o[1], o[2], o[3]];
    }
    switch (l) {
      case 0:
        return [7, word(VENDOR, 0), word(VENDOR, 8), word(VENDOR, 4)];
      case 1:
        // CLFLUSH line of 64 bytes; one logical processor.
        return [FAMILY_MODEL_STEPPING, 0x00010800, LEAF1_ECX, LEAF1_EDX];
      case 2:
        return [0x00000001, 0, 0, 0];
      case 4:
        return cacheLeaf(s);
      case 7:
        if (s === 0) return [2, LEAF7_EBX, 0, LEAF7_EDX];
        return s === 2 ? [0, 0, 0, LEAF7_2_EDX] : [0, 0, 0, 0];
      case 0x80000000:
        return [0x80000008 | 0, 0, 0, 0];
      case 0x80000001:
        return [0, 0, EXT1_ECX, EXT1_EDX];
      case 0x80000002:
      case 0x80000003:
      case 0x80000004: {
        const at = (l - 0x80000002) * 16;
        return [word(BRAND, at), word(BRAND, at + 4), word(BRAND, at + 8), word(BRAND, at + 12)];
      }
      case 0x80000006:
        // L2: 1 MiB, 16 ways, 64-byte lines.
        return [0, 0, 0x04008040, 0];
      case 0x80000007:
        return [0, 0, 0, EXT7_EDX];
      case 0x80000008:
        // 46 physical and 48 virtual address bits.
        return [0x302e, 0, 0, 0];
      default:
        if (l >= XEN_CPUID_FIRST_LEAF && l <= XEN_CPUID_FIRST_LEAF + XEN_CPUID_MAX_NUM_LEAVES)
          return this.xenLeaf(l - XEN_CPUID_FIRST_LEAF, s);
        return [0, 0, 0, 0];
    }
  }

  private xenLeaf(index: number, subleaf: number): CpuidRegs {
    switch (index) {
      case 0:
        return [
          XEN_CPUID_FIRST_LEAF + XEN_CPUID_MAX_NUM_LEAVES,
          XEN_CPUID_SIGNATURE_EBX,
          XEN_CPUID_SIGNATURE_ECX,
          XEN_CPUID_SIGNATURE_EDX,
        ];
      case 1:
        return [(XEN_MAJOR << 16) | XEN_MINOR, 0, 0, 0];
      case 2:
        // One hypercall page, filled through MSR 0x40000000.
        return [1, 0x40000000, XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD, 0];
      case 3: {
        const vtsc = this.options.vtsc === true;
        if (subleaf === 0) return [(vtsc ? 1 : 0) | 2 | 4, vtsc ? 1 : 0, this.tscKhz, this.incarnation];
        if (subleaf === 1) {
          const { mul, shift } = tscScale(this.tscKhz);
          return [0, 0, mul | 0, shift];
        }
        return subleaf === 2 ? [this.tscKhz, 0, 0, 0] : [0, 0, 0, 0];
      }
      case 5:
        // Widest machine address: 32 bits of the linear memory.
        return [0, 32, 0, 0];
      default:
        return [0, 0, 0, 0];
    }
  }
}

/** Deterministic cache parameters: 32 KiB L1D and L1I, 1 MiB L2. */
function cacheLeaf(subleaf: number): CpuidRegs {
  const leaf = (type: number, level: number, ways: number, sets: number): CpuidRegs => [
    type | (level << 5) | 0x100,
    ((ways - 1) << 22) | 63,
    sets - 1,
    0,
  ];
  if (subleaf === 0) return leaf(1, 1, 8, 64);
  if (subleaf === 1) return leaf(2, 1, 8, 64);
  if (subleaf === 2) return leaf(3, 2, 16, 1024);
  return [0, 0, 0, 0];
}
