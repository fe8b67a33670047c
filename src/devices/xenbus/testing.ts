/**
 * A front end for tests, played by hand: a domain without vCPUs whose pages, grants, ports and nodes the test writes itself, so that it can
 * be as hostile as it likes.
 */
import { GTF_permit_access, GTF_readonly } from "../../abi/grant_table.js";
import { sring } from "../../abi/io_ring.js";
import type { Domain } from "../../hypervisor/domain.js";
import type { XenStoreClient } from "../../xenstore/client.js";
import { domainPath } from "../../xenstore/paths.js";
import { DomainDevices } from "./domain-devices.js";
import { SharedPages } from "./ring.js";

export interface TestHost {
  readonly dom0: Domain;
  readonly xs: XenStoreClient;
}

const PAGES = 600;
const FIRST_REF = 8;

export class TestFront {
  readonly domain: Domain;
  readonly devices: DomainDevices;
  private nextPfn = 0;
  private nextRef = FIRST_REF;
  /** Events the back end sent. */
  events = 0;

  constructor(readonly host: TestHost) {
    const { xen } = host.dom0;
    this.domain = xen.createDomain({
      uuid: "00000000-0000-0000-0000-0000000000aa",
      name: "front",
      maxVcpus: 1,
      maxPages: PAGES,
    });
    if (this.domain.mm.populate(0, PAGES) < 0) throw new Error("no memory for the test's front end");
    this.devices = new DomainDevices(host, this.domain);
    host.xs.write(`${domainPath(this.domain.domid)}/device`, "");
  }

  /** Let callbacks and watches run (back ends live between grains). */
  settle(): void {
    for (let i = 0; i < 8; i++) this.host.dom0.xen.runSlice(0);
  }
  /** The same with the host's own work: until `done`. */
  async until(done: () => boolean): Promise<void> {
    for (let i = 0; i < 2000; i++) {
      this.settle();
      if (done()) return;
      await Promise.resolve();
    }
    throw new Error("never came about");
  }

  page(): { mfn: number; at: number } {
    const mfn = this.domain.mm.mfnOf(this.nextPfn++);
    this.host.dom0.xen.mem.zeroFrame(mfn);
    return { mfn, at: mfn * 4096 };
  }
  /** Grant a page to the back end's domain. */
  grant(mfn: number, readOnly = false, to = 0): number {
    const ref = this.nextRef++;
    this.domain.grants.seed(ref, to, mfn);
    if (readOnly) this.host.dom0.xen.mem.w16(this.domain.grants.entryAt(ref), GTF_permit_access | GTF_readonly);
    return ref;
  }
  /** Take a grant back; false where it is still mapped. */
  revoke(ref: number): boolean {
    if (this.domain.grants.pin[ref] !== 0) return false;
    this.host.dom0.xen.mem.w16(this.domain.grants.entryAt(ref), 0);
    return true;
  }
  port(): number {
    return this.domain.events.allocUnbound(this.host.dom0.domid);
  }
  kick(port: number): void {
    this.domain.events.send(port);
    this.settle();
  }
}

/** The front end's side of a shared ring. */
export class TestRing {
  readonly pages: SharedPages;
  readonly refs: number[];
  prod = 0;
  cons = 0;

  constructor(
    front: TestFront,
    pages: number,
    private readonly entrySize: number,
    readonly size: number,
  ) {
    const frames = Array.from({ length: pages }, () => front.page().mfn);
    this.pages = new SharedPages(front.host.dom0.xen.mem, frames);
    this.refs = frames.map((mfn) => front.grant(mfn));
    this.pages.w32(sring.req_event, 1);
    this.pages.w32(sring.rsp_event, 1);
  }
  put(request: Uint8Array): void {
    this.pages.write(sring.ring + (this.prod & (this.size - 1)) * this.entrySize, request);
    this.prod = (this.prod + 1) >>> 0;
    this.pages.w32(sring.req_prod, this.prod);
  }
  get(responseSize: number): Uint8Array | null {
    if (this.cons === this.pages.r32(sring.rsp_prod)) return null;
    const out = new Uint8Array(responseSize);
    this.pages.read(sring.ring + (this.cons & (this.size - 1)) * this.entrySize, out);
    this.cons = (this.cons + 1) >>> 0;
    return out;
  }
}
