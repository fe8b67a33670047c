import { describe, expect, it } from "vitest";
import { addDomain, testServer } from "./testing.js";

describe("watches", () => {
  it("fires once at registration, after the answer", () => {
    const { dom0 } = testServer();
    dom0.ask("WATCH", "/not/there", "tok");
    expect(dom0.log).toEqual(["WATCH OK|", "WATCH_EVENT /not/there|tok|"]);
  });
  it("fires for the node and below, not for neighbours with the same beginning", () => {
    const { dom0 } = testServer();
    dom0.ask("WATCH", "/a/b", "t");
    dom0.takeEvents();
    for (const p of ["/a/b", "/a/b/c/d", "/a/bc", "/a"]) dom0.write(p, "");
    expect(dom0.takeEvents()).toEqual(["/a/b|t|", "/a/b/c/d|t|"]);
  });
  it("events of a request come before its answer", () => {
    const { dom0 } = testServer();
    dom0.ask("WATCH", "/a", "t");
    dom0.log.length = 0;
    dom0.write("/a", "1");
    expect(dom0.log).toEqual(["WATCH_EVENT /a|t|", "WRITE OK|"]);
  });
  it("keeps the order of changes, and of watches for one change", () => {
    const { dom0 } = testServer();
    dom0.ask("WATCH", "/", "first");
    dom0.ask("WATCH", "/a/b", "second");
    dom0.ask("WATCH", "/a", "third");
    dom0.takeEvents();
    dom0.write("/a/b", "");
    dom0.write("/a", "");
    expect(dom0.takeEvents()).toEqual(["/a/b|first|", "/a/b|second|", "/a/b|third|", "/a|first|", "/a|third|"]);
  });
  it("WRITE of the same value, MKDIR of a new node, SET_PERMS and RM fire; MKDIR and RM of nothing new do not", () => {
    const { dom0 } = testServer();
    dom0.ask("WATCH", "/a", "t");
    dom0.takeEvents();
    dom0.ask("MKDIR", "/a");
    dom0.ask("MKDIR", "/a");
    dom0.write("/a", "");
    dom0.write("/a", "");
    dom0.ask("SET_PERMS", "/a", "n0", "r1");
    dom0.ask("RM", "/a");
    dom0.ask("RM", "/a");
    expect(dom0.takeEvents()).toHaveLength(5);
  });
  it("implied parents do not fire on their own", () => {
    const { dom0 } = testServer();
    dom0.ask("WATCH", "/p", "t");
    dom0.takeEvents();
    dom0.write("/p/q/r", "");
    expect(dom0.takeEvents()).toEqual(["/p/q/r|t|"]);
  });
  it("removal of an ancestor tells the watch on a removed node its own path, and nothing to one on a missing node", () => {
    const { dom0 } = testServer();
    dom0.write("/a/b/c", "");
    dom0.ask("WATCH", "/a/b/c", "leaf");
    dom0.ask("WATCH", "/a/b/x", "missing");
    dom0.ask("WATCH", "/a", "above");
    dom0.takeEvents();
    dom0.ask("RM", "/a/b");
    expect(dom0.takeEvents()).toEqual(["/a/b/c|leaf|", "/a/b|above|"]);
  });
  it("a relative watch gets relative paths, an absolute one absolute", () => {
    const s = testServer();
    const d = addDomain(s, 1);
    expect(d.ask("WATCH", "x", "rel")).toEqual(["WATCH OK|", "WATCH_EVENT x|rel|"]);
    expect(d.ask("WATCH", "/local/domain/1/x", "abs")).toEqual(["WATCH OK|", "WATCH_EVENT /local/domain/1/x|abs|"]);
    s.dom0.write("/local/domain/1/x/y", "");
    expect(d.text()).toEqual(["WATCH_EVENT x/y|rel|", "WATCH_EVENT /local/domain/1/x/y|abs|"]);
  });
  it("the same path and token twice is EEXIST, an unknown UNWATCH ENOENT", () => {
    const { dom0 } = testServer();
    dom0.ask("WATCH", "/a", "t");
    expect(dom0.ask("WATCH", "/a", "t")).toBe("EEXIST");
    expect(dom0.ask("WATCH", "/a", "u")).toBe("OK|");
    expect(dom0.ask("UNWATCH", "/a", "x")).toBe("ENOENT");
    expect(dom0.ask("UNWATCH", "/a", "t")).toBe("OK|");
    dom0.takeEvents();
    dom0.write("/a", "");
    expect(dom0.takeEvents()).toEqual(["/a|u|"]);
  });
  it("tokens are any bytes but NUL", () => {
    const { dom0 } = testServer();
    dom0.ask("WATCH", "/a", "\xff é");
    expect(dom0.takeEvents()).toEqual(["/a|\xff é|"]);
  });
  it("a domain hears of what it may read, and of the removal of what it could read", () => {
    const s = testServer();
    const d = addDomain(s, 1);
    s.dom0.write("/s/open", "");
    s.dom0.ask("SET_PERMS", "/s/open", "n0", "r1");
    s.dom0.write("/s/closed", "");
    d.ask("WATCH", "/s", "t");
    s.dom0.write("/s/closed", "1");
    s.dom0.write("/s/open", "1");
    expect(d.text()).toEqual(["WATCH_EVENT /s/open|t|"]);
    s.dom0.ask("SET_PERMS", "/s/open", "n0");
    expect(d.text()).toEqual(["WATCH_EVENT /s/open|t|"]);
    s.dom0.write("/s/open", "2");
    expect(d.text()).toEqual([]);
    s.dom0.ask("SET_PERMS", "/s/open", "n0", "r1");
    d.text();
    s.dom0.ask("RM", "/s/open");
    expect(d.text()).toEqual(["WATCH_EVENT /s/open|t|"]);
  });
  it("RESET_WATCHES drops watches and transactions", () => {
    const { dom0 } = testServer();
    dom0.ask("WATCH", "/a", "t");
    const t = dom0.start();
    dom0.takeEvents();
    expect(dom0.ask("RESET_WATCHES", "")).toBe("OK|");
    dom0.write("/a", "");
    expect(dom0.takeEvents()).toEqual([]);
    expect(dom0.in(t, "READ", "/a")).toBe("ENOENT");
  });
  it("a closed client's watches are gone", () => {
    const { dom0, server } = testServer();
    dom0.ask("WATCH", "/a", "t");
    dom0.connection.close();
    dom0.takeEvents();
    server.store.create("/a", new Uint8Array(0), [{ id: 0, perms: 0 }]);
    server.fire("/a", false, server.store.get("/a"));
    expect(dom0.takeEvents()).toEqual([]);
  });
});

describe("domains coming and going", () => {
  it("@introduceDomain and @releaseDomain match only their own watches", () => {
    const s = testServer();
    for (const p of ["/", "@introduceDomain", "@releaseDomain", "@other"]) s.dom0.ask("WATCH", p, p);
    s.dom0.takeEvents();
    s.host.alive.add(5);
    s.dom0.ask("INTRODUCE", "5", "5", "1");
    expect(s.dom0.takeEvents()).toEqual(["@introduceDomain|@introduceDomain|"]);
    s.dom0.ask("RELEASE", "5");
    expect(s.dom0.takeEvents()).toEqual(["@releaseDomain|@releaseDomain|"]);
  });
  it("a domain hears of them only where dom0 lets it", () => {
    const s = testServer();
    const d = addDomain(s, 1);
    d.ask("WATCH", "@introduceDomain", "t");
    addDomain(s, 2);
    expect(d.text()).toEqual([]);
    expect(d.ask("SET_PERMS", "@introduceDomain", "n1")).toEqual(["ERROR EACCES|"]);
    expect(s.dom0.ask("SET_PERMS", "@introduceDomain", "n0", "r1")).toBe("OK|");
    d.text();
    addDomain(s, 3);
    expect(d.text()).toEqual(["WATCH_EVENT @introduceDomain|t|"]);
  });
  it("a shutdown is told once, until RESUME; the end again", () => {
    const s = testServer();
    addDomain(s, 1);
    s.dom0.ask("WATCH", "@releaseDomain", "t");
    s.dom0.takeEvents();
    s.server.domainShutDown(1);
    s.server.domainShutDown(1);
    expect(s.dom0.takeEvents()).toHaveLength(1);
    expect(s.dom0.ask("RESUME", "1")).toBe("OK|");
    s.server.domainShutDown(1);
    expect(s.dom0.takeEvents()).toHaveLength(1);
    s.server.domainGone(1);
    s.server.domainGone(1);
    expect(s.dom0.takeEvents()).toHaveLength(1);
    expect(s.dom0.ask("RESUME", "1")).toBe("ENOENT");
  });
  it("INTRODUCE refuses dom0, unknown domains, bad ports and pages; again it renews the channel", () => {
    const s = testServer();
    s.host.alive.add(1);
    for (const args of [
      ["0", "0", "1"],
      ["2", "2", "1"],
      ["1", "1", "0"],
      ["1", "1", "-3"],
      ["1", "99", "1"],
      ["1", "-1", "1"],
    ])
      expect(s.dom0.ask("INTRODUCE", ...args)).toBe("EINVAL");
    expect(s.dom0.ask("INTRODUCE", "1", "1")).toBe("EINVAL");
    expect(s.dom0.ask("IS_DOMAIN_INTRODUCED", "1")).toBe("F|");
    expect(s.dom0.ask("INTRODUCE", "1", "1", "4")).toBe("OK|");
    expect(s.dom0.ask("IS_DOMAIN_INTRODUCED", "1")).toBe("T|");
    expect(s.dom0.ask("INTRODUCE", "1", "1", "5")).toBe("OK|");
    expect(s.host.closed).toEqual([1]);
    expect(s.dom0.ask("RELEASE", "1")).toBe("OK|");
    expect(s.dom0.ask("RELEASE", "1")).toBe("ENOENT");
    expect(s.dom0.ask("RELEASE", "0")).toBe("EINVAL");
  });
  it("nothing that a dead domain owned or could use is left to the next of its number", () => {
    const s = testServer();
    const d = addDomain(s, 1);
    d.ask("WRITE", "x/y", "");
    s.dom0.write("/s", "");
    s.dom0.ask("SET_PERMS", "/s", "n0", "r1", "r2");
    s.dom0.ask("SET_PERMS", "@releaseDomain", "n0", "r1");
    s.host.alive.delete(1);
    s.server.domainGone(1);
    expect(s.dom0.ask("READ", "/local/domain/1/x")).toBe("ENOENT");
    expect(s.dom0.ask("GET_PERMS", "/s")).toBe("n0|r2|");
    expect(s.dom0.ask("GET_PERMS", "@releaseDomain")).toBe("n0|");
    expect(s.server.store.owned(1)).toBe(0);
    expect(s.server.store.check()).toEqual([]);
  });
});
