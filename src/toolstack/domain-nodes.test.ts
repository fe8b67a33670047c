import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { SHUTDOWN_poweroff } from "../abi/sched.js";
import { XenStoreClient } from "../xenstore/client.js";
import { XenStoreServer } from "../xenstore/server.js";
import {
  removeDomainNodes,
  writeConsoleNodes,
  writeDomainNodes,
  writeHostNodes,
  type DomainFacts,
} from "./domain-nodes.js";
import { Machine } from "./machine.js";

/** As `xenstore-ls -fp`. */
function list(xs: XenStoreClient, path = ""): string[] {
  return (xs.list(path === "" ? "/" : path) ?? []).flatMap((c) => {
    const p = `${path}/${c}`;
    return [`${p} = "${xs.read(p)}"   (${xs.getPerms(p).join(",")})`, ...list(xs, p)];
  });
}

const facts: DomainFacts = {
  domid: 1,
  uuid: "11111111-2222-3333-4444-555555555555",
  name: "golden1",
  vcpus: 2,
  maxMemKiB: 327680,
  targetKiB: 262144,
  store: { mfn: 1561601, port: 1 },
  console: { mfn: 1561602, port: 2 },
  kernel: "/lab/vmlinuz-cloud",
  ramdisk: "/lab/initrd2.gz",
  cmdline: "console=hvc0 demo.tick",
  startTime: 1795343733.3,
};

/** What real Xen 4.17 has for this domain just created, but for its disk, its network and QEMU's nodes. */
const GOLDEN = `
/tool = ""   (n0)
/tool/xenstored = ""   (n0)
/local = ""   (n0)
/local/domain = ""   (n0)
/local/domain/0 = ""   (n0)
/local/domain/0/domid = "0"   (n0)
/local/domain/0/name = "Domain-0"   (n0)
/local/domain/0/backend = ""   (n0)
/local/domain/0/backend/console = ""   (n0)
/local/domain/0/backend/console/1 = ""   (n0)
/local/domain/0/backend/console/1/0 = ""   (n0,r1)
/local/domain/0/backend/console/1/0/frontend = "/local/domain/1/console"   (n0,r1)
/local/domain/0/backend/console/1/0/frontend-id = "1"   (n0,r1)
/local/domain/0/backend/console/1/0/online = "1"   (n0,r1)
/local/domain/0/backend/console/1/0/state = "1"   (n0,r1)
/local/domain/0/backend/console/1/0/protocol = "vt100"   (n0,r1)
/local/domain/1 = ""   (n0,r1)
/local/domain/1/vm = "/vm/11111111-2222-3333-4444-555555555555"   (n0,r1)
/local/domain/1/name = "golden1"   (n0,r1)
/local/domain/1/cpu = ""   (n0,r1)
/local/domain/1/cpu/0 = ""   (n0,r1)
/local/domain/1/cpu/0/availability = "online"   (n0,r1)
/local/domain/1/cpu/1 = ""   (n0,r1)
/local/domain/1/cpu/1/availability = "online"   (n0,r1)
/local/domain/1/memory = ""   (n0,r1)
/local/domain/1/memory/static-max = "327680"   (n0,r1)
/local/domain/1/memory/target = "262144"   (n0,r1)
/local/domain/1/memory/videoram = "0"   (n0,r1)
/local/domain/1/device = ""   (n0,r1)
/local/domain/1/device/suspend = ""   (n0,r1)
/local/domain/1/device/suspend/event-channel = ""   (n1)
/local/domain/1/control = ""   (n0,r1)
/local/domain/1/control/shutdown = ""   (n1)
/local/domain/1/control/feature-poweroff = ""   (n1)
/local/domain/1/control/feature-reboot = ""   (n1)
/local/domain/1/control/feature-suspend = ""   (n1)
/local/domain/1/control/sysrq = ""   (n1)
/local/domain/1/control/platform-feature-multiprocessor-suspend = "1"   (n0,r1)
/local/domain/1/control/platform-feature-xs_reset_watches = "1"   (n0,r1)
/local/domain/1/data = ""   (n1)
/local/domain/1/drivers = ""   (n1)
/local/domain/1/feature = ""   (n1)
/local/domain/1/attr = ""   (n1)
/local/domain/1/error = ""   (n1)
/local/domain/1/domid = "1"   (n0,r1)
/local/domain/1/store = ""   (n0,r1)
/local/domain/1/store/port = "1"   (n0,r1)
/local/domain/1/store/ring-ref = "1561601"   (n0,r1)
/local/domain/1/console = ""   (n0,r1)
/local/domain/1/console/backend = "/local/domain/0/backend/console/1/0"   (n0,r1)
/local/domain/1/console/backend-id = "0"   (n1,r0)
/local/domain/1/console/limit = "1048576"   (n0,r1)
/local/domain/1/console/type = "xenconsoled"   (n0,r1)
/local/domain/1/console/output = "pty"   (n0,r1)
/local/domain/1/console/tty = "/dev/pts/0"   (n0,r1)
/local/domain/1/console/port = "2"   (n0,r1)
/local/domain/1/console/ring-ref = "1561602"   (n0,r1)
/local/pool = ""   (n0)
/local/pool/0 = ""   (n0)
/local/pool/0/name = "Pool-0"   (n0)
/vm = ""   (n0)
/vm/11111111-2222-3333-4444-555555555555 = ""   (n0,r1)
/vm/11111111-2222-3333-4444-555555555555/name = "golden1"   (n0,r1)
/vm/11111111-2222-3333-4444-555555555555/uuid = "11111111-2222-3333-4444-555555555555"   (n0,r1)
/vm/11111111-2222-3333-4444-555555555555/image = ""   (n0,r1)
/vm/11111111-2222-3333-4444-555555555555/image/ostype = "linux"   (n0,r1)
/vm/11111111-2222-3333-4444-555555555555/image/kernel = "/lab/vmlinuz-cloud"   (n0,r1)
/vm/11111111-2222-3333-4444-555555555555/image/ramdisk = "/lab/initrd2.gz"   (n0,r1)
/vm/11111111-2222-3333-4444-555555555555/image/cmdline = "console=hvc0 demo.tick"   (n0,r1)
/vm/11111111-2222-3333-4444-555555555555/start_time = "1795343733.30"   (n0,r1)
/libxl = ""   (n0)
/libxl/1 = ""   (n0)
/libxl/1/device = ""   (n0)
/libxl/1/device/console = ""   (n0)
/libxl/1/device/console/0 = ""   (n0)
/libxl/1/device/console/0/frontend = "/local/domain/1/console"   (n0)
/libxl/1/device/console/0/backend = "/local/domain/0/backend/console/1/0"   (n0)
/libxl/1/device/console/0/frontend-id = "1"   (n0)
/libxl/1/device/console/0/online = "1"   (n0)
/libxl/1/device/console/0/state = "1"   (n0)
/libxl/1/device/console/0/protocol = "vt100"   (n0)
/libxl/1/type = "pv"   (n0)
/libxl/1/dm-version = "qemu_xen"   (n0)
`
  .trim()
  .split("\n")
  // There is no device model here.
  .filter((l) => !l.includes("dm-version"));

describe("the nodes of a domain", () => {
  it("are those of real Xen: names, values, permissions and order", () => {
    const xs = new XenStoreClient(new XenStoreServer(), (fn) => fn());
    writeHostNodes(xs);
    writeDomainNodes(xs, facts);
    writeConsoleNodes(xs, facts, "/dev/pts/0");
    expect(list(xs)).toEqual(GOLDEN);
  });
  it("go without a trace, and leave another domain's alone", () => {
    const xs = new XenStoreClient(new XenStoreServer(), (fn) => fn());
    writeHostNodes(xs);
    const before = list(xs);
    writeDomainNodes(xs, facts);
    writeConsoleNodes(xs, facts);
    const other = { ...facts, domid: 2, uuid: "22222222-2222-3333-4444-555555555555" };
    writeDomainNodes(xs, other);
    writeConsoleNodes(xs, other);
    removeDomainNodes(xs, 1, facts.uuid);
    expect(list(xs).filter((l) => /11111111|\/(domain|libxl|console)\/1\b/.test(l))).toEqual([]);
    expect(xs.read("/local/domain/0/backend/console/2/0/frontend-id")).toBe("2");
    removeDomainNodes(xs, 2, other.uuid);
    expect(list(xs).filter((l) => !/^\/(vm|libxl) = /.test(l))).toEqual(before);
  });
});

describe("a machine's XenStore", () => {
  const kernel = readFileSync(new URL("../../guests/images/console.elf", import.meta.url));
  it("knows a domain from its creation to its end, and tells of both", async () => {
    const m = new Machine({ memoryMiB: 32 });
    const frames = m.xen.frames.freeFrames;
    const events: string[] = [];
    for (const w of ["@introduceDomain", "@releaseDomain"]) m.xs.watch(w, (p) => events.push(p));
    m.runSlice(1);
    events.length = 0;
    const d = await m.createDomain({ kernel, memoryMiB: 8, name: "one" });
    const id = d.domain.domid;
    expect(m.xenstore.isIntroduced(id)).toBe(true);
    expect(m.xs.read(`/local/domain/${id}/name`)).toBe("one");
    d.domain.shutdown(SHUTDOWN_poweroff);
    m.runSlice(1);
    expect(events).toEqual(["@introduceDomain", "@releaseDomain"]);
    d.destroy();
    m.runSlice(1);
    expect(events).toEqual(["@introduceDomain", "@releaseDomain", "@releaseDomain"]);
    expect(m.xenstore.isIntroduced(id)).toBe(false);
    expect(m.xs.list(`/local/domain`)).toEqual(["0"]);
    expect(m.xenstore.store.check()).toEqual([]);
    expect(m.xen.frames.freeFrames).toBe(frames);
    m.xen.frames.audit();
  });
  it("asks a guest to shut down through control/shutdown", async () => {
    const m = new Machine({ memoryMiB: 32 });
    const d = await m.createDomain({ kernel, memoryMiB: 8 });
    d.requestShutdown("reboot");
    expect(m.xs.read(`/local/domain/${d.domain.domid}/control/shutdown`)).toBe("reboot");
  });
  it("refuses pages and ports that are not the domain's", async () => {
    const m = new Machine({ memoryMiB: 32 });
    const d = await m.createDomain({ kernel, memoryMiB: 8 });
    const id = d.domain.domid;
    const mfn = Number(m.xs.read(`/local/domain/${id}/store/ring-ref`));
    const port = d.domain.events.allocUnbound(0);
    m.xs.release(id);
    for (const bad of [-1, 0, 1, 1e15, m.xen.frames.limit - 1])
      expect(() => m.xs.introduce(id, bad, port)).toThrow("EINVAL");
    expect(() => m.xs.introduce(id, mfn, 77)).toThrow("EINVAL");
    m.xs.introduce(id, mfn, port);
    d.destroy();
    m.xen.frames.audit();
  });
  it("is in the trace when that is on", async () => {
    const m = new Machine({ memoryMiB: 32 });
    const seen: string[] = [];
    m.xen.trace.add((r) => {
      if (r.kind === "xenstore") seen.push(`${String(r.args["way"])} ${r.name} ${String(r.args["data"])}`);
    });
    m.xs.write("/a", "v");
    expect(seen).toEqual(["in WRITE /a v", "out WRITE OK "]);
  });
});
