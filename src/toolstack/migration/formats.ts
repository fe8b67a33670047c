/**
 * The layers of a saved domain, as data: xl's file header, the libxl stream (version 2) and the libxc stream (version 3) inside it.
 * Sources: Xen's docs/specs/libxc-migration-stream and libxl-migration-stream (4.17).
 *
 * All fields are little endian but for the two image headers, which are big endian whatever the machine.
 */

/** xl's file: magic, then byte order mark, mandatory flags, optional flags and the length of the optional data (u32 each). */
export const XL_MAGIC = "Xen saved domain, xl format\n \0 \r";
export const XL_HEADER_SIZE = 48;
export const XL_BYTEORDER = 0x01020304;
/** The configuration is JSON; a stream of version 2 follows. */
export const XL_MANDATORY_JSON = 1;
export const XL_MANDATORY_STREAMV2 = 2;

/** libxl: "LibxlFmt", version, options. */
export const LIBXL_IDENT_HI = 0x4c696278;
export const LIBXL_IDENT_LO = 0x6c466d74;
export const LIBXL_VERSION = 2;
export const LIBXL_HEADER_SIZE = 16;
/** Option bits: big endian; converted from a legacy stream. */
export const LIBXL_OPT_BE = 1;
export const LIBXL_REC = {
  END: 0,
  LIBXC_CONTEXT: 1,
  EMULATOR_XENSTORE_DATA: 2,
  EMULATOR_CONTEXT: 3,
  CHECKPOINT_END: 4,
  CHECKPOINT_STATE: 5,
} as const;

/** libxc image header: marker (all ones, u64), "XENF", version, options (u16), reserved; 24 bytes. */
export const LIBXC_IDENT = 0x58454e46;
export const LIBXC_VERSION = 3;
export const LIBXC_IMAGE_HEADER_SIZE = 24;
export const LIBXC_OPT_BE = 1;
/** Domain header: type u32, page shift u16, reserved u16, Xen's version u32 twice. */
export const LIBXC_DOMAIN_HEADER_SIZE = 16;
export const LIBXC_DOMAIN_PV = 1;
export const PAGE_SHIFT = 12;

/** Type and length of a record; its body is padded with zeroes to eight bytes. */
export const RECORD_HEADER_SIZE = 8;
export const REC = {
  END: 0x00,
  PAGE_DATA: 0x01,
  X86_PV_INFO: 0x02,
  X86_PV_P2M_FRAMES: 0x03,
  X86_PV_VCPU_BASIC: 0x04,
  X86_PV_VCPU_EXTENDED: 0x05,
  X86_PV_VCPU_XSAVE: 0x06,
  SHARED_INFO: 0x07,
  X86_TSC_INFO: 0x08,
  HVM_CONTEXT: 0x09,
  HVM_PARAMS: 0x0a,
  TOOLSTACK: 0x0b,
  X86_PV_VCPU_MSRS: 0x0c,
  VERIFY: 0x0d,
  CHECKPOINT: 0x0e,
  CHECKPOINT_DIRTY_PFN_LIST: 0x0f,
  STATIC_DATA_END: 0x10,
  X86_CPUID_POLICY: 0x11,
  X86_MSR_POLICY: 0x12,
} as const;
/** A record with this bit may be skipped by who does not know it. */
export const REC_OPTIONAL = 0x80000000;
/** The longest record taken: pages of one batch and room for more. */
export const MAX_RECORD = 8 << 20;
/** Pages in a PAGE_DATA record, as libxc has it. */
export const MAX_BATCH = 1024;

/** Page types in the uppermost four bits of a PAGE_DATA entry. Levels of page tables are 1–4, pinned ones have the top bit as well. */
export const PT_NOTAB = 0;
export const PT_PINNED = 8;
export const PT_BROKEN = 0xd;
export const PT_XALLOC = 0xe;
export const PT_XTAB = 0xf;
/** Frame numbers have 52 bits. */
export const PFN_HI_BITS = 20;

/** Levels 1–4 of a page table type, 0 for anything else. */
export function tableLevel(type: number): 0 | 1 | 2 | 3 | 4 {
  const level = type & 7;
  return level <= 4 ? (level as 0 | 1 | 2 | 3 | 4) : 0;
}
/** Does a page of this type come with its content? */
export function hasContent(type: number): boolean {
  return type <= 4 || (type >= 9 && type <= 12);
}
