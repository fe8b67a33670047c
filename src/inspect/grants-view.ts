/** A domain's grant table: what it offers, who uses it, and what it has mapped of others. */
import {
  GNTMAP_readonly,
  GTF_accept_transfer,
  GTF_invalid,
  GTF_permit_access,
  GTF_reading,
  GTF_readonly,
  GTF_sub_page,
  GTF_transitive,
  GTF_type_mask,
  GTF_writing,
} from "../abi/grant_table.js";
import type { GrantsView, GrantView } from "./api.js";
import { domainOf, type Source } from "./source.js";
import { usesOf } from "./uses.js";

const KINDS: Readonly<Record<number, string>> = {
  [GTF_invalid]: "invalid",
  [GTF_permit_access]: "permit_access",
  [GTF_accept_transfer]: "accept_transfer",
  [GTF_transitive]: "transitive",
};

export function grantsView(source: Source, domid: number, limit: number): GrantsView {
  const d = domainOf(source, domid);
  const gt = d.grants;
  const { mem, frames } = d.xen;
  const { refs } = usesOf(source, domid);
  const grants: GrantView[] = [];
  let more = 0;
  const entries = gt.destroyed ? 0 : gt.entries;
  for (let ref = 0; ref < entries; ref++) {
    const flags = mem.r16(gt.entryAt(ref));
    const pin = gt.pin[ref] ?? 0;
    const type = flags & GTF_type_mask;
    if (type === GTF_invalid && pin === 0) continue;
    if (grants.length >= limit) {
      more++;
      continue;
    }
    const mfn = pin !== 0 ? (gt.actMfn[ref] as number) : gt.frameOf(ref);
    const at = gt.statusAt(ref);
    const status = at < 0 ? 0 : mem.r16(at);
    grants.push({
      ref,
      kind: KINDS[type] ?? "",
      domid: mem.r16(gt.entryAt(ref) + 2),
      readonly: (flags & GTF_readonly) !== 0,
      subPage: gt.version === 2 && (flags & GTF_sub_page) !== 0,
      mfn,
      pfn: frames.valid(mfn) ? frames.m2p.get(mfn) : -1,
      hostWrite: pin & 0xff,
      hostRead: (pin >>> 8) & 0xff,
      deviceWrite: (pin >>> 16) & 0xff,
      deviceRead: pin >>> 24,
      reading: (status & GTF_reading) !== 0,
      writing: (status & GTF_writing) !== 0,
      use: refs.get(ref) ?? "",
    });
  }
  return {
    domid,
    version: gt.version,
    frames: gt.frames.length,
    maxFrames: gt.maxFrames,
    entries,
    grants,
    more,
    mapped: gt
      .mappings(limit)
      .map((m) => ({ handle: m.handle, owner: m.domid, ref: m.ref, readonly: (m.flags & GNTMAP_readonly) !== 0 })),
  };
}
