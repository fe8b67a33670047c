// The host service as a process of its own: who starts it, what outlives whom, and what is found when it has died.
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, realpathSync, rmSync, statSync } from "node:fs";
import { connect, createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { connectHost, serviceGone, type HostConnection } from "../../src/sys/node/index.js";
import { cli, ensureBuilt, root } from "../cli-helper.js";
import { LIMIT, refusal, request, terminal, until } from "./testing.js";

let folder = "";
const open: HostConnection[] = [];

beforeAll(() => ensureBuilt(), 300_000);
beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), "xenolith-state-")));
});
afterEach(async () => {
  for (const c of open.splice(0)) c.close();
  try {
    const c = await connectHost({ stateDir: folder, autostart: false, onNotice: () => {} });
    await c.request("stop", "force");
    await c.closed;
    await serviceGone(folder);
  } catch {
    // There is none.
  }
  rmSync(folder, { recursive: true, force: true });
}, LIMIT);

const env = (): NodeJS.ProcessEnv => ({ ...process.env, XENOLITH_STATE: folder });
function xenolith(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const r = spawnSync(process.execPath, [cli, ...args], { cwd: root, encoding: "utf8", env: env(), timeout: LIMIT });
  return { status: r.status, stdout: r.stdout, stderr: r.stderr };
}
function background(...args: string[]): { child: ChildProcess; done: Promise<{ status: number | null; out: string }> } {
  const child = spawn(process.execPath, [cli, ...args], { cwd: root, env: env() });
  let out = "";
  child.stdout.setEncoding("utf8").on("data", (s: string) => (out += s));
  child.stderr.setEncoding("utf8").on("data", (s: string) => (out += s));
  return { child, done: new Promise((resolve) => child.on("close", (status) => resolve({ status, out }))) };
}
function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
const notices: string[] = [];
async function host(autostart = true): Promise<HostConnection> {
  const c = await connectHost({ stateDir: folder, autostart, onNotice: (line) => void notices.push(line) });
  open.push(c);
  return c;
}
interface Facts {
  pid: number;
  state_dir: string;
  socket: string;
  xenstore_socket: string;
  free_memory: number;
  migration_port?: number;
  migration_socket?: string;
  domains: { name: string }[];
}
const facts = (): Facts => JSON.parse(xenolith("info", "--json").stdout) as Facts;

describe("the host service", { timeout: 2 * LIMIT }, () => {
  it("is started by `up`, says so when it is there already, and is ended by `down`", async () => {
    const first = xenolith("up", "--memory", "128", "--migration-port", "0", "--forward", "tcp:0:22");
    expect(first.stderr).toBe("");
    expect(first.stdout).toMatch(/^the host service is up: process \d+, \d+ MiB for domains, 4 CPUs, state in /);
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    const { pid, state_dir, migration_port, migration_socket } = facts();
    expect(migration_port).toBeGreaterThan(0);
    expect(migration_socket).toBe(join(folder, "migration"));
    expect(state_dir).toBe(folder);
    const second = xenolith("up");
    expect(second.stdout).toContain(`is up already: process ${pid},`);
    const down = xenolith("down");
    expect([down.status, down.stdout, down.stderr]).toEqual([0, "the host service has ended\n", ""]);
    await until("its process is gone", () => !isThere(pid));
    expect(existsSync(join(folder, "domains.json"))).toBe(false);
    expect(xenolith("down").stdout).toBe("no host service is running\n");
  });

  it("that cannot start says why, and leaves nothing", async () => {
    const busy = createServer().listen(0, "127.0.0.1");
    await new Promise((r) => busy.on("listening", r));
    const { port } = busy.address() as AddressInfo;
    const r = xenolith("up", "--migration-port", String(port));
    busy.close();
    expect(r.status).toBe(2);
    expect(r.stderr).toMatch(
      /^xenolith: the host service could not start: migrations at 127\.0\.0\.1:\d+: .*EADDRINUSE/,
    );
    expect(existsSync(join(folder, "domains.json"))).toBe(false);
    expect(xenolith("up", "--forward", "tcp:1").stderr).toMatch(/It must be like tcp:2222:22/);
    expect(xenolith("down").stderr).toBe("");
  });

  it("is started by the first command that needs it, and outlives it", async () => {
    const c = await host();
    await c.create(request("spin"));
    const { pid } = await c.info();
    c.close();
    expect(facts()).toMatchObject({ pid, domains: [{ name: "Domain-0" }, { name: "spin" }] });
  });

  it("is one, however many commands start it at once", async () => {
    const all = await Promise.all([1, 2, 3, 4].map(() => background("info", "--json").done));
    expect(all.map((r) => r.status)).toEqual([0, 0, 0, 0]);
    expect(new Set(all.map((r) => (JSON.parse(r.out) as Facts).pid)).size).toBe(1);
  });

  it("refuses to end while domains run, unless told what to do with them", async () => {
    const c = await host();
    await c.create(request("spin"));
    const r = xenolith("down");
    expect(r.status).not.toBe(0);
    expect(r.stderr).toMatch(/domains are running: spin: --shutdown shuts them down first, --force destroys them\n$/);
    const late = xenolith("down", "--shutdown", "--timeout", "1");
    expect(late.stderr).toMatch(/still running after 1 s: spin: --force destroys them\n$/);
    expect(xenolith("down", "--force").status).toBe(0);
    expect(await c.closed).toMatch(/connection/);
  });

  it("down --shutdown ends what has ended by itself, and what its configuration keeps", async () => {
    const c = await host();
    await c.create(request("crash", { on_crash: "preserve" }));
    await until("it has crashed", async () => (await c.getDomain("crash")).crashed);
    expect(xenolith("down", "--shutdown")).toMatchObject({ status: 0, stderr: "" });
  });

  it("a service that was killed is found by the next command, which names what was lost, once", async () => {
    const c = await host();
    await c.create(request("spin", { name: "one" }));
    await c.create(request("spin", { name: "two" }));
    const { pid } = await c.info();
    process.kill(pid ?? 0, "SIGKILL");
    expect(await c.closed).toMatch(/lost/);
    const next = xenolith("info", "--json");
    expect(next.stderr).toMatch(
      new RegExp(`^xenolith: the host service \\(process ${pid ?? 0}\\) ended without being asked to`),
    );
    expect(next.stderr).toMatch(/these 2 domains were lost with it: one \(1\), two \(2\)\n$/);
    expect((JSON.parse(next.stdout) as Facts).domains.map((d) => d.name)).toEqual(["Domain-0"]);
    expect(xenolith("info", "--json").stderr).toBe("");
  });

  it("`down` tells of a killed service too, and starts none", async () => {
    const c = await host();
    await c.create(request("spin"));
    process.kill((await c.info()).pid ?? 0, "SIGKILL");
    await c.closed;
    const r = xenolith("down");
    expect(r.stdout).toBe("no host service is running\n");
    expect(r.stderr).toMatch(/this domain was lost with it: spin \(1\)/);
    expect(xenolith("down").stderr).toBe("");
  });

  it("SIGTERM ends it, and the next command knows why", async () => {
    const c = await host();
    const { pid } = await c.info();
    process.kill(pid ?? 0, "SIGTERM");
    await c.closed;
    await until("its process is gone", () => !isThere(pid ?? 0));
    expect(xenolith("info").stderr).toMatch(
      /ended without being asked to: it got SIGTERM.*\n.*no domain was running on it/,
    );
  });

  it("a command that is killed in the middle harms no domain", async () => {
    const c = await host();
    await c.create(request("console-echo"));
    const { socket } = await c.info();
    // A caller that asks for a wait and a console, types, and is gone without a word.
    const raw = connect(socket ?? "");
    await new Promise((r) => raw.on("connect", r));
    raw.write(
      '{"id":1,"method":"waitForEnd","params":["console-echo"]}\n{"id":2,"method":"openConsole","params":["console-echo",0]}\n{"id":3,"me',
    );
    await new Promise((r) => setTimeout(r, 100));
    raw.destroy();
    const t = await terminal(c, "console-echo");
    t.write("still there\n");
    await until("it answers", () => t.text().includes("you said: still there"));
  });

  it("what makes no sense on the socket costs that connection only", async () => {
    const c = await host();
    const { socket } = await c.info();
    const send = (bytes: string): Promise<string> =>
      new Promise((resolve, reject) => {
        let got = "";
        const raw = connect(socket ?? "");
        raw.setEncoding("utf8").on("data", (s: string) => (got += s));
        raw.on("close", () => resolve(got));
        raw.on("error", () => resolve(got));
        raw.on("connect", () => raw.write(bytes));
        setTimeout(() => reject(new Error("it was not closed")), 10_000);
      });
    for (const bytes of [
      "nonsense\n",
      "[]\n",
      '{"id":"x"}\n',
      '{"id":1,"method":"info"}\n',
      "x".repeat(9 << 20),
      '{"stream":1}\n',
    ])
      expect(await send(bytes)).toBe("");
    const asked = await send(
      '{"id":1,"method":"constructor","params":[]}\n{"id":2,"method":"destroy","params":[{}]}\nx\n',
    );
    expect(asked).toBe("");
    expect(await refusal(c.request("constructor"))).toMatchObject({ code: "unsupported" });
    expect(await refusal(c.request("destroy", {}))).toMatchObject({ code: "invalid" });
    expect(await refusal(c.request("create", { config: "", source: "x", extra: 1 }))).toMatchObject({
      code: "invalid",
    });
    expect((await c.listDomains()).length).toBe(1);
  });

  it("errors keep their code and message over the socket", async () => {
    const c = await host();
    expect(await refusal(c.getDomain(9))).toEqual({ code: "unknown-domain", message: "Domain '9' does not exist." });
    expect((await refusal(c.create({ config: "name=", source: "x.cfg" }))).message).toMatch(/^x\.cfg:1: /);
  });

  it("events and consoles come over the socket, what is kept first", async () => {
    const c = await host();
    const seen: string[] = [];
    c.onEvent((e) => void seen.push(`${e.type} ${e.name}`));
    await c.create(request("console", {}, { paused: true }));
    const t = await terminal(c, "console");
    await c.unpause("console");
    await until("the end", () => seen.includes("destroyed console") && t.ended() !== null);
    expect(t.text()).toContain("PASS: console");
    expect(seen[0]).toBe("created console");
    expect(readFileSync(join(folder, "console/guest-console.log"), "utf8")).toBe(t.text());
  });

  it("a state folder with a long path has its sockets elsewhere", async () => {
    const long = join(folder, "x".repeat(120));
    const c = await connectHost({ stateDir: long, onNotice: () => {} });
    const info = await c.info();
    expect(info.stateDir).toBe(long);
    expect((info.socket ?? "").length).toBeLessThan(100);
    expect((info.xenstoreSocket ?? "").length).toBeLessThan(100);
    await c.request("stop", "force");
    await c.closed;
    rmSync(join(info.socket ?? "", ".."), { recursive: true, force: true });
  });

  it.skipIf(spawnSync("which", ["xenstore-ls"]).status !== 0)(
    "XenStore's socket is one of its facts (needs xenstore-utils)",
    async () => {
      const c = await host();
      await c.create(request("spin"));
      const r = spawnSync("xenstore-read", ["/local/domain/1/name"], {
        encoding: "utf8",
        env: { ...process.env, XENSTORED_PATH: facts().xenstore_socket },
        timeout: 10_000,
      });
      expect(r.stdout).toBe("spin\n");
    },
  );
});
