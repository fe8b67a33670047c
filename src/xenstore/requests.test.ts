import { describe, expect, it } from "vitest";
import { XS_WRITE } from "../abi/io_xs_wire.js";
import { strings } from "./text.js";
import { addDomain, TestClient, testServer, typeOf } from "./testing.js";

describe("nodes", () => {
  it("WRITE creates missing parents with empty values", () => {
    const { dom0, server } = testServer();
    expect(dom0.write("/a/b/c", "v")).toBe("OK|");
    expect(dom0.ask("READ", "/a/b")).toBe("");
    expect(dom0.ask("READ", "/a/b/c")).toBe("v");
    expect(server.store.check()).toEqual([]);
  });
  it("values are bytes: NUL and all others come back", () => {
    const { dom0 } = testServer();
    const all = Uint8Array.from({ length: 256 }, (_, i) => i);
    dom0.raw(XS_WRITE, new Uint8Array([...strings("/x"), ...all]));
    expect([...(dom0.connection.call(typeOf("READ"), 0, strings("/x")) as Uint8Array)]).toEqual([...all]);
  });
  it("READ of a missing node is ENOENT", () => {
    expect(testServer().dom0.ask("READ", "/nothing")).toBe("ENOENT");
  });
  it("MKDIR leaves an existing value unchanged", () => {
    const { dom0 } = testServer();
    dom0.write("/a", "v");
    expect(dom0.ask("MKDIR", "/a")).toBe("OK|");
    expect(dom0.ask("READ", "/a")).toBe("v");
  });
  it("RM removes the subtree; a missing node is fine, a missing parent is ENOENT, the root EINVAL", () => {
    const { dom0, server } = testServer();
    dom0.write("/a/b/c", "");
    expect(dom0.ask("RM", "/a/b")).toBe("OK|");
    expect(dom0.ask("READ", "/a/b/c")).toBe("ENOENT");
    expect(dom0.ask("RM", "/a/b")).toBe("OK|");
    expect(dom0.ask("RM", "/a/b/c")).toBe("ENOENT");
    expect(dom0.ask("RM", "/")).toBe("EINVAL");
    expect(server.store.check()).toEqual([]);
  });
  it("DIRECTORY lists children in the order they were made", () => {
    const { dom0 } = testServer();
    for (const n of ["z", "a", "m"]) dom0.write(`/d/${n}`, "");
    expect(dom0.ask("DIRECTORY", "/d")).toBe("z|a|m|");
    expect(dom0.ask("DIRECTORY", "/d/a")).toBe("");
  });
  it("a list beyond one message is E2BIG; DIRECTORY_PART gives it in parts of whole names", () => {
    const { dom0 } = testServer();
    const names = Array.from({ length: 600 }, (_, i) => `node-${i}`);
    for (const n of names) dom0.write(`/d/${n}`, "");
    expect(dom0.ask("DIRECTORY", "/d")).toBe("E2BIG");
    const got: string[] = [];
    const generations = new Set<string>();
    for (let offset = 0; ;) {
      const answer = dom0.ask("DIRECTORY_PART", "/d", String(offset));
      expect(answer.length).toBeLessThanOrEqual(4096);
      const [gen, ...part] = answer.slice(0, -1).split("|");
      generations.add(gen as string);
      const last = part[part.length - 1] === "";
      if (last) part.pop();
      got.push(...part);
      for (const p of part) offset += p.length + 1;
      if (last) break;
    }
    expect(got).toEqual(names);
    expect(generations.size).toBe(1);
  });
  it("DIRECTORY_PART behind the end gives generation and an empty name; the generation changes with the list", () => {
    const { dom0 } = testServer();
    dom0.write("/d/a", "");
    const first = dom0.ask("DIRECTORY_PART", "/d", "2");
    expect(first).toMatch(/^\d+\|\|$/);
    dom0.write("/d/b", "");
    expect(dom0.ask("DIRECTORY_PART", "/d", "4")).not.toBe(first);
  });
  it("relative paths belong to the domain's directory", () => {
    const s = testServer();
    const d = addDomain(s, 3);
    expect(d.ask("WRITE", "x/y", "")).toEqual(["WRITE OK|"]);
    expect(s.dom0.ask("READ", "/local/domain/3/x/y")).toBe("|");
    s.dom0.write("z", "0");
    expect(s.dom0.ask("READ", "/local/domain/0/z")).toBe("0");
  });
  for (const bad of [
    "",
    "/a/",
    "//",
    "/a//b",
    "/a b",
    "/ä",
    "/a.b",
    "/" + "x".repeat(3072),
    "/local/domain/1/" + "y".repeat(2049),
  ])
    it(`refuses the path ${JSON.stringify(bad.slice(0, 20))} (${bad.length})`, () => {
      const { dom0 } = testServer();
      expect(dom0.ask("READ", bad === "" ? "/local/domain/0//" : bad)).toBe("EINVAL");
    });
  it("takes the longest legal paths", () => {
    const { dom0 } = testServer();
    expect(dom0.write("/" + "x".repeat(3071), "")).toBe("OK|");
    expect(dom0.write("/local/domain/1/" + "y".repeat(2048), "")).toBe("OK|");
  });
});

describe("messages", () => {
  it("an unknown operation is ENOSYS, a removed one too", () => {
    const { dom0 } = testServer();
    for (const type of [20, 23, 200, 0xffff]) expect(dom0.raw(type, strings("x"))).toBe("ENOSYS");
  });
  it("a string that does not end, or ends early, is EINVAL", () => {
    const { dom0 } = testServer();
    const read = typeOf("READ");
    expect(dom0.raw(read, new Uint8Array(0))).toBe("EINVAL");
    expect(dom0.raw(read, Uint8Array.of(47))).toBe("EINVAL");
    expect(dom0.raw(read, Uint8Array.of(47, 0, 0))).toBe("EINVAL");
    expect(dom0.raw(XS_WRITE, Uint8Array.of(47, 97))).toBe("EINVAL");
    expect(dom0.ask("WATCH", "/a")).toBe("EINVAL");
    expect(dom0.ask("SET_PERMS", "/a")).toBe("EINVAL");
  });
  it("an unknown transaction is ENOENT, but where it does not matter", () => {
    const { dom0 } = testServer();
    expect(dom0.in(99, "READ", "/")).toBe("ENOENT");
    expect(dom0.in(99, "WATCH", "/", "t")).toBe("OK|");
    expect(dom0.in(99, "UNWATCH", "/", "t")).toBe("OK|");
  });
  it("every request has one answer, in order", () => {
    const { dom0 } = testServer();
    dom0.ask("MKDIR", "/a");
    dom0.ask("READ", "/b");
    dom0.ask("DIRECTORY", "/a");
    expect(dom0.log).toEqual(["MKDIR OK|", "ERROR ENOENT|", "DIRECTORY "]);
  });
  it("a fault of ours is EIO for this client, and told", () => {
    const { dom0, server } = testServer();
    const seen: unknown[] = [];
    server.onInternalError = (e) => seen.push(e);
    server.store.get = () => {
      throw new Error("boom");
    };
    expect(dom0.ask("READ", "/")).toBe("EIO");
    expect(seen).toHaveLength(1);
  });
});

describe("permissions", () => {
  it("a new node has its parent's, but what a domain makes is its own", () => {
    const s = testServer();
    const d = addDomain(s, 1);
    s.dom0.write("/shared", "");
    s.dom0.ask("SET_PERMS", "/shared", "n0", "b1", "r2");
    s.dom0.write("/shared/a", "");
    expect(s.dom0.ask("GET_PERMS", "/shared/a")).toBe("n0|b1|r2|");
    d.ask("WRITE", "/shared/b/c", "");
    expect(s.dom0.ask("GET_PERMS", "/shared/b")).toBe("n1|b1|r2|");
    expect(s.dom0.ask("GET_PERMS", "/shared/b/c")).toBe("n1|b1|r2|");
  });
  it("the first entry is for everybody not named", () => {
    const s = testServer();
    const d = addDomain(s, 1);
    s.dom0.write("/open", "v");
    s.dom0.ask("SET_PERMS", "/open", "r0");
    expect(d.ask("READ", "/open")).toEqual(["READ v"]);
    expect(d.ask("WRITE", "/open", "x")).toEqual(["ERROR EACCES|"]);
    s.dom0.ask("SET_PERMS", "/open", "r0", "n1");
    expect(d.ask("READ", "/open")).toEqual(["ERROR EACCES|"]);
  });
  it("w lets write and not read, b both", () => {
    const s = testServer();
    const d = addDomain(s, 1);
    s.dom0.write("/w", "v");
    s.dom0.ask("SET_PERMS", "/w", "n0", "w1");
    expect(d.ask("READ", "/w")).toEqual(["ERROR EACCES|"]);
    expect(d.ask("WRITE", "/w", "")).toEqual(["WRITE OK|"]);
    s.dom0.ask("SET_PERMS", "/w", "n0", "b1");
    expect(d.ask("READ", "/w")).toEqual(["READ |"]);
  });
  it("a missing node is EACCES where the nearest ancestor is not the client's", () => {
    const s = testServer();
    const d = addDomain(s, 1);
    s.dom0.write("/secret", "");
    expect(d.ask("READ", "/secret/x/y")).toEqual(["ERROR EACCES|"]);
    expect(d.ask("READ", "mine")).toEqual(["ERROR ENOENT|"]);
    expect(d.ask("WRITE", "/secret/x", "")).toEqual(["ERROR EACCES|"]);
    expect(d.ask("MKDIR", "/local/domain/2")).toEqual(["ERROR EACCES|"]);
    expect(d.ask("RM", "/secret/x")).toEqual(["ERROR EACCES|"]);
  });
  it("only the owner sets permissions, and gives no node away", () => {
    const s = testServer();
    const d = addDomain(s, 1);
    d.ask("WRITE", "mine", "");
    expect(d.ask("SET_PERMS", "mine", "n1", "r2")).toEqual(["SET_PERMS OK|"]);
    expect(d.ask("SET_PERMS", "mine", "n2")).toEqual(["ERROR EPERM|"]);
    s.dom0.write("/b", "");
    s.dom0.ask("SET_PERMS", "/b", "n0", "b1");
    expect(d.ask("SET_PERMS", "/b", "n0", "b1", "b2")).toEqual(["ERROR EACCES|"]);
  });
  for (const bad of ["x1", "r", "r-1", "r1x", "r70000", ""])
    it(`refuses the permission ${JSON.stringify(bad)}`, () => {
      const { dom0 } = testServer();
      expect(dom0.ask("SET_PERMS", "/tool", "n0", bad)).toBe("EINVAL");
    });
  it("SET_TARGET gives a stub domain its target's rights", () => {
    const s = testServer();
    const stub = addDomain(s, 2);
    addDomain(s, 1);
    s.dom0.write("/local/domain/1/x", "v");
    expect(stub.ask("READ", "/local/domain/1/x")).toEqual(["ERROR EACCES|"]);
    expect(s.dom0.ask("SET_TARGET", "2", "9")).toBe("ENOENT");
    expect(s.dom0.ask("SET_TARGET", "2", "1")).toBe("OK|");
    expect(stub.ask("READ", "/local/domain/1/x")).toEqual(["READ v"]);
  });
  it("requests of the toolstack are EACCES for domains", () => {
    const s = testServer();
    const d = addDomain(s, 1);
    for (const [op, ...args] of [
      ["INTRODUCE", "2", "2", "1"],
      ["RELEASE", "1"],
      ["RESUME", "1"],
      ["SET_TARGET", "1", "2"],
      ["IS_DOMAIN_INTRODUCED", "1"],
      ["CONTROL", "check"],
    ] as [string, ...string[]][])
      expect(d.ask(op, ...args)).toEqual(["ERROR EACCES|"]);
    expect(d.ask("GET_DOMAIN_PATH", "7")).toEqual(["GET_DOMAIN_PATH /local/domain/7|"]);
  });
});

describe("quotas", () => {
  const quota = { nodes: 5, watches: 3, transactions: 2, transactionNodes: 4, permissions: 3, nodeSize: 200 };
  it("nodes owned: ENOSPC, all or none of a path; removal frees; dom0 is not bound", () => {
    const s = testServer({ quota });
    const d = addDomain(s, 1);
    // The directory itself is the first.
    expect(d.ask("WRITE", "a/b/c", "")).toEqual(["WRITE OK|"]);
    expect(d.ask("WRITE", "d/e", "")).toEqual(["ERROR ENOSPC|"]);
    expect(d.ask("READ", "d")).toEqual(["ERROR ENOENT|"]);
    expect(d.ask("WRITE", "d", "")).toEqual(["WRITE OK|"]);
    expect(d.ask("WRITE", "e", "")).toEqual(["ERROR ENOSPC|"]);
    d.ask("RM", "a/b");
    expect(d.ask("WRITE", "e", "")).toEqual(["WRITE OK|"]);
    for (let i = 0; i < 20; i++) expect(s.dom0.write(`/many/${i}`, "")).toBe("OK|");
  });
  it("nodes made in a transaction count, and no longer when it is dropped", () => {
    const s = testServer({ quota: { nodes: 4 } });
    const d = new TestClient(s.server, 1);
    s.dom0.write("/local/domain/1", "");
    s.dom0.ask("SET_PERMS", "/local/domain/1", "n1");
    const t = d.start();
    for (const n of ["a", "b", "c"]) expect(d.write(n, "", t)).toBe("OK|");
    expect(d.write("d", "", t)).toBe("ENOSPC");
    d.end(t, "F");
    expect(d.write("d", "")).toBe("OK|");
    expect(s.server.store.owned(1)).toBe(2);
  });
  it("the size of a node", () => {
    const s = testServer({ quota });
    const d = addDomain(s, 1);
    expect(d.ask("WRITE", "x", "y".repeat(150))).toEqual(["WRITE OK|"]);
    expect(d.ask("WRITE", "x", "y".repeat(180))).toEqual(["ERROR ENOSPC|"]);
    expect(d.ask("WRITE", "n", "y".repeat(180))).toEqual(["ERROR ENOSPC|"]);
  });
  it("permissions of a node", () => {
    const s = testServer({ quota });
    const d = addDomain(s, 1);
    d.ask("WRITE", "x", "");
    expect(d.ask("SET_PERMS", "x", "n1", "r2", "r3")).toEqual(["SET_PERMS OK|"]);
    expect(d.ask("SET_PERMS", "x", "n1", "r2", "r3", "r4")).toEqual(["ERROR ENOSPC|"]);
  });
  it("watches: E2BIG", () => {
    const s = testServer({ quota });
    const d = addDomain(s, 1);
    for (let i = 0; i < 3; i++) expect(d.ask("WATCH", "x", String(i))[0]).toBe("WATCH OK|");
    expect(d.ask("WATCH", "x", "3")).toEqual(["ERROR E2BIG|"]);
    d.ask("UNWATCH", "x", "0");
    expect(d.ask("WATCH", "x", "3")[0]).toBe("WATCH OK|");
  });
  it("open transactions, and the nodes one may touch: ENOSPC", () => {
    const s = testServer({ quota });
    const d = new TestClient(s.server, 1);
    s.dom0.write("/local/domain/1", "");
    s.dom0.ask("SET_PERMS", "/local/domain/1", "n1");
    const t = d.start();
    d.start();
    expect(d.ask("TRANSACTION_START", "")).toBe("ENOSPC");
    const answers = ["a", "b", "c", "d", "e"].map((n) => d.in(t, "READ", n));
    expect(answers.slice(0, 3)).toEqual(["ENOENT", "ENOENT", "ENOENT"]);
    expect(answers[4]).toBe("ENOSPC");
  });
});

describe("CONTROL", () => {
  it("check finds a sound tree; quota shows and sets; the unknown is EINVAL", () => {
    const { dom0 } = testServer();
    expect(dom0.ask("CONTROL", "check")).toBe("OK|");
    expect(dom0.ask("CONTROL", "quota")).toContain("nodes: 1000");
    expect(dom0.ask("CONTROL", "quota", "set", "nodes", "7")).toBe("OK|");
    expect(dom0.ask("CONTROL", "quota")).toContain("nodes: 7");
    expect(dom0.ask("CONTROL", "explode")).toBe("EINVAL");
    expect(dom0.ask("CONTROL", "help")).toContain("check");
  });
});
