/** Memory in three layers: pages of a domain by type, frames of the machine by owner, one frame, and the walk from an address to a frame. */
import { F_ALLOCATED, F_PINNED, F_VALIDATED, F_XENHEAP } from "../hypervisor/memory/frame-table.js";
import type { Xen } from "../hypervisor/xen.js";
import {
  InspectError,
  type FrameView,
  type MachineMapView,
  type MemoryMapView,
  type WalkStep,
  type WalkView,
} from "./api.js";
import { hex64, hexBytes, hexVa, parseVa } from "./hex.js";
import { domainOf, vcpuOf, type Source } from "./source.js";

const TYPES = ["none", "L1 table", "L2 table", "L3 table", "L4 table", "descriptors", "shared", "writable"];
const PINNED = 8;
const GRANTED = 16;

/** Adds to a list of (value, length) pairs. */
function run(list: number[], value: number): void {
  if (list.length > 0 && list[list.length - 2] === value) list[list.length - 1] = (list[list.length - 1] as number) + 1;
  else list.push(value, 1);
}

export function memoryMap(source: Source, domid: number): MemoryMapView {
  const d = domainOf(source, domid);
  const { frames } = source.xen;
  const { p2m, p2mLength, id } = d.mm;
  const granted = new Set<number>();
  const gt = d.grants;
  for (let ref = 0; ref < gt.pin.length; ref++) if (gt.pin[ref] !== 0) granted.add(gt.actMfn[ref] as number);
  const types: number[] = [];
  const histogram: Record<string, number> = {};
  for (let pfn = 0; pfn < p2mLength; pfn++) {
    const mfn = p2m[pfn] as number;
    let code = -1;
    if (mfn >= 0 && frames.owner[mfn] === id) {
      code = frames.tcount[mfn] === 0 ? 0 : (frames.type[mfn] as number);
      if (((frames.flags[mfn] as number) & F_PINNED) !== 0) code += PINNED;
      if (granted.has(mfn)) code += GRANTED;
    }
    run(types, code);
    histogram[code] = (histogram[code] ?? 0) + 1;
  }
  return { domid, pages: p2mLength, types, histogram };
}

export function machineMap({ xen }: Source): MachineMapView {
  const { frames } = xen;
  const owners: number[] = [];
  const domids = new Map<number, number>();
  // Alias frames (machine/memory.ts) are no memory of their own.
  const limit = xen.mem.frames;
  for (let mfn = frames.first; mfn < limit; mfn++) {
    const id = frames.owner[mfn] as number;
    let domid = domids.get(id);
    if (domid === undefined) domids.set(id, (domid = frames.ownerDomid(mfn)));
    run(owners, domid);
  }
  return { first: frames.first, limit, free: frames.freeFrames, owners };
}

function typeName(xen: Xen, mfn: number): string {
  const { frames } = xen;
  if (frames.tcount[mfn] === 0) return "none";
  return TYPES[frames.type[mfn] as number] ?? "";
}

const pfnOf = (xen: Xen, mfn: number): number => (xen.frames.valid(mfn) ? xen.frames.m2p.get(mfn) : -1);

export function frameView({ xen }: Source, mfn: number): FrameView {
  const { frames, mem } = xen;
  if (!Number.isInteger(mfn) || !frames.valid(mfn)) {
    throw new InspectError("invalid", `machine frame ${mfn} is no memory of a domain`);
  }
  const fl = frames.flags[mfn] as number;
  const flags = (
    [
      [F_ALLOCATED, "allocated"],
      [F_XENHEAP, "xenheap"],
      [F_PINNED, "pinned"],
      [F_VALIDATED, "validated"],
    ] as const
  )
    .filter(([bit]) => (fl & bit) !== 0)
    .map(([, name]) => name);
  return {
    mfn,
    pfn: pfnOf(xen, mfn),
    owner: frames.ownerDomid(mfn),
    type: typeName(xen, mfn),
    typeCount: frames.tcount[mfn] as number,
    refs: frames.ref[mfn] as number,
    flags,
    code: mem.hasCode(mfn),
    bytes: hexBytes(mem.read(mfn * 4096, 4096)),
  };
}

export function pageView(source: Source, domid: number, pfn: number): FrameView {
  const mfn = domainOf(source, domid).mm.mfnOf(pfn);
  if (mfn < 0) throw new InspectError("not-found", `domain ${domid} has nothing at page 0x${pfn.toString(16)}`);
  return frameView(source, mfn);
}

/** Bits of a page-table entry (SDM vol. 3, 4.5). */
const BITS = ["P", "RW", "US", "PWT", "PCD", "A", "D", "PS", "G"] as const;

/** The walk the processor makes, from the root down. */
export function walkView(
  source: Source,
  domid: number,
  vcpu: number,
  text: string,
  space: "kernel" | "user",
): WalkView {
  const v = vcpuOf(source, domid, vcpu);
  const { xen } = source;
  const { mem } = xen;
  const va = parseVa(text);
  const steps: WalkStep[] = [];
  const view = (why: string, target?: WalkView["target"]): WalkView => ({
    va: hexVa(va),
    space,
    steps,
    why,
    ...(target === undefined ? {} : { target }),
  });
  let table = space === "kernel" ? v.mm.kernelRoot : v.mm.userRoot;
  if (table === 0) return view(`there is no ${space} page table`);
  const lo = va >>> 0;
  const hi = Math.floor(va / 4294967296) | 0;
  const indices = [(hi >>> 7) & 511, ((hi & 0x7f) << 2) | (lo >>> 30), (lo >>> 21) & 511, (lo >>> 12) & 511];
  for (let i = 0; i < 4; i++) {
    const level = (4 - i) as WalkStep["level"];
    const index = indices[i] as number;
    const at = table * 4096 + index * 8;
    const elo = mem.r32(at);
    const ehi = mem.r32(at + 4);
    const frame = Math.floor(((ehi & 0xfffff) * 4294967296 + ((elo & 0xfffff000) >>> 0)) / 4096);
    const present = (elo & 1) !== 0;
    const superpage = present && (elo & 0x80) !== 0 && (level === 2 || level === 3);
    steps.push({
      level,
      tableMfn: table,
      tablePfn: pfnOf(xen, table),
      index,
      entry: hex64(elo, ehi),
      flags: [
        ...BITS.filter((name, bit) => (elo & (1 << bit)) !== 0 && (name !== "PS" || level > 1)),
        ...((ehi & 0x80000000) !== 0 ? ["NX"] : []),
      ],
      present,
      superpage,
      mfn: frame,
    });
    if (!present) return view(`the level ${level} entry is not present: a page fault`);
    if (!xen.frames.valid(frame)) return view(`machine frame ${frame} is not this machine's memory`);
    if (level === 1 || superpage) {
      const size = level === 1 ? 4096 : level === 2 ? 2 ** 21 : 2 ** 30;
      const offset = ((va % size) + size) % size;
      const maddr = frame * 4096 + offset;
      const target = Math.floor(maddr / 4096);
      return view("", {
        maddr,
        mfn: target,
        pfn: pfnOf(xen, target),
        owner: xen.frames.ownerDomid(target),
        type: typeName(xen, target),
      });
    }
    table = frame;
  }
  return view("");
}
