/**
 * The rings between front and back ends, read from the shared pages themselves: what both sides publish there is all that either knows of the
 * other. A consumer's private index shows in the `event` field it writes when it has taken everything (RING_FINAL_CHECK_FOR_*).
 */
import { xencons_interface } from "../abi/io_console.js";
import { ringSize, sring } from "../abi/io_ring.js";
import { XENSTORE_RING_SIZE, xenstore_domain_interface } from "../abi/io_xs_wire.js";
import type { Domain } from "../hypervisor/domain.js";
import type { DeviceRings, RingView } from "./api.js";
import type { Source } from "./source.js";

const CONSOLE_IN = 1024;
const CONSOLE_OUT = 2048;
/** Bytes of an entry: blkif_request (64-bit), and the larger of netif's two forms in each ring. */
const ENTRY: Readonly<Record<string, number>> = { vbd: 112, "tx-ring": 12, "rx-ring": 8 };

function byteRing(d: Domain, mfn: number, ref: number, name: string, size: number, at: [number, number]): RingView {
  const { mem } = d.xen;
  const consumer = mem.r32(mfn * 4096 + at[0]);
  const producer = mem.r32(mfn * 4096 + at[1]);
  return { name, size, bytes: true, producer, consumer, mfn, ref };
}

function number(text: string | null): number {
  return text !== null && /^\d+$/.test(text) ? Number(text) : -1;
}

function consoleRings(s: Source, d: Domain): DeviceRings[] {
  const out: DeviceRings[] = [];
  const base = `/local/domain/${d.domid}`;
  const mfn = number(s.xs.read(`${base}/console/ring-ref`));
  if (d.mm.owns(mfn)) {
    const c = xencons_interface;
    out.push({
      domid: d.domid,
      kind: "console",
      devid: 0,
      frontState: 4,
      backState: 4,
      detail: "characters, no requests: the simplest ring there is",
      rings: [
        byteRing(d, mfn, 0, "out", CONSOLE_OUT, [c.out_cons, c.out_prod]),
        byteRing(d, mfn, 0, "in", CONSOLE_IN, [c.in_cons, c.in_prod]),
      ],
      metrics: {},
    });
  }
  const store = number(s.xs.read(`${base}/store/ring-ref`));
  if (d.mm.owns(store)) {
    const x = xenstore_domain_interface;
    out.push({
      domid: d.domid,
      kind: "store",
      devid: 0,
      frontState: 4,
      backState: 4,
      detail: "messages of XenStore's protocol",
      rings: [
        byteRing(d, store, 1, "requests", XENSTORE_RING_SIZE, [x.req_cons, x.req_prod]),
        byteRing(d, store, 1, "replies", XENSTORE_RING_SIZE, [x.rsp_cons, x.rsp_prod]),
      ],
      metrics: {},
    });
  }
  return out;
}

/** The page behind a grant reference of the domain, −1 where there is none. */
function granted(d: Domain, ref: number): number {
  const gt = d.grants;
  if (gt.destroyed || ref < 0 || ref >= gt.entries) return -1;
  const mfn = (gt.pin[ref] ?? 0) !== 0 ? (gt.actMfn[ref] as number) : gt.frameOf(ref);
  return d.mm.owns(mfn) ? mfn : -1;
}

function slotRing(d: Domain, name: string, ref: number, pages: number, entry: number): RingView | null {
  const mfn = granted(d, ref);
  if (mfn < 0) return null;
  const { mem } = d.xen;
  const r32 = (at: number): number => mem.r32(mfn * 4096 + at);
  const producer = r32(sring.req_prod);
  const rspProd = r32(sring.rsp_prod);
  const size = ringSize(pages * 4096, entry);
  // An event index is one past what was taken; a side that does not ask to be woken leaves it behind, so keep it within the ring's bounds.
  const within = (index: number, low: number, high: number): number =>
    (index - low) >>> 0 <= (high - low) >>> 0 ? index : low;
  const consumer = within((r32(sring.req_event) - 1) >>> 0, rspProd, producer);
  const seen = within((r32(sring.rsp_event) - 1) >>> 0, (producer - size) >>> 0, rspProd);
  return {
    name,
    size,
    bytes: false,
    producer,
    consumer,
    responseProducer: rspProd,
    responseConsumer: seen,
    mfn,
    ref,
  };
}

function deviceRings(s: Source, d: Domain): DeviceRings[] {
  const out: DeviceRings[] = [];
  const base = `/local/domain/${d.domid}/device`;
  for (const kind of s.xs.list(base) ?? []) {
    for (const id of s.xs.list(`${base}/${kind}`) ?? []) {
      // `device/suspend/event-channel` is no device.
      if (!/^\d+$/.test(id)) continue;
      const front = `${base}/${kind}/${id}`;
      const read = (leaf: string): string | null => s.xs.read(`${front}/${leaf}`);
      const back = read("backend");
      const rings: RingView[] = [];
      const add = (dir: string, label: string): void => {
        for (const name of kind === "vbd" ? ["ring"] : ["tx-ring", "rx-ring"]) {
          const order = Math.max(0, Math.min(4, number(read(`${dir}ring-page-order`))));
          const ref = number(read(`${dir}${name}-ref`) ?? read(`${dir}${name}-ref0`));
          const r = slotRing(
            d,
            `${label}${name.replace("-ring", "")}`,
            ref,
            2 ** order,
            ENTRY[kind] ?? ENTRY[name] ?? 8,
          );
          if (r !== null) rings.push(r);
        }
      };
      add("", "");
      for (const q of s.xs.list(front) ?? []) if (q.startsWith("queue-")) add(`${q}/`, `${q} `);
      const device = s.devices?.(d.domid).find((x) => x.kind === kind && String(x.devid) === id);
      const target = back === null ? null : (s.xs.read(`${back}/params`) ?? s.xs.read(`${back}/bridge`));
      out.push({
        domid: d.domid,
        kind,
        devid: Number(id),
        frontState: number(read("state")),
        backState: back === null ? 0 : number(s.xs.read(`${back}/state`)),
        detail: [read("mac"), back === null ? null : s.xs.read(`${back}/dev`), target]
          .filter((x) => x !== null && x !== "")
          .join(" · "),
        rings,
        metrics: device === undefined ? {} : { ...device.metrics },
      });
    }
  }
  return out;
}

export function ringsView(s: Source): DeviceRings[] {
  return [...s.xen.domains.values()]
    .filter((d) => !d.native && !d.dying)
    .sort((a, b) => a.domid - b.domid)
    .flatMap((d) => [...consoleRings(s, d), ...deviceRings(s, d)]);
}
