// What a guest kernel asks of its builder: its Xen ELF notes, or the legacy `__xen_guest` string, with their defaults.
// Source: <xen/elfnote.h>; libelf's elf_xen_parse for the order of search, the defaults and the checks.
import * as note from "../../abi/elfnote.js";
import * as feature from "../../abi/features.js";
import { BuildError } from "./errors.js";
import { cString, type Elf, type ElfNote } from "./elf.js";

export interface XenNotes {
  /** Where the facts came from. */
  readonly source: "notes" | "__xen_guest";
  readonly guestOs: string;
  readonly guestVersion: string;
  readonly loader: string;
  readonly xenVersion: string;
  /** VA of pfn 0 of the initial region. */
  readonly virtBase: number;
  /** Physical address, in the image's numbering, of pfn 0. */
  readonly paddrOffset: number;
  /** VA = p_paddr + virtOffset. */
  readonly virtOffset: number;
  readonly virtStart: number;
  readonly virtEnd: number;
  readonly entry: number;
  readonly hypercallPage: number | undefined;
  readonly p2mBase: number | undefined;
  /** MOD_START_PFN: the RAM disk need not be mapped, and is told by its frame number. */
  readonly unmappedInitrd: boolean;
  readonly hvStartLow: number | undefined;
  readonly l1MfnValid: readonly {
    readonly mask: readonly [number, number];
    readonly value: readonly [number, number];
  }[];
  readonly pae: "no" | "yes" | "extended" | "bimodal";
  readonly bsdSymtab: boolean;
  readonly suspendCancel: boolean;
  /** XENFEAT bits that the kernel can use, and those it cannot do without (first submap). */
  readonly supportedFeatures: number;
  readonly requiredFeatures: number;
  /** Names in FEATURES that are not known here. */
  readonly unknownFeatures: readonly string[];
  /** PHYS32_ENTRY: where PVH enters. */
  readonly phys32Entry: number | undefined;
}

type Draft = { -readonly [K in keyof XenNotes]?: XenNotes[K] };

const FEATURES: Readonly<Record<string, number>> = {
  writable_page_tables: feature.XENFEAT_writable_page_tables,
  writable_descriptor_tables: feature.XENFEAT_writable_descriptor_tables,
  auto_translated_physmap: feature.XENFEAT_auto_translated_physmap,
  supervisor_mode_kernel: feature.XENFEAT_supervisor_mode_kernel,
  pae_pgdir_above_4gb: feature.XENFEAT_pae_pgdir_above_4gb,
  hvm_callback_vector: feature.XENFEAT_hvm_callback_vector,
  dom0: feature.XENFEAT_dom0,
};

/** Reads the notes of an image; a BuildError when it has none. */
export function readXenNotes(elf: Elf): XenNotes {
  for (const group of elf.notes) {
    const draft: Draft = {};
    let found = false;
    for (const n of group) if (n.owner === "Xen" && applyNote(draft, n)) found = true;
    if (found) return finish(elf, draft, "notes");
  }
  const legacy = elf.section("__xen_guest");
  if (legacy !== undefined) {
    const draft: Draft = {};
    parseLegacy(draft, cString(legacy));
    return finish(elf, draft, "__xen_guest");
  }
  throw new BuildError("no Xen notes: the kernel is not built for Xen (neither ELF notes nor a __xen_guest section)");
}

/** The checks for a PV guest; PVH needs only PHYS32_ENTRY. */
export function checkPvNotes(notes: XenNotes): void {
  if (!notes.loader.startsWith("generic") && !notes.guestOs.startsWith("linux")) {
    throw new BuildError(
      notes.phys32Entry !== undefined && notes.loader === ""
        ? 'the kernel is for PVH only: it has no PV entry (use type = "pvh")'
        : `the kernel asks for the loader "${notes.loader}", only "generic" is known`,
    );
  }
  if (!notes.xenVersion.startsWith("xen-3.0")) {
    throw new BuildError(`the kernel is for the Xen interface "${notes.xenVersion}", not xen-3.0`);
  }
}

/** A 64-bit note value as a canonical virtual address; 4-byte values are zero-extended, other sizes mean nothing. */
function numeric(n: ElfNote): number | undefined {
  const v = new DataView(n.desc.buffer, n.desc.byteOffset, n.desc.length);
  if (n.desc.length >= 8) return v.getInt32(4, true) * 4294967296 + v.getUint32(0, true);
  if (n.desc.length === 4) return v.getUint32(0, true);
  if (n.desc.length === 2) return v.getUint16(0, true);
  if (n.desc.length === 1) return v.getUint8(0);
  return undefined;
}

function applyNote(d: Draft, n: ElfNote): boolean {
  const text = (): string => cString(n.desc);
  const set = <K extends keyof XenNotes>(key: K, value: XenNotes[K] | undefined): void => {
    if (value !== undefined) d[key] = value;
  };
  switch (n.type) {
    case note.XEN_ELFNOTE_ENTRY:
      set("entry", numeric(n));
      return true;
    case note.XEN_ELFNOTE_HYPERCALL_PAGE:
      set("hypercallPage", numeric(n));
      return true;
    case note.XEN_ELFNOTE_VIRT_BASE:
      set("virtBase", numeric(n));
      return true;
    case note.XEN_ELFNOTE_PADDR_OFFSET:
      set("paddrOffset", numeric(n));
      return true;
    case note.XEN_ELFNOTE_XEN_VERSION:
      d.xenVersion = text();
      return true;
    case note.XEN_ELFNOTE_GUEST_OS:
      d.guestOs = text();
      return true;
    case note.XEN_ELFNOTE_GUEST_VERSION:
      d.guestVersion = text();
      return true;
    case note.XEN_ELFNOTE_LOADER:
      d.loader = text();
      return true;
    case note.XEN_ELFNOTE_PAE_MODE:
      d.pae = paeMode(text());
      return true;
    case note.XEN_ELFNOTE_FEATURES:
      parseFeatures(d, text());
      return true;
    case note.XEN_ELFNOTE_SUPPORTED_FEATURES:
      d.supportedFeatures = ((d.supportedFeatures ?? 0) | ((numeric(n) ?? 0) & 0xffffffff)) >>> 0;
      return true;
    case note.XEN_ELFNOTE_BSD_SYMTAB:
      d.bsdSymtab = text() === "yes";
      return true;
    case note.XEN_ELFNOTE_HV_START_LOW:
      set("hvStartLow", numeric(n));
      return true;
    case note.XEN_ELFNOTE_L1_MFN_VALID:
      d.l1MfnValid = maskValuePairs(n.desc);
      return true;
    case note.XEN_ELFNOTE_SUSPEND_CANCEL:
      d.suspendCancel = numeric(n) === 1;
      return true;
    case note.XEN_ELFNOTE_INIT_P2M:
      set("p2mBase", numeric(n));
      return true;
    case note.XEN_ELFNOTE_MOD_START_PFN:
      d.unmappedInitrd = (numeric(n) ?? 0) !== 0;
      return true;
    case note.XEN_ELFNOTE_PHYS32_ENTRY:
      set("phys32Entry", numeric(n));
      return true;
    default:
      return true; // notes of a later Xen are passed over
  }
}

function paeMode(text: string): XenNotes["pae"] {
  if (text.includes("extended-cr3")) return "extended";
  if (text.startsWith("bimodal")) return "bimodal";
  return text.startsWith("yes") ? "yes" : "no";
}

function maskValuePairs(desc: Uint8Array): XenNotes["l1MfnValid"] {
  const v = new DataView(desc.buffer, desc.byteOffset, desc.length);
  const pairs: { mask: readonly [number, number]; value: readonly [number, number] }[] = [];
  for (let at = 0; at + 16 <= desc.length; at += 16) {
    const pair = (o: number): [number, number] => [v.getUint32(at + o, true), v.getUint32(at + o + 4, true)];
    pairs.push({ mask: pair(0), value: pair(8) });
  }
  return pairs;
}

/** `!name|name|…`: names separated by `|`, required ones marked with `!`. */
function parseFeatures(d: Draft, text: string): void {
  const unknown: string[] = [];
  for (const item of text.split("|")) {
    if (item === "") continue;
    const required = item.startsWith("!");
    const name = required ? item.slice(1) : item;
    const bit = FEATURES[name];
    if (bit === undefined) {
      if (required) throw new BuildError(`the kernel requires the Xen feature "${name}", which is not known`);
      unknown.push(name);
      continue;
    }
    d.supportedFeatures = ((d.supportedFeatures ?? 0) | (1 << bit)) >>> 0;
    if (required) d.requiredFeatures = ((d.requiredFeatures ?? 0) | (1 << bit)) >>> 0;
  }
  d.unknownFeatures = unknown;
}

/** `KEY=value,KEY=value`; numbers in C notation; HYPERCALL_PAGE is a page number counted from VIRT_BASE. */
function parseLegacy(d: Draft, text: string): void {
  let page: number | undefined;
  for (const item of text.split(",")) {
    const eq = item.indexOf("=");
    const key = (eq < 0 ? item : item.slice(0, eq)).trim();
    const value = eq < 0 ? "" : item.slice(eq + 1).trim();
    switch (key) {
      case "LOADER":
        d.loader = value;
        break;
      case "GUEST_OS":
        d.guestOs = value;
        break;
      case "GUEST_VER":
      case "GUEST_VERSION":
        d.guestVersion = value;
        break;
      case "XEN_VER":
        d.xenVersion = value;
        break;
      case "PAE":
        d.pae = paeMode(value);
        break;
      case "BSD_SYMTAB":
        d.bsdSymtab = true;
        break;
      case "FEATURES":
        parseFeatures(d, value);
        break;
      case "VIRT_BASE":
        d.virtBase = legacyNumber(key, value);
        break;
      case "VIRT_ENTRY":
        d.entry = legacyNumber(key, value);
        break;
      case "ELF_PADDR_OFFSET":
        d.paddrOffset = legacyNumber(key, value);
        break;
      case "HYPERCALL_PAGE":
        page = legacyNumber(key, value);
        break;
      default:
        break;
    }
  }
  if (page !== undefined) d.hypercallPage = (d.virtBase ?? 0) + page * 4096;
}

function legacyNumber(key: string, text: string): number {
  if (!/^(0[xX][0-9a-fA-F]+|\d+)$/.test(text)) throw new BuildError(`__xen_guest: ${key} is not a number: "${text}"`);
  const bits = BigInt.asIntN(64, BigInt(text));
  return Number(bits);
}

/** Fills in the defaults and checks that the addresses make sense (elf_xen_addr_calc_check). */
function finish(elf: Elf, d: Draft, source: XenNotes["source"]): XenNotes {
  if (d.paddrOffset !== undefined && d.virtBase === undefined && source === "notes") {
    throw new BuildError("the kernel's notes have PADDR_OFFSET but no VIRT_BASE");
  }
  const virtBase = d.virtBase ?? 0;
  const paddrOffset = d.paddrOffset ?? (source === "notes" ? 0 : virtBase);
  const virtOffset = virtBase - paddrOffset;
  const virtStart = elf.pstart + virtOffset;
  const virtEnd = elf.pend + virtOffset;
  const entry = d.entry ?? elf.entry;
  const isPv = (d.loader ?? "") !== "" || (d.guestOs ?? "").startsWith("linux");
  if (isPv && (virtStart > virtEnd || entry < virtStart || entry > virtEnd || virtBase > virtStart)) {
    throw new BuildError(
      `the kernel's notes contradict its segments: entry ${hex(entry)}, base ${hex(virtBase)}, image ${hex(virtStart)} to ${hex(virtEnd)}`,
    );
  }
  if (d.p2mBase !== undefined && d.p2mBase >= virtStart && d.p2mBase < virtEnd) {
    throw new BuildError(`the kernel wants its P2M list at ${hex(d.p2mBase)}, inside its own image`);
  }
  return {
    source,
    guestOs: d.guestOs ?? "",
    guestVersion: d.guestVersion ?? "",
    loader: d.loader ?? "",
    xenVersion: d.xenVersion ?? "",
    virtBase,
    paddrOffset,
    virtOffset,
    virtStart,
    virtEnd,
    entry,
    hypercallPage: d.hypercallPage,
    p2mBase: d.p2mBase,
    unmappedInitrd: d.unmappedInitrd ?? false,
    hvStartLow: d.hvStartLow,
    l1MfnValid: d.l1MfnValid ?? [],
    pae: d.pae ?? "no",
    bsdSymtab: d.bsdSymtab ?? false,
    suspendCancel: d.suspendCancel ?? false,
    supportedFeatures: d.supportedFeatures ?? 0,
    requiredFeatures: d.requiredFeatures ?? 0,
    unknownFeatures: d.unknownFeatures ?? [],
    phys32Entry: d.phys32Entry,
  };
}

/** An address as people write it: unsigned, hexadecimal. */
export const hex = (va: number): string => `0x${(va < 0 ? BigInt(va) + (1n << 64n) : BigInt(va)).toString(16)}`;
