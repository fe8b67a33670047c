/** What event channels and grants are for, as XenStore and the ABI tell it. */
import type { Source } from "./source.js";

/** VIRQs by number (public/xen.h). */
const VIRQS = [
  "timer",
  "debug",
  "console",
  "dom_exc",
  "tbuf",
  "",
  "debugger",
  "xenoprof",
  "con_ring",
  "pcpu_state",
  "mem_event",
  "argo",
  "enomem",
  "xenpmu",
];
export function virqName(n: number): string {
  return VIRQS[n] || (n >= 16 && n < 24 ? `arch_${n - 16}` : `virq ${n}`);
}

export interface Uses {
  readonly ports: ReadonlyMap<number, string>;
  readonly refs: ReadonlyMap<number, string>;
}

/** References that the toolstack seeds (GNTTAB_RESERVED_*). */
const RESERVED = ["console", "store"] as const;

export function usesOf({ xs }: Source, domid: number): Uses {
  const ports = new Map<number, string>();
  const refs = new Map<number, string>(RESERVED.map((use, ref) => [ref, use]));
  const base = `/local/domain/${domid}`;
  const port = (path: string, use: string): void => {
    const text = xs.read(path);
    if (text !== null && /^\d+$/.test(text)) ports.set(Number(text), use);
  };
  port(`${base}/console/port`, "console");
  port(`${base}/store/port`, "store");
  for (const kind of xs.list(`${base}/device`) ?? []) {
    for (const id of xs.list(`${base}/device/${kind}`) ?? []) {
      if (kind === "suspend") port(`${base}/device/suspend/${id}`, "suspend");
      if (!/^\d+$/.test(id)) continue;
      const device = `${base}/device/${kind}/${id}`;
      const visit = (dir: string, label: string): void => {
        for (const leaf of xs.list(dir) ?? []) {
          const path = `${dir}/${leaf}`;
          if (leaf.startsWith("queue-")) visit(path, `${label} ${leaf}`);
          else if (leaf.startsWith("event-channel")) port(path, `${label}${leaf.slice(13).replace("-", " ")}`);
          else if (/(^|-)ring-(page-)?ref\d*$/.test(leaf)) {
            const text = xs.read(path);
            if (text !== null && /^\d+$/.test(text)) refs.set(Number(text), `${label} ${leaf.replace("-ref", "")}`);
          }
        }
      };
      visit(device, `${kind}/${id}`);
    }
  }
  return { ports, refs };
}
