/**
 * Writes the layers of a saved domain: xl's header, the libxl stream, the libxc stream inside it.
 *
 * Invariant: nothing is kept of the domain's pages once `pages` has returned: a record is one array, given to the sink.
 */
import { XEN_MAJOR, XEN_MINOR, type CpuidPolicy } from "../../hypervisor/traps/cpuid-policy.js";
import { utf8 } from "../../xenstore/text.js";
import { viewOf, type ByteSink } from "./bytes.js";
import * as F from "./formats.js";
import { cpuidLeaves, encodeLeaves, encodeMsrPolicy } from "./policy.js";
import type { SuspendedState, TscInfo } from "./rebuild.js";
import type { SavedVcpu } from "./vcpus.js";

/** The file header with the domain's configuration (libxl's JSON; empty: none). */
export function xlHeader(config: string): Uint8Array {
  const text = utf8(config);
  // A length that counts the terminating zero, and the text.
  const optional = config === "" ? 0 : 4 + text.length + 1;
  const out = new Uint8Array(F.XL_HEADER_SIZE + optional);
  const d = viewOf(out);
  for (let i = 0; i < F.XL_MAGIC.length; i++) out[i] = F.XL_MAGIC.charCodeAt(i);
  d.setUint32(32, F.XL_BYTEORDER, true);
  d.setUint32(36, F.XL_MANDATORY_JSON | F.XL_MANDATORY_STREAMV2, true);
  d.setUint32(44, optional, true);
  if (optional > 0) {
    d.setUint32(48, text.length + 1, true);
    out.set(text, 52);
  }
  return out;
}

function record(type: number, body: Uint8Array = new Uint8Array(0)): Uint8Array {
  const out = new Uint8Array(F.RECORD_HEADER_SIZE + ((body.length + 7) & ~7));
  const d = viewOf(out);
  d.setUint32(0, type, true);
  d.setUint32(4, body.length, true);
  out.set(body, F.RECORD_HEADER_SIZE);
  return out;
}

/** Puts a page's canonical content at `at`; false where it cannot be told now (a page table in the middle of a change). */
export type PageFiller = (pfn: number, type: number, out: Uint8Array, at: number) => boolean;

export class ImageWriter {
  /** Bytes written so far. */
  bytes = 0;
  constructor(private readonly sink: ByteSink) {}

  private async put(bytes: Uint8Array): Promise<void> {
    this.bytes += bytes.length;
    await this.sink.write(bytes);
  }

  /** All headers, the parts that do not change while the domain runs, and the place of its P2M. */
  async begin(config: string, policy: CpuidPolicy, p2m: { pfns: number; frames: Int32Array }): Promise<void> {
    await this.put(xlHeader(config));
    const libxl = new Uint8Array(F.LIBXL_HEADER_SIZE);
    const l = viewOf(libxl);
    l.setUint32(0, F.LIBXL_IDENT_HI);
    l.setUint32(4, F.LIBXL_IDENT_LO);
    l.setUint32(8, F.LIBXL_VERSION);
    await this.put(libxl);
    await this.put(record(F.LIBXL_REC.LIBXC_CONTEXT));

    const image = new Uint8Array(F.LIBXC_IMAGE_HEADER_SIZE + F.LIBXC_DOMAIN_HEADER_SIZE);
    const i = viewOf(image);
    i.setUint32(0, 0xffffffff);
    i.setUint32(4, 0xffffffff);
    i.setUint32(8, F.LIBXC_IDENT);
    i.setUint32(12, F.LIBXC_VERSION);
    const at = F.LIBXC_IMAGE_HEADER_SIZE;
    i.setUint32(at, F.LIBXC_DOMAIN_PV, true);
    i.setUint16(at + 4, F.PAGE_SHIFT, true);
    i.setUint32(at + 8, XEN_MAJOR, true);
    i.setUint32(at + 12, XEN_MINOR, true);
    await this.put(image);

    // Guest words of eight bytes, four levels of page tables.
    await this.put(record(F.REC.X86_PV_INFO, Uint8Array.of(8, 4, 0, 0, 0, 0, 0, 0)));
    await this.put(record(F.REC.X86_CPUID_POLICY, encodeLeaves(cpuidLeaves(policy))));
    await this.put(record(F.REC.X86_MSR_POLICY, encodeMsrPolicy()));
    await this.put(record(F.REC.STATIC_DATA_END));
    await this.p2mFrames(p2m);
  }

  /** Where the P2M is; again when that has changed. */
  async p2mFrames(p2m: { pfns: number; frames: Int32Array }): Promise<void> {
    const body = new Uint8Array(8 + p2m.frames.length * 8);
    const d = viewOf(body);
    d.setUint32(4, p2m.pfns - 1, true);
    p2m.frames.forEach((pfn, i) => d.setUint32(8 + i * 8, pfn, true));
    await this.put(record(F.REC.X86_PV_P2M_FRAMES, body));
  }

  /**
   * One PAGE_DATA record: at most MAX_BATCH frames with their types. Returns the frames that `fill` could not give (they are not in the
   * record).
   */
  async pages(pfns: readonly number[], typeOf: (pfn: number) => number, fill: PageFiller): Promise<number[]> {
    const withContent = pfns.filter((pfn) => F.hasContent(typeOf(pfn)));
    const content = new Uint8Array(withContent.length * 4096);
    const late: number[] = [];
    let at = 0;
    for (const pfn of withContent) {
      if (fill(pfn, typeOf(pfn), content, at)) at += 4096;
      else late.push(pfn);
    }
    const sent = late.length === 0 ? pfns : pfns.filter((pfn) => !late.includes(pfn));
    if (sent.length === 0) return late;
    const length = 8 + sent.length * 8 + at;
    const out = new Uint8Array(F.RECORD_HEADER_SIZE + length);
    const d = viewOf(out);
    d.setUint32(0, F.REC.PAGE_DATA, true);
    d.setUint32(4, length, true);
    d.setUint32(8, sent.length, true);
    sent.forEach((pfn, i) => {
      d.setUint32(16 + i * 8, pfn, true);
      d.setUint32(20 + i * 8, (typeOf(pfn) << 28) >>> 0, true);
    });
    out.set(content.subarray(0, at), 16 + sent.length * 8);
    await this.put(out);
    return late;
  }

  /** The suspended domain's state, and the end of the libxc stream. */
  async finish(state: Pick<SuspendedState, "sharedInfo" | "vcpus" | "tsc">): Promise<void> {
    if (state.tsc !== undefined) await this.put(record(F.REC.X86_TSC_INFO, tscBody(state.tsc)));
    await this.put(record(F.REC.SHARED_INFO, state.sharedInfo));
    for (const v of state.vcpus) await this.vcpu(v);
    await this.put(record(F.REC.END));
    await this.put(record(F.LIBXL_REC.END));
  }

  private async vcpu(v: SavedVcpu): Promise<void> {
    const body = (content: Uint8Array): Uint8Array => {
      const out = new Uint8Array(8 + content.length);
      viewOf(out).setUint32(0, v.id, true);
      out.set(content, 8);
      return out;
    };
    await this.put(record(F.REC.X86_PV_VCPU_BASIC, body(v.basic)));
    if (v.extended !== undefined) await this.put(record(F.REC.X86_PV_VCPU_EXTENDED, body(v.extended)));
    // XCR0 and its accumulated value, both zero: this processor has no XSAVE.
    await this.put(record(F.REC.X86_PV_VCPU_XSAVE, body(new Uint8Array(16))));
    if (v.msrs !== undefined && v.msrs.length > 0) await this.put(record(F.REC.X86_PV_VCPU_MSRS, body(v.msrs)));
  }
}

function tscBody(t: TscInfo): Uint8Array {
  const out = new Uint8Array(24);
  const d = viewOf(out);
  d.setUint32(0, t.mode, true);
  d.setUint32(4, t.khz, true);
  d.setUint32(8, t.nsec >>> 0, true);
  d.setUint32(12, Math.floor(t.nsec / 4294967296), true);
  d.setUint32(16, t.incarnation, true);
  return out;
}
