// Debian's own xenstore-* commands against a running machine, over the unix socket.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { serveXenStore, type XenStoreSocket } from "../src/sys/node/xenstore-socket.js";
import { Machine } from "../src/toolstack/machine.js";
import { execFile } from "node:child_process";
import { promisify } from "node:util";

const tools = spawnSync("xenstore-ls", ["-h"]).error === undefined;

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
  test("another file in the socket's place is left alone", async () => {
    const file = join(dir, "file");
    writeFileSync(file, "precious");
    await expect(serveXenStore(machine.xenstore, file, () => undefined)).rejects.toThrow("not a socket");
    expect(existsSync(file)).toBe(true);
    expect(execFileSync("cat", [file], { encoding: "utf8" })).toBe("precious");
  });
});
