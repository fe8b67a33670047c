// Debian's own xenstore-* commands against a running machine, over the unix socket.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { serveXenStore, type XenStoreSocket } from "../src/sys/node/xenstore-socket.js";
import { root } from "./cli-helper.js";
import { Machine } from "../src/toolstack/machine.js";
import { execFile } from "node:child_process";
import { promisify } from "node:util";

const tools = spawnSync("xenstore-ls", ["-h"]).error === undefined;

const testXenstore = [
  join(root, ".cache/debian/xen-utils/root/usr/lib/xen-4.17/bin/test-xenstore"),
  "/usr/lib/xen-4.17/bin/test-xenstore",
].find((p) => existsSync(p));
/** Debian's Python sees Debian's packages. */
const pyxs = spawnSync("/usr/bin/python3", ["-c", "import pyxs"]).status === 0;

describe.skipIf(!tools)("xenstore-utils (Debian's) over the socket", () => {
  const dir = mkdtempSync(join(tmpdir(), "xenolith-xs-"));
  const path = join(dir, "socket");
  const machine = new Machine({ memoryMiB: 16 });
  let socket: XenStoreSocket;
  const run = promisify(execFile);
  const xs = async (tool: string, ...args: string[]): Promise<string> =>
    (await run(tool, args, { env: { ...process.env, XENSTORED_PATH: path }, timeout: 20_000 })).stdout;

  beforeAll(async () => {
    socket = await serveXenStore(machine.xenstore, path, () => undefined);
  });
  afterAll(() => {
    socket.close();
    rmSync(dir, { recursive: true });
  });

  test("write, read, list and remove", async () => {
    await xs("xenstore-write", "/tool/a", "one", "/tool/b", "two");
    expect(await xs("xenstore-read", "/tool/a", "/tool/b")).toBe("one\ntwo\n");
    expect(await xs("xenstore-list", "/tool")).toContain("a\nb\n");
    await xs("xenstore-rm", "/tool/a");
    await expect(xs("xenstore-read", "/tool/a")).rejects.toThrow("couldn't read path /tool/a");
  });
  test("permissions are set and shown", async () => {
    await xs("xenstore-write", "/tool/p", "x");
    await xs("xenstore-chmod", "/tool/p", "n0", "r3");
    expect(await xs("xenstore-ls", "-fp", "/tool")).toMatch(/\/tool\/p = "x" {3}\(n0,r3\)/);
  });
  test("a watch fires at once and on a change", async () => {
    const seen = run("xenstore-watch", ["-n", "2", "/tool/w"], {
      env: { ...process.env, XENSTORED_PATH: path },
      timeout: 20_000,
    });
    await new Promise((r) => setTimeout(r, 500));
    await xs("xenstore-write", "/tool/w", "1");
    expect((await seen).stdout).toBe("/tool/w\n/tool/w\n");
  });
  test("a client that breaks the protocol loses its connection, others keep theirs", async () => {
    const bad = connect(path);
    const closed = new Promise((r) => bad.on("close", r));
    bad.on("error", () => undefined);
    const header = Buffer.alloc(16);
    header.writeUInt32LE(2, 0);
    header.writeUInt32LE(1 << 20, 12);
    bad.write(header);
    await closed;
    expect(await xs("xenstore-list", "/")).toContain("tool");
  });
  test.skipIf(testXenstore === undefined)(
    `Debian's test-xenstore: reads, writes, directories, transactions${testXenstore === undefined ? " (skipped: no xen-utils-4.17)" : ""}`,
    { timeout: 120_000 },
    async () => {
      const { stdout } = await run(testXenstore ?? "", ["-i", "50"], {
        env: { ...process.env, XENSTORED_PATH: path },
        timeout: 100_000,
      });
      // A test that went wrong has no times.
      for (const name of ["read 2000", "write 2000", "dir", "rm node", "rm dir", "ta empty", "ta rmw", "ta err"])
        expect(stdout).toMatch(new RegExp(`^${name} *: avg: \\d+ ns`, "m"));
    },
  );
  test.skipIf(!pyxs)(
    `Debian's python3-pyxs: values, directories, permissions, transactions that collide, watches${pyxs ? "" : " (skipped: no python3-pyxs)"}`,
    { timeout: 120_000 },
    async () => {
      const script = join(dir, "client.py");
      writeFileSync(
        script,
        `
import sys
from pyxs import Client, PyXSError
path = sys.argv[1]
with Client(unix_socket_path=path) as c, Client(unix_socket_path=path) as other:
    c[b"/tool/py"] = b"one"
    assert c[b"/tool/py"] == b"one"
    c.mkdir(b"/tool/dir/deep")
    assert c.list(b"/tool/dir") == [b"deep"]
    assert c.exists(b"/tool/dir/deep") and not c.exists(b"/tool/none")
    c.set_perms(b"/tool/py", [b"n0", b"r7"])
    assert c.get_perms(b"/tool/py") == [b"n0", b"r7"]
    assert c.get_domain_path(0) == b"/local/domain/0"
    # A transaction that another client's write runs into is done again.
    c.transaction()
    assert c[b"/tool/py"] == b"one"
    c[b"/tool/py"] = b"mine"
    other[b"/tool/py"] = b"theirs"
    assert c.commit() is False
    assert c[b"/tool/py"] == b"theirs"
    c.transaction()
    c[b"/tool/py"] = b"mine"
    assert c.commit() is True
    m = c.monitor()
    m.watch(b"/tool/watched", b"token")
    first = next(m.wait())
    assert (first.path, first.token) == (b"/tool/watched", b"token"), first
    other[b"/tool/watched/below"] = b"1"
    event = next(m.wait())
    assert event.path == b"/tool/watched/below", event
    c.delete(b"/tool/dir")
    try:
        c[b"/tool/dir"]
        assert False
    except PyXSError as e:
        assert e.args[0] == 2, e
print("all is as it should be")
`,
      );
      const { stdout } = await run("/usr/bin/python3", [script, path], { timeout: 60_000 });
      expect(stdout).toContain("all is as it should be");
    },
  );
  test("another file in the socket's place is left alone", async () => {
    const file = join(dir, "file");
    writeFileSync(file, "precious");
    await expect(serveXenStore(machine.xenstore, file, () => undefined)).rejects.toThrow("not a socket");
    expect(existsSync(file)).toBe(true);
    expect(execFileSync("cat", [file], { encoding: "utf8" })).toBe("precious");
  });
});
