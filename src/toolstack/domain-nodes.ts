/**
 * What the toolstack says of a PV domain in XenStore: the nodes libxl writes, in its order and with its permissions (compare with
 * transcripts of real Xen), and their removal when the domain is destroyed.
 */
import type { StoreAccess, XenStoreClient } from "../xenstore/client.js";
import { domainPath, parentOf } from "../xenstore/paths.js";

export interface DomainFacts {
  readonly domid: number;
  readonly uuid: string;
  readonly name: string;
  readonly vcpus: number;
  /** vCPUs online at the start; default all. */
  readonly vcpusOnline?: number;
  /** KiB the domain may grow to, and has. */
  readonly maxMemKiB: number;
  readonly targetKiB: number;
  readonly store: { readonly mfn: number; readonly port: number };
  readonly console: { readonly mfn: number; readonly port: number };
  readonly ostype?: string;
  readonly kernel?: string;
  readonly ramdisk?: string;
  readonly cmdline?: string;
  /** Wall clock at the start, in seconds from the epoch. */
  readonly startTime: number;
}

/** Nodes that belong to the host, once. */
export function writeHostNodes(xs: XenStoreClient, poolName = "Pool-0"): void {
  xs.transaction((t) => {
    t.write("/local/domain/0/domid", 0);
    t.write("/local/domain/0/name", "Domain-0");
    t.write("/local/pool/0/name", poolName);
  });
}

/** A node with permissions of its own. */
function node(t: StoreAccess, path: string, perms: readonly string[]): void {
  t.write(path, "");
  t.setPerms(path, perms);
}

/** Everything about a new domain but its devices; the domain is then introduced. */
export function writeDomainNodes(xs: XenStoreClient, d: DomainFacts): void {
  const dom = domainPath(d.domid);
  const vm = `/vm/${d.uuid}`;
  const libxl = `/libxl/${d.domid}`;
  const readable = ["n0", `r${d.domid}`];
  const own = [`n${d.domid}`];
  xs.transaction((t) => {
    t.rm(dom);
    node(t, dom, readable);
    t.rm(vm);
    node(t, vm, readable);
    t.rm(libxl);
    node(t, libxl, ["n0"]);
    node(t, `${libxl}/device`, ["n0"]);
    t.write(`${dom}/vm`, vm);
    t.write(`${dom}/name`, d.name);
    t.write(`${vm}/name`, d.name);
    for (const n of ["cpu", "memory", "device"]) node(t, `${dom}/${n}`, readable);
    node(t, `${dom}/device/suspend/event-channel`, own);
    node(t, `${dom}/control`, readable);
    for (const n of ["shutdown", "feature-poweroff", "feature-reboot", "feature-suspend", "sysrq"])
      node(t, `${dom}/control/${n}`, own);
    for (const n of ["data", "drivers", "feature", "attr", "error"]) node(t, `${dom}/${n}`, own);
    t.write(`${vm}/uuid`, d.uuid);
    t.write(`${vm}/name`, d.name);
    t.write(`${dom}/control/platform-feature-multiprocessor-suspend`, 1);
    t.write(`${dom}/control/platform-feature-xs_reset_watches`, 1);
    t.write(`${libxl}/type`, "pv");
  });
  xs.transaction((t) => {
    t.write(`${dom}/memory/static-max`, d.maxMemKiB);
    t.write(`${dom}/memory/target`, d.targetKiB);
    t.write(`${dom}/memory/videoram`, 0);
    t.write(`${dom}/domid`, d.domid);
    t.write(`${dom}/store/port`, d.store.port);
    t.write(`${dom}/store/ring-ref`, d.store.mfn);
    for (let i = 0; i < d.vcpus; i++)
      t.write(`${dom}/cpu/${i}/availability`, i < (d.vcpusOnline ?? d.vcpus) ? "online" : "offline");
    t.write(`${vm}/image/ostype`, d.ostype ?? "linux");
    if (d.kernel !== undefined) t.write(`${vm}/image/kernel`, d.kernel);
    t.write(`${vm}/start_time`, d.startTime.toFixed(2));
    if (d.ramdisk !== undefined) t.write(`${vm}/image/ramdisk`, d.ramdisk);
    if (d.cmdline !== undefined) t.write(`${vm}/image/cmdline`, d.cmdline);
  });
}

/** The first console: its ring is known from the start info page, so that it has no XenBus handshake. */
export function writeConsoleNodes(xs: XenStoreClient, d: DomainFacts, tty = ""): void {
  const front = `${domainPath(d.domid)}/console`;
  const back = `/local/domain/0/backend/console/${d.domid}/0`;
  const libxl = `/libxl/${d.domid}/device/console/0`;
  const readable = ["n0", `r${d.domid}`];
  xs.transaction((t) => {
    t.write(`${libxl}/frontend`, front);
    t.write(`${libxl}/backend`, back);
    node(t, front, readable);
    t.write(`${front}/backend`, back);
    t.write(`${front}/backend-id`, 0);
    t.setPerms(`${front}/backend-id`, [`n${d.domid}`, "r0"]);
    t.write(`${front}/limit`, 1048576);
    t.write(`${front}/type`, "xenconsoled");
    t.write(`${front}/output`, "pty");
    t.write(`${front}/tty`, tty);
    t.write(`${front}/port`, d.console.port);
    t.write(`${front}/ring-ref`, d.console.mfn);
    node(t, back, readable);
    t.write(`${back}/frontend`, front);
    for (const at of [back, libxl]) {
      t.write(`${at}/frontend-id`, d.domid);
      t.write(`${at}/online`, 1);
      t.write(`${at}/state`, 1);
      t.write(`${at}/protocol`, "vt100");
    }
  });
}

/** The domain is destroyed: nothing of it stays, nor empty directories of its back ends. */
export function removeDomainNodes(xs: XenStoreClient, domid: number, uuid: string): void {
  xs.transaction((t) => {
    for (const kind of t.list("/local/domain/0/backend") ?? []) {
      const path = `/local/domain/0/backend/${kind}/${domid}`;
      if (!t.exists(path)) continue;
      t.rm(path);
      for (let p = parentOf(path); p !== "/local/domain/0" && t.list(p)?.length === 0; p = parentOf(p)) t.rm(p);
    }
    // A copy of it that was restored on this host has the same UUID.
    const shared = (t.list("/local/domain") ?? []).some(
      (id) => id !== String(domid) && t.read(`/local/domain/${id}/vm`) === `/vm/${uuid}`,
    );
    if (!shared) t.rm(`/vm/${uuid}`);
    t.rm(domainPath(domid));
    t.rm(`/libxl/${domid}`);
  });
}
