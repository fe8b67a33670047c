/**
 * XenStore's view of the machine: ring pages are held as writable pages of their domain for as long as they are mapped, event channels
 * are bound by the domain that owns the service. Trace records of kind "xenstore" and the log come from here too.
 */
import type { Domain } from "../hypervisor/domain.js";
import { PGT_writable_page } from "../hypervisor/memory/frame-table.js";
import type { Xen } from "../hypervisor/xen.js";
import { opName, tracePayload } from "./connection.js";
import { ringErrorText, XenStoreServer, type DomainHost, type ServerOptions } from "./server.js";

export function xenHost(owner: Domain): DomainHost {
  const { xen } = owner;
  const alive = (domid: number): Domain | undefined => {
    const d = xen.domains.get(domid);
    return d === undefined || d.dying || d === owner ? undefined : d;
  };
  return {
    exists: (domid) => alive(domid) !== undefined,
    connect: (domid, gfn, port, onEvent) => {
      const d = alive(domid);
      if (d === undefined) return null;
      const mfn = d.mm.gfnToMfn(gfn);
      const { frames } = xen;
      if (frames.getPageAndType(mfn, d.mm.id, PGT_writable_page) !== 0) return null;
      const local = owner.events.bindInterdomainHost(d, port, onEvent);
      if (local < 0) {
        frames.putPageAndType(mfn);
        return null;
      }
      let open = true;
      return {
        mem: xen.mem,
        page: mfn * 4096,
        notify: () => {
          if (open) owner.events.sendHost(local);
        },
        close: () => {
          if (!open) return;
          open = false;
          owner.events.closeHost(local);
          frames.putPageAndType(mfn);
        },
      };
    },
  };
}

/** A XenStore service for a machine, owned by `owner` (dom0), which hears of domains' ends by itself. */
export function createXenStore(
  owner: Domain,
  options: Omit<ServerOptions, "host" | "ownerDomid"> = {},
): XenStoreServer {
  const xen: Xen = owner.xen;
  const server = new XenStoreServer({ ...options, host: xenHost(owner), ownerDomid: owner.domid });
  server.onTrace = (c, way, type, txId, payload) => {
    if (!xen.trace.on) return;
    xen.trace.emit({
      kind: "xenstore",
      time: xen.clock.now(),
      domid: c.domid,
      vcpu: -1,
      name: opName(type),
      args: { way, client: c.label, tx: txId, data: tracePayload(payload) },
    });
  };
  server.onConnectionLost = (c, error) => xen.console.log(`xenstore: ${c.label}: ${ringErrorText(error)}`);
  server.onPrint = (text) => xen.console.log(`xenstore: ${text}`);
  server.onInternalError = (e) =>
    xen.console.log(`xenstore: internal error: ${e instanceof Error ? (e.stack ?? e.message) : String(e)}`);
  xen.onShutdown((d) => server.domainShutDown(d.domid));
  return server;
}
