/**
 * Reads the layers of a saved domain and hands their contents over, record by record.
 *
 * Everything here is hostile until checked: every length is compared with what it counts before anything is made of it, records come in the
 * order the formats give, and what is wrong ends the reading with one MigrationError that says where.
 */
import { vcpu_guest_context } from "../../abi/arch_x86_xen.js";
import { xen_domctl_ext_vcpucontext, xen_domctl_vcpu_msr } from "../../abi/domctl.js";
import { shared_info } from "../../abi/xen.js";
import { fromUtf8 } from "../../xenstore/text.js";
import { type Reader, viewOf } from "./bytes.js";
import { damaged, MigrationError } from "./errors.js";
import * as F from "./formats.js";
import { MAX_PFNS, P2M_PER_PAGE } from "./p2m.js";
import type { TscInfo } from "./rebuild.js";
import type { SavedVcpu } from "./vcpus.js";

/** The longest configuration taken. */
const MAX_CONFIG = 4 << 20;
/** `xen_domctl_ext_vcpucontext` may grow up to this. */
const MAX_EXTENDED = 128;
const MAX_XSAVE = 16384;
const MAX_VCPU_ID = 8191;

/** Takes what a stream holds, in its order. What throws ends the reading. */
export interface ImageHandler {
  /** Xen's CPUID leaves as they were told to the guest. */
  cpuidPolicy(leaves: Uint8Array): void;
  /** Where the P2M is; may come again with more. */
  p2mFrames(pfns: number, frames: Int32Array): void;
  /** A page with its content, or null: it is there, and empty. */
  page(pfn: number, type: number, content: Uint8Array | null): void;
  /** There is no page at this place (any more). */
  absent(pfn: number): void;
  /** A batch of pages was handed over. */
  batch?(): Promise<void> | void;
}

/** What comes after the pages. */
export interface ImageTail {
  readonly sharedInfo: Uint8Array;
  readonly vcpus: readonly SavedVcpu[];
  readonly tsc: TscInfo | undefined;
}

/** xl's header: the configuration, "" if there is none. */
export async function readXlHeader(r: Reader): Promise<string> {
  const head = await r.exact(F.XL_HEADER_SIZE, "the header of a saved domain");
  for (let i = 0; i < F.XL_MAGIC.length; i++)
    if (head[i] !== F.XL_MAGIC.charCodeAt(i)) throw damaged("this is no saved domain (the file does not begin as one)");
  const d = viewOf(head);
  if (d.getUint32(32, true) !== F.XL_BYTEORDER) throw damaged("saved on a machine of another byte order");
  const mandatory = d.getUint32(36, true);
  const unknown = (mandatory & ~(F.XL_MANDATORY_JSON | F.XL_MANDATORY_STREAMV2)) >>> 0;
  if (unknown !== 0) throw damaged(`unknown mandatory flags 0x${unknown.toString(16)} in the header`);
  if ((mandatory & F.XL_MANDATORY_STREAMV2) === 0)
    throw damaged("a stream of the old format (before Xen 4.6) is not read");
  const length = d.getUint32(44, true);
  if (length > MAX_CONFIG) throw damaged(`the header claims ${length} bytes of configuration`);
  const optional = await r.exact(length, "the configuration");
  if (length === 0) return "";
  if (length < 4) throw damaged("the configuration's length is cut off");
  const size = viewOf(optional).getUint32(0, true);
  if (size > length - 4) throw damaged("the configuration is longer than its place");
  if ((mandatory & F.XL_MANDATORY_JSON) === 0) throw damaged("the configuration is no JSON (before Xen 4.5)");
  let text = optional.subarray(4, 4 + size);
  while (text.length > 0 && text[text.length - 1] === 0) text = text.subarray(0, -1);
  return fromUtf8(text);
}

interface Record {
  readonly type: number;
  readonly body: Uint8Array;
}

async function readRecord(r: Reader, layer: string): Promise<Record> {
  const at = r.position;
  const d = viewOf(await r.exact(F.RECORD_HEADER_SIZE, `a ${layer} record`));
  const type = d.getUint32(0, true);
  const length = d.getUint32(4, true);
  if (length > F.MAX_RECORD) throw damaged(`a ${layer} record of ${length} bytes at byte ${at}`);
  const whole = await r.exact((length + 7) & ~7, `a ${layer} record of type ${type}`);
  for (let i = length; i < whole.length; i++)
    if (whole[i] !== 0) throw damaged(`a ${layer} record of type ${type} at byte ${at} has padding that is not zero`);
  return { type, body: whole.subarray(0, length) };
}

/** The libxl stream with the libxc stream inside. The reader stands behind xl's header. */
export async function readImage(r: Reader, handler: ImageHandler): Promise<ImageTail> {
  const head = viewOf(await r.exact(F.LIBXL_HEADER_SIZE, "the libxl header"));
  if (head.getUint32(0) !== F.LIBXL_IDENT_HI || head.getUint32(4) !== F.LIBXL_IDENT_LO)
    throw damaged("there is no libxl stream behind the header");
  if (head.getUint32(8) !== F.LIBXL_VERSION) throw damaged(`libxl stream of version ${head.getUint32(8)}`);
  const options = head.getUint32(12);
  if ((options & F.LIBXL_OPT_BE) !== 0) throw damaged("saved on a machine of another byte order");
  let tail: ImageTail | null = null;
  for (;;) {
    const { type, body } = await readRecord(r, "libxl");
    switch (type) {
      case F.LIBXL_REC.END:
        if (tail === null) throw damaged("the stream holds no domain");
        return tail;
      case F.LIBXL_REC.LIBXC_CONTEXT:
        if (tail !== null || body.length !== 0) throw damaged("a second domain in the stream");
        tail = await readLibxc(r, handler);
        break;
      case F.LIBXL_REC.EMULATOR_XENSTORE_DATA:
        // Nodes of a device model: a PV domain has none.
        break;
      case F.LIBXL_REC.EMULATOR_CONTEXT:
        throw new MigrationError("unsupported", "the saved domain has a device model");
      case F.LIBXL_REC.CHECKPOINT_END:
      case F.LIBXL_REC.CHECKPOINT_STATE:
        throw new MigrationError("unsupported", "continuous checkpoints (Remus) are not read");
      default:
        if (type < F.REC_OPTIONAL) throw damaged(`unknown libxl record ${type}`);
    }
  }
}

function count(body: Uint8Array, size: number, what: string): number {
  if (body.length % size !== 0) throw damaged(`${what}: ${body.length} bytes are no whole number of entries`);
  return body.length / size;
}

/** vCPU records as they come in. */
class Vcpus {
  private readonly byId = new Map<number, { basic?: Uint8Array; extended?: Uint8Array; msrs?: Uint8Array }>();

  add(type: number, body: Uint8Array): void {
    if (body.length < 8) throw damaged("a vCPU record is cut off");
    const d = viewOf(body);
    const id = d.getUint32(0, true);
    if (id > MAX_VCPU_ID || d.getUint32(4, true) !== 0) throw damaged(`a record of vCPU ${id}`);
    const content = body.subarray(8);
    let v = this.byId.get(id);
    if (v === undefined) this.byId.set(id, (v = {}));
    const size = (ok: boolean): void => {
      if (!ok) throw damaged(`vCPU ${id}: a record of type ${type} with ${content.length} bytes`);
    };
    switch (type) {
      case F.REC.X86_PV_VCPU_BASIC:
        size(content.length === vcpu_guest_context.size);
        v.basic = content;
        break;
      case F.REC.X86_PV_VCPU_EXTENDED:
        size(
          content.length >= xen_domctl_ext_vcpucontext.sysenter_disables_events + 1 && content.length <= MAX_EXTENDED,
        );
        v.extended = content;
        break;
      case F.REC.X86_PV_VCPU_XSAVE:
        // XCR0, its accumulated value, and the state that goes with it.
        size(content.length >= 16 && content.length <= MAX_XSAVE);
        if (xcr0Beyond(content))
          throw new MigrationError("unsupported", `vCPU ${id} uses AVX state, which this processor has not`);
        break;
      default:
        size(content.length % xen_domctl_vcpu_msr.size === 0 && content.length <= 64 * xen_domctl_vcpu_msr.size);
        v.msrs = content;
    }
  }
  list(): SavedVcpu[] {
    return [...this.byId]
      .sort(([a], [b]) => a - b)
      .map(([id, v]) => {
        if (v.basic === undefined) throw damaged(`vCPU ${id} has no context`);
        return { id, basic: v.basic, extended: v.extended, msrs: v.msrs };
      });
  }
}

/** State beyond x87 and SSE, which the basic context has. */
function xcr0Beyond(xsave: Uint8Array): boolean {
  const d = viewOf(xsave);
  return (d.getUint32(8, true) & ~3) !== 0 || d.getUint32(12, true) !== 0;
}

async function readLibxc(r: Reader, handler: ImageHandler): Promise<ImageTail> {
  const image = viewOf(await r.exact(F.LIBXC_IMAGE_HEADER_SIZE, "the libxc header"));
  if (image.getUint32(0) !== 0xffffffff || image.getUint32(4) !== 0xffffffff || image.getUint32(8) !== F.LIBXC_IDENT)
    throw damaged("there is no libxc stream in the libxl stream");
  const version = image.getUint32(12);
  if (version !== F.LIBXC_VERSION) throw damaged(`libxc stream of version ${version} (3 is read)`);
  if ((image.getUint16(16) & F.LIBXC_OPT_BE) !== 0) throw damaged("saved on a machine of another byte order");
  const domain = viewOf(await r.exact(F.LIBXC_DOMAIN_HEADER_SIZE, "the domain header"));
  if (domain.getUint32(0, true) !== F.LIBXC_DOMAIN_PV)
    throw new MigrationError("unsupported", "the saved domain is no PV domain");
  if (domain.getUint16(4, true) !== F.PAGE_SHIFT) throw damaged("the saved domain has pages of another size");

  let info = false;
  let dynamic = false;
  let pfns = 0;
  let shared: Uint8Array | null = null;
  let tsc: TscInfo | undefined;
  const vcpus = new Vcpus();
  for (;;) {
    const { type, body } = await readRecord(r, "libxc");
    const needs = (ok: boolean, what: string): void => {
      if (!ok) throw damaged(`a record of type ${type} before ${what}`);
    };
    const size = (ok: boolean): void => {
      if (!ok) throw damaged(`a libxc record of type ${type} with ${body.length} bytes`);
    };
    switch (type) {
      case F.REC.END:
        size(body.length === 0);
        needs(pfns > 0, "the P2M");
        if (shared === null) throw damaged("the stream has no shared info page");
        return { sharedInfo: shared, vcpus: vcpus.list(), tsc };
      case F.REC.X86_PV_INFO:
        size(body.length >= 8);
        if (body[0] !== 8 || body[1] !== 4)
          throw new MigrationError("unsupported", "the saved domain is no 64-bit domain");
        info = true;
        break;
      case F.REC.X86_CPUID_POLICY:
        count(body, 24, "the CPUID policy");
        handler.cpuidPolicy(body);
        break;
      case F.REC.X86_MSR_POLICY:
        count(body, 16, "the MSR policy");
        break;
      case F.REC.STATIC_DATA_END:
        size(body.length === 0);
        needs(info, "the kind of guest");
        dynamic = true;
        break;
      case F.REC.X86_PV_P2M_FRAMES: {
        needs(dynamic, "the end of the static data");
        size(body.length >= 16 && body.length % 8 === 0);
        const d = viewOf(body);
        const start = d.getUint32(0, true);
        const end = d.getUint32(4, true);
        if (start !== 0 || end >= MAX_PFNS || end + 1 < pfns) throw damaged(`a P2M from frame ${start} to ${end}`);
        size((body.length - 8) / 8 === Math.ceil((end + 1) / P2M_PER_PAGE));
        const frames = new Int32Array((body.length - 8) / 8);
        for (let i = 0; i < frames.length; i++) {
          const pfn = d.getUint32(8 + i * 8, true);
          if (pfn > end || d.getUint32(12 + i * 8, true) !== 0)
            throw damaged(`page ${i} of the P2M lies outside of it`);
          frames[i] = pfn;
        }
        pfns = end + 1;
        handler.p2mFrames(pfns, frames);
        break;
      }
      case F.REC.PAGE_DATA:
        needs(pfns > 0, "the P2M");
        readPages(body, pfns, handler);
        await handler.batch?.();
        break;
      case F.REC.SHARED_INFO:
        size(body.length >= shared_info.size && body.length <= 4096);
        shared = body;
        break;
      case F.REC.X86_TSC_INFO: {
        size(body.length === 24);
        const d = viewOf(body);
        tsc = {
          mode: d.getUint32(0, true),
          khz: d.getUint32(4, true),
          nsec: d.getUint32(8, true) + d.getUint32(12, true) * 4294967296,
          incarnation: d.getUint32(16, true),
        };
        break;
      }
      case F.REC.X86_PV_VCPU_BASIC:
      case F.REC.X86_PV_VCPU_EXTENDED:
      case F.REC.X86_PV_VCPU_XSAVE:
      case F.REC.X86_PV_VCPU_MSRS:
        needs(pfns > 0, "the P2M");
        vcpus.add(type, body);
        break;
      case F.REC.VERIFY:
        break;
      case F.REC.HVM_CONTEXT:
      case F.REC.HVM_PARAMS:
      case F.REC.TOOLSTACK:
      case F.REC.CHECKPOINT:
      case F.REC.CHECKPOINT_DIRTY_PFN_LIST:
        throw damaged(`a libxc record of type ${type} has no place in a saved PV domain`);
      default:
        if (type < F.REC_OPTIONAL) throw damaged(`unknown libxc record ${type}`);
    }
  }
}

function readPages(body: Uint8Array, pfns: number, handler: ImageHandler): void {
  if (body.length < 8) throw damaged("a record of pages is cut off");
  const d = viewOf(body);
  const n = d.getUint32(0, true);
  if (n === 0 || n * 8 > body.length - 8) throw damaged(`a record of pages for ${n} frames with ${body.length} bytes`);
  let at = 8 + n * 8;
  for (let i = 0; i < n; i++) {
    const pfn = d.getUint32(8 + i * 8, true);
    const hi = d.getUint32(12 + i * 8, true);
    const type = hi >>> 28;
    if (pfn >= pfns || (hi & 0x0fffffff) !== 0) throw damaged(`a page at frame ${pfn}, beyond the domain's ${pfns}`);
    if (F.hasContent(type)) {
      if (at + 4096 > body.length) throw damaged(`the content of frame ${pfn} is cut off`);
      handler.page(pfn, type, body.subarray(at, at + 4096));
      at += 4096;
    } else if (type === F.PT_XTAB || type === F.PT_BROKEN) handler.absent(pfn);
    else if (type === F.PT_XALLOC) handler.page(pfn, F.PT_NOTAB, null);
    else throw damaged(`frame ${pfn} is of type ${type}`);
  }
  if (at !== body.length) throw damaged(`${body.length - at} bytes too many in a record of pages`);
}
