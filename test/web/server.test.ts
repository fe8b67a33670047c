// `xenolith web` as a server: what it gives, and what it does not.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startWeb, type WebServer } from "../../src/cli/web.js";
import { allowed } from "../../src/sys/node/web/lab-socket.js";

describe("xenolith web", () => {
  const folder = mkdtempSync(join(tmpdir(), "xenolith-web-"));
  let server: WebServer;
  beforeAll(async () => {
    mkdirSync(join(folder, "lab/assets"), { recursive: true });
    writeFileSync(join(folder, "secret.txt"), "secret");
    writeFileSync(join(folder, "lab/index.html"), "<p>lab</p>");
    writeFileSync(join(folder, "lab/assets/x-123.js"), "1");
    server = await startWeb({ port: 0, folder: join(folder, "lab") });
  });
  afterAll(async () => {
    await server.close();
    rmSync(folder, { recursive: true });
  });
  /** As it is written: fetch would tidy the path. */
  const get = (
    path: string,
    method = "GET",
  ): Promise<{ status: number; headers: Record<string, unknown>; body: string }> =>
    new Promise((resolve, reject) => {
      const { port } = new URL(server.url);
      const r = request({ host: "127.0.0.1", port, path, method }, (answer) => {
        let body = "";
        answer.setEncoding("utf8").on("data", (s: string) => (body += s));
        answer.on("end", () => resolve({ status: answer.statusCode ?? 0, headers: answer.headers, body }));
      });
      r.on("error", reject);
      r.end();
    });

  test("gives the page with what isolates it", async () => {
    const { status, headers, body } = await get("/");
    expect(status).toBe(200);
    expect(body).toBe("<p>lab</p>");
    expect(headers).toMatchObject({
      "content-type": "text/html; charset=utf-8",
      "cross-origin-opener-policy": "same-origin",
      "cross-origin-embedder-policy": "require-corp",
    });
  });

  test("says what it has beside the page", async () => {
    const { body } = await get("/lab.json");
    expect(JSON.parse(body)).toMatchObject({ service: true });
  });

  test("files with a hash in their names may be kept, others are asked for again", async () => {
    expect((await get("/assets/x-123.js")).headers["cache-control"]).toMatch(/immutable/);
    expect((await get("/index.html")).headers["cache-control"]).toBe("no-cache");
  });

  test.each([
    "/../secret.txt",
    "/%2e%2e/secret.txt",
    "/assets/../../secret.txt",
    "/assets/..%2f..%2fsecret.txt",
    "//etc/passwd",
    "/..\\secret.txt",
    "/%00",
    "/assets",
    "/nothing",
  ])("gives nothing for %s", async (path) => {
    const { status, body } = await get(path);
    expect(status).toBeGreaterThanOrEqual(400);
    expect(body).not.toContain("secret\n");
    expect(body).not.toBe("secret");
  });

  test("only reads", async () => {
    expect((await get("/index.html", "POST")).status).toBe(405);
    expect(await get("/index.html", "HEAD")).toMatchObject({ status: 200, body: "" });
  });

  test("a port that is taken and a lab that is not built are told in a line", async () => {
    const { port } = new URL(server.url);
    await expect(startWeb({ port: Number(port), folder: join(folder, "lab") })).rejects.toThrow(
      `port ${port} is in use: choose another with --port`,
    );
    await expect(startWeb({ port: 0, folder })).rejects.toThrow("the lab is not built: npm run build:web");
  });

  test("the way to the host service is for pages of this machine's own names", () => {
    const of = (origin: string | undefined, host: string): boolean =>
      allowed({ headers: { host, ...(origin === undefined ? {} : { origin }) } });
    expect(of("http://localhost:8080", "localhost:8080")).toBe(true);
    expect(of("http://127.0.0.1:8080", "127.0.0.1:8080")).toBe(true);
    expect(of("http://localhost:9090", "localhost:8080")).toBe(false);
    expect(of("http://evil.example:8080", "evil.example:8080")).toBe(false);
    expect(of("null", "localhost:8080")).toBe(false);
    expect(of(undefined, "localhost:8080")).toBe(false);
  });
});
