import { describe, expect, it } from "vitest";
import { Timers } from "./timers.js";
import { seeded } from "../../testing.js";

describe("timers", () => {
  it("fire in order of deadline, and of setting within one", () => {
    const t = new Timers();
    const log: string[] = [];
    const make = (name: string) => t.create(() => log.push(name));
    const [a, b, c, d] = [make("a"), make("b"), make("c"), make("d")];
    t.set(a, 30);
    t.set(b, 10);
    t.set(c, 20);
    t.set(d, 10);
    expect(t.next()).toBe(10);
    expect(t.runDue(9)).toBe(0);
    expect(t.runDue(25)).toBe(3);
    expect(log).toEqual(["b", "d", "c"]);
    expect(t.next()).toBe(30);
  });
  it("of one deadline fire in the order of setting, however many", () => {
    const t = new Timers();
    const log: number[] = [];
    for (let i = 0; i < 20; i++)
      t.set(
        t.create(() => log.push(i)),
        7,
      );
    t.runDue(7);
    expect(log).toEqual(Array.from({ length: 20 }, (_, i) => i));
  });
  it("can be moved and stopped", () => {
    const t = new Timers();
    let n = 0;
    const a = t.create(() => n++);
    t.set(a, 10);
    t.set(a, 50);
    expect(t.runDue(20)).toBe(0);
    t.set(a, 5);
    t.stop(a);
    t.stop(a);
    expect([t.runDue(100), n, t.next()]).toEqual([0, 0, Infinity]);
  });
  it("may be set again while firing", () => {
    const t = new Timers();
    let n = 0;
    const a = t.create((now) => {
      if (++n < 3) t.set(a, now + 10);
    });
    t.set(a, 10);
    for (let now = 0; now < 100; now += 10) t.runDue(now);
    expect(n).toBe(3);
  });
  it("keep the heap right under many changes", () => {
    const t = new Timers();
    const rnd = seeded(1);
    const fired: number[] = [];
    const all = Array.from({ length: 200 }, () => {
      const x: ReturnType<Timers["create"]> = t.create(() => fired.push(at.get(x) ?? -1));
      return x;
    });
    const at = new Map<ReturnType<Timers["create"]>, number>();
    for (let i = 0; i < 5000; i++) {
      const x = all[rnd(200)];
      if (x === undefined) continue;
      if (rnd(4) === 0) {
        t.stop(x);
        at.delete(x);
      } else {
        const d = rnd(10000);
        t.set(x, d);
        at.set(x, d);
      }
    }
    t.runDue(10000);
    expect(fired).toEqual([...at.values()].sort((p, q) => p - q));
  });
});
