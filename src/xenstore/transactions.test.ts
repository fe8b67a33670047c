import { describe, expect, it } from "vitest";
import { XenStoreClient } from "./client.js";
import { TestClient, testServer } from "./testing.js";
import { seeded } from "../testing.js";

function two(): { a: TestClient; b: TestClient; server: ReturnType<typeof testServer>["server"] } {
  const { dom0, server } = testServer();
  dom0.write("/n/x", "0");
  dom0.write("/m/y", "0");
  return { a: dom0, b: new TestClient(server), server };
}

describe("transactions", () => {
  it("others see nothing before the commit, and all after it", () => {
    const { a, b } = two();
    const t = a.start();
    a.write("/n/x", "1", t);
    a.write("/n/z", "2", t);
    a.in(t, "RM", "/m");
    expect(a.in(t, "READ", "/n/x")).toBe("1");
    expect(a.in(t, "DIRECTORY", "/n")).toBe("x|z|");
    expect(b.ask("READ", "/n/x")).toBe("0");
    expect(b.ask("READ", "/m/y")).toBe("0");
    expect(a.end(t)).toBe("OK|");
    expect(b.ask("READ", "/n/x")).toBe("1");
    expect(b.ask("READ", "/n/z")).toBe("2");
    expect(b.ask("READ", "/m")).toBe("ENOENT");
  });
  it("an aborted one leaves nothing and fires nothing", () => {
    const { a, server } = two();
    a.ask("WATCH", "/", "t");
    a.takeEvents();
    const t = a.start();
    a.write("/n/x", "1", t);
    a.write("/q/r", "1", t);
    expect(a.end(t, "F")).toBe("OK|");
    expect(a.ask("READ", "/n/x")).toBe("0");
    expect(a.ask("READ", "/q")).toBe("ENOENT");
    expect(a.takeEvents()).toEqual([]);
    expect(server.store.check()).toEqual([]);
  });
  it("events fire at the commit, one a node, in the order of first touch", () => {
    const { a, b } = two();
    b.ask("WATCH", "/n", "t");
    b.takeEvents();
    const t = a.start();
    a.write("/n/b", "1", t);
    a.write("/n/a", "1", t);
    a.write("/n/b", "2", t);
    expect(b.takeEvents()).toEqual([]);
    a.end(t);
    expect(b.takeEvents()).toEqual(["/n/b|t|", "/n/a|t|"]);
  });
  for (const [what, mine, theirs] of [
    ["a node it read was written", ["READ", "/n/x"], ["WRITE", "/n/x", "9"]],
    ["a node it read was removed", ["READ", "/n/x"], ["RM", "/n/x"]],
    ["a node it found missing was made", ["READ", "/n/new"], ["MKDIR", "/n/new"]],
    ["a list it read changed", ["DIRECTORY", "/n"], ["MKDIR", "/n/new"]],
    ["permissions it read changed", ["GET_PERMS", "/n/x"], ["SET_PERMS", "/n/x", "n0", "r3"]],
    ["a node it wrote was written", ["WRITE", "/n/x", "1"], ["WRITE", "/n/x", "9"]],
    ["a tree it removed grew", ["RM", "/n"], ["MKDIR", "/n/new"]],
  ] as [string, [string, ...string[]], [string, ...string[]]][])
    it(`EAGAIN where ${what} meanwhile, and nothing of it is done`, () => {
      const { a, b, server } = two();
      const t = a.start();
      a.in(t, ...mine);
      a.write("/mine", "1", t);
      b.ask(...theirs);
      expect(a.end(t)).toBe("EAGAIN");
      expect(a.ask("READ", "/mine")).toBe("ENOENT");
      expect(server.store.check()).toEqual([]);
    });
  it("one that touches other nodes is not disturbed", () => {
    const { a, b } = two();
    const t = a.start();
    a.in(t, "READ", "/n/x");
    a.write("/n/x", "1", t);
    b.write("/m/y", "9");
    b.write("/m/new", "9");
    const u = b.start();
    b.write("/m/y", "10", u);
    expect(b.end(u)).toBe("OK|");
    expect(a.end(t)).toBe("OK|");
    expect(b.ask("READ", "/m/y")).toBe("10");
  });
  it("what it has read stays as it was", () => {
    const { a, b } = two();
    const t = a.start();
    expect(a.in(t, "READ", "/n/x")).toBe("0");
    expect(a.in(t, "DIRECTORY", "/n")).toBe("x|");
    b.write("/n/x", "9");
    b.write("/n/new", "");
    expect(a.in(t, "READ", "/n/x")).toBe("0");
    expect(a.in(t, "DIRECTORY", "/n")).toBe("x|");
  });
  it("of two that write the same the first wins", () => {
    const { a, b } = two();
    const t = a.start();
    const u = b.start();
    a.write("/n/x", "a", t);
    b.write("/n/x", "b", u);
    expect(b.end(u)).toBe("OK|");
    expect(a.end(t)).toBe("EAGAIN");
    expect(a.ask("READ", "/n/x")).toBe("b");
  });
  it("removing what it made itself leaves no trace", () => {
    const { a, server } = two();
    const t = a.start();
    a.write("/n/tmp/deep", "1", t);
    a.in(t, "RM", "/n/tmp");
    expect(a.in(t, "READ", "/n/tmp")).toBe("ENOENT");
    expect(a.end(t)).toBe("OK|");
    expect(a.ask("DIRECTORY", "/n")).toBe("x|");
    expect(server.store.check()).toEqual([]);
  });
  it("numbers count up for each client; ends once; not within another; only T or F", () => {
    const { a, b } = two();
    expect([a.start(), a.start(), b.start()]).toEqual([1, 2, 1]);
    expect(a.in(1, "TRANSACTION_START", "")).toBe("EBUSY");
    expect(a.in(1, "TRANSACTION_END", "X")).toBe("EINVAL");
    expect(a.end(1)).toBe("OK|");
    expect(a.end(1)).toBe("ENOENT");
    expect(a.ask("TRANSACTION_END", "T")).toBe("ENOENT");
    expect(b.in(2, "READ", "/")).toBe("ENOENT");
  });
  it("random histories keep the tree sound and the owners' counts right", () => {
    const { server, dom0 } = testServer();
    const next = seeded(4711);
    const clients = [dom0, new TestClient(server), new TestClient(server)];
    const open: number[][] = [[], [], []];
    const path = (): string => Array.from({ length: 1 + next(3) }, () => `/${"abc"[next(3)] as string}`).join("");
    let conflicts = 0;
    for (let i = 0; i < 5000; i++) {
      const k = next(3);
      const c = clients[k] as TestClient;
      const list = open[k] as number[];
      const t = list.length > 0 && next(3) > 0 ? (list[next(list.length)] as number) : 0;
      const what = next(10);
      if (what < 4) c.write(path(), String(i), t);
      else if (what < 5) c.in(t, "RM", path());
      else if (what < 7) c.in(t, "READ", path());
      else if (what < 8) c.in(t, "SET_PERMS", path(), `n${next(4)}`);
      else if (list.length < 3 && what === 8) list.push(c.start());
      else if (list.length > 0) {
        const id = list.splice(next(list.length), 1)[0] as number;
        const how = c.end(id, next(4) === 0 ? "F" : "T");
        expect(["OK|", "EAGAIN"]).toContain(how);
        if (how === "EAGAIN") conflicts++;
      }
      if (i % 100 === 0) expect(server.store.check()).toEqual([]);
    }
    expect(conflicts).toBeGreaterThan(10);
    expect(server.store.check()).toEqual([]);
  });
});

describe("the in-process client", () => {
  it("reads, writes, lists beyond one message, and has null for what is not there", () => {
    const { server } = testServer();
    const xs = new XenStoreClient(server, (fn) => fn());
    xs.write("/a/ü".replace("ü", "u"), "grüße");
    expect(xs.read("/a/u")).toBe("grüße");
    expect(xs.read("/nope")).toBeNull();
    expect(xs.list("/nope")).toBeNull();
    expect(xs.rm("/nope/x")).toBe(false);
    for (let i = 0; i < 600; i++) xs.write(`/big/entry-${i}`, i);
    expect(xs.list("/big")).toHaveLength(600);
    xs.setPerms("/a", ["n0", "r4"]);
    expect(xs.getPerms("/a")).toEqual(["n0", "r4"]);
  });
  it("does a transaction again after a conflict, and not after an error of the caller", () => {
    const { server, dom0 } = testServer();
    const xs = new XenStoreClient(server, (fn) => fn());
    dom0.write("/n", "0");
    let runs = 0;
    xs.transaction((t) => {
      const n = Number(t.read("/n"));
      if (runs++ === 0) dom0.write("/n", "10");
      t.write("/n", n + 1);
    });
    expect([runs, xs.read("/n")]).toEqual([2, "11"]);
    expect(() =>
      xs.transaction((t) => {
        t.write("/n", "lost");
        throw new Error("no");
      }),
    ).toThrow("no");
    expect(xs.read("/n")).toBe("11");
  });
  it("watch callbacks run later, never inside the change", () => {
    const { server } = testServer();
    const later: (() => void)[] = [];
    const xs = new XenStoreClient(server, (fn) => later.push(fn));
    const seen: string[] = [];
    const stop = xs.watch("/a", (p) => seen.push(p));
    xs.write("/a/b", 1);
    expect(seen).toEqual([]);
    for (const f of later.splice(0)) f();
    expect(seen).toEqual(["/a", "/a/b"]);
    stop();
    xs.write("/a/b", 2);
    for (const f of later.splice(0)) f();
    expect(seen).toHaveLength(2);
  });
});
