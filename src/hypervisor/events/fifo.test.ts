import { beforeEach, describe, expect, it } from "vitest";
import { EINVAL, ENOENT, ENOSPC, EOPNOTSUPP } from "../../abi/errno.js";
import {
  EVTCHN_FIFO_BUSY,
  EVTCHN_FIFO_LINK_MASK,
  EVTCHN_FIFO_LINKED,
  EVTCHN_FIFO_MASKED,
  EVTCHN_FIFO_PENDING,
  EVTCHN_FIFO_PRIORITY_DEFAULT,
} from "../../abi/event_channel.js";
import type { Domain } from "../domain.js";
import { TestMachine } from "./testing.js";

const P = (1 << EVTCHN_FIFO_PENDING) >>> 0;
const M = (1 << EVTCHN_FIFO_MASKED) >>> 0;
const L = (1 << EVTCHN_FIFO_LINKED) >>> 0;
const B = (1 << EVTCHN_FIFO_BUSY) >>> 0;
const Q = EVTCHN_FIFO_PRIORITY_DEFAULT;

describe("FIFO events", () => {
  let m: TestMachine;
  let d: Domain;
  let control: number;
  let array: number;
  const word = (port: number): number => m.mem.r32(array * 4096 + port * 4);
  const setWord = (port: number, w: number): void => m.mem.w32(array * 4096 + port * 4, w);
  const head = (q: number): number => m.mem.r32(control * 4096 + 64 + 8 + 4 * q);
  const ready = (): number => m.mem.r32(control * 4096 + 64);
  /** What a guest does: take the head off a queue, clear PENDING, return the port (0: empty). */
  const consume = (q: number): number => {
    const port = head(q);
    if (port === 0) return 0;
    const w = word(port);
    const link = w & EVTCHN_FIFO_LINK_MASK;
    setWord(port, (w & ~(L | EVTCHN_FIFO_LINK_MASK | P)) >>> 0);
    m.mem.w32(control * 4096 + 64 + 8 + 4 * q, link);
    if (link === 0) m.mem.w32(control * 4096 + 64, ready() & ~(1 << q));
    return port;
  };

  beforeEach(() => {
    m = new TestMachine();
    d = m.addDomain(1, 2);
    control = m.page(1);
    array = m.page(1);
    expect(d.events.initControl(0, control, 0, 64)).toBe(0);
    expect(d.events.expandArray(array, 0)).toBe(0);
  });

  it("init_control checks vCPU, offset, alignment, frame and repetition", () => {
    const e = d.events;
    expect(e.initControl(2, control, 0, 0)).toBe(-ENOENT);
    expect(e.initControl(1, control, 0, 4096 - 71)).toBe(-EINVAL);
    expect(e.initControl(1, control, 0, 4)).toBe(-EINVAL);
    expect(e.initControl(1, 12, 0, 0)).toBe(-EINVAL);
    expect(e.initControl(1, control, 1, 0)).toBe(-EINVAL);
    expect(e.initControl(0, control, 0, 0)).toBe(-EINVAL);
    expect(e.initControl(1, m.page(1), 0, 4096 - 72)).toBe(0);
  });
  it("expand_array needs the FIFO ABI and stops at 128 pages", () => {
    const other = m.addDomain(2, 1);
    expect(other.events.expandArray(m.page(2), 0)).toBe(-EOPNOTSUPP);
    for (let i = 1; i < 128; i++) expect(d.events.expandArray(array, 0)).toBe(0);
    expect(d.events.expandArray(array, 0)).toBe(-ENOSPC);
  });
  it("the first event of a queue becomes its head, sets READY and the upcall", () => {
    const port = d.events.bindIpi(0);
    d.events.send(port);
    expect(word(port)).toBe((P | L) >>> 0);
    expect(head(Q)).toBe(port);
    expect(ready()).toBe(1 << Q);
    expect(d.vcpus[0]?.events.pending).toBe(true);
  });
  it("the next event is linked from the tail, head unchanged", () => {
    const a = d.events.bindIpi(0);
    const b = d.events.bindIpi(0);
    d.events.send(a);
    d.vcpus[0]?.events.setPendingFlag(false);
    setWord(a, (word(a) | B) >>> 0);
    d.events.send(b);
    expect(word(a)).toBe((P | L | b) >>> 0); // BUSY is cleared with it
    expect(head(Q)).toBe(a);
    expect(d.vcpus[0]?.events.pending).toBe(false);
  });
  it("events come out in the order in which they went in", () => {
    const ports = [1, 2, 3, 4, 5].map(() => d.events.bindIpi(0));
    for (const p of ports) d.events.send(p);
    expect(ports.map(() => consume(Q))).toEqual(ports);
    expect(consume(Q)).toBe(0);
    // and again, in another order
    const back = [...ports].reverse();
    for (const p of back) d.events.send(p);
    expect(back.map(() => consume(Q))).toEqual(back);
  });
  it("an event consumed as the tail starts the queue anew", () => {
    const a = d.events.bindIpi(0);
    const b = d.events.bindIpi(0);
    d.events.send(a);
    consume(Q);
    d.events.send(b);
    expect(head(Q)).toBe(b);
    expect(word(a) & EVTCHN_FIFO_LINK_MASK).toBe(0);
  });
  it("a pending event is not linked twice", () => {
    const a = d.events.bindIpi(0);
    d.events.send(a);
    d.events.send(a);
    expect(word(a)).toBe((P | L) >>> 0);
    expect(consume(Q)).toBe(a);
    expect(consume(Q)).toBe(0);
  });
  it("an event whose PENDING the guest cleared but which is still linked becomes pending in place", () => {
    const a = d.events.bindIpi(0);
    d.events.send(a);
    setWord(a, L);
    d.events.send(a);
    expect(word(a)).toBe((P | L) >>> 0);
    expect(head(Q)).toBe(a);
  });
  it("each priority has its queue and its READY bit", () => {
    const a = d.events.bindIpi(0);
    const b = d.events.bindIpi(0);
    expect(d.events.setPriority(a, 0)).toBe(0);
    expect(d.events.setPriority(b, 15)).toBe(0);
    expect(d.events.setPriority(b, 16)).toBe(-EINVAL);
    expect(d.events.setPriority(9999, 3)).toBe(-EINVAL);
    d.events.send(b);
    d.events.send(a);
    expect([head(0), head(15), ready()]).toEqual([a, b, 0x8001]);
  });
  it("READY already set marks no new upcall", () => {
    const a = d.events.bindIpi(0);
    m.mem.w32(control * 4096 + 64, 1 << Q);
    d.events.send(a);
    expect(head(Q)).toBe(a);
    expect(d.vcpus[0]?.events.pending).toBe(false);
  });
  it("a masked event is pending and not linked; unmask links it", () => {
    const a = d.events.bindIpi(0);
    setWord(a, M);
    d.events.send(a);
    expect(word(a)).toBe((P | M) >>> 0);
    expect(head(Q)).toBe(0);
    d.events.unmask(a);
    expect(word(a)).toBe((P | L) >>> 0);
    expect(head(Q)).toBe(a);
    expect(d.vcpus[0]?.events.pending).toBe(true);
  });
  it("unmask of what is not pending only clears the mask", () => {
    const a = d.events.bindIpi(0);
    setWord(a, M);
    d.events.unmask(a);
    expect(word(a)).toBe(0);
    expect(head(Q)).toBe(0);
  });
  it("a tail that moves to another priority no longer ends its old queue", () => {
    const a = d.events.bindIpi(0);
    const b = d.events.bindIpi(0);
    d.events.send(a);
    consume(Q);
    d.events.setPriority(a, 3);
    d.events.send(a); // linked in queue 3: LINKED again, so as the old tail it would look alive
    d.events.send(b);
    expect(head(3)).toBe(a);
    expect(head(Q)).toBe(b);
    expect(word(a) & EVTCHN_FIFO_LINK_MASK).toBe(0);
  });
  it("a port moved to another vCPU goes to that vCPU's queue", () => {
    const c1 = m.page(1);
    d.events.initControl(1, c1, 0, 0);
    const a = d.events.allocUnbound(1);
    d.events.bindVcpu(a, 1);
    d.events.raise(a);
    expect(m.mem.r32(c1 * 4096 + 8 + 4 * Q)).toBe(a);
    expect(d.vcpus[1]?.events.pending).toBe(true);
    expect(d.vcpus[0]?.events.pending).toBe(false);
  });
  it("an event for a vCPU without a control block is dropped", () => {
    const a = d.events.bindIpi(1);
    d.events.send(a);
    expect(word(a)).toBe(0);
  });
  it("a freed port that is still linked is not given out again", () => {
    const a = d.events.bindIpi(0);
    d.events.send(a);
    d.events.close(a);
    expect(word(a)).toBe(L); // PENDING cleared, left for the guest to unlink
    expect(d.events.bindIpi(0)).not.toBe(a);
    consume(Q);
    expect(d.events.bindIpi(0)).toBe(a);
  });
  it("events raised before their array page, or pending under the 2-level ABI, come with the page", () => {
    const e = m.addDomain(2, 1);
    const early = e.events.bindIpi(0);
    e.events.send(early);
    const c = m.page(2);
    e.events.initControl(0, c, 0, 0);
    const late = e.events.bindIpi(0);
    e.events.send(late);
    expect(m.mem.r32(c * 4096 + 8 + 4 * Q)).toBe(0);
    const arr = m.page(2);
    e.events.expandArray(arr, 0);
    expect(m.mem.r32(c * 4096 + 8 + 4 * Q)).toBe(early);
    expect(m.mem.r32(arr * 4096 + early * 4)).toBe((P | L | late) >>> 0);
  });
  it("reset closes the ports, gives the pages back and returns to the 2-level ABI", () => {
    d.events.bindIpi(0);
    expect([m.heldOn(control), m.heldOn(array)]).toEqual([1, 1]);
    expect(d.events.reset()).toBe(0);
    expect([m.heldOn(control), m.heldOn(array)]).toEqual([0, 0]);
    expect(d.events.ops.name).toBe("2-level");
    expect(d.events.activePorts).toBe(0);
  });
  it("garbage in the words neither throws nor loops", () => {
    const ports = [1, 2, 3].map(() => d.events.bindIpi(0));
    for (let i = 0; i < 4096; i += 4) m.mem.w32(array * 4096 + i, (i * 2654435761) >>> 0);
    for (const p of ports) expect(d.events.send(p)).toBe(0);
    for (let i = 0; i < 4096; i += 4) m.mem.w32(array * 4096 + i, 0xffffffff);
    for (const p of ports) expect(d.events.unmask(p)).toBe(0);
  });
});
