// A page that looks at a host service of the command line, through the local socket of `xenolith web`.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WebSocket } from "ws";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { WebServer } from "../../src/cli/web.js";
import { cli, ensureBuilt, haveDebian, image, root } from "../cli-helper.js";
import { bootDebian, dropFile, haveChromium, openPage, ready, seen, serveLab, tile, type, view } from "./browser.js";

describe.skipIf(!haveChromium)("a host service in the lab (needs the package chromium)", () => {
  const state = mkdtempSync(join(tmpdir(), "xenolith-lab-state-"));
  const before = process.env["XENOLITH_STATE"];
  let server: WebServer;
  const xenolith = (...args: string[]): string => {
    const r = spawnSync(process.execPath, [cli, ...args], { cwd: root, encoding: "utf8" });
    if (r.status !== 0) throw new Error(`xenolith ${args.join(" ")}: ${r.stderr}${r.stdout}`);
    return r.stdout;
  };
  beforeAll(async () => {
    process.env["XENOLITH_STATE"] = state;
    ensureBuilt();
    server = await serveLab();
    xenolith("up", "--memory", "384");
    const config = join(state, "echo.cfg");
    writeFileSync(
      config,
      `name = "echo"\nkernel = "${image("console-echo")}"\nmemory = 32\non_poweroff = "preserve"\n`,
    );
    xenolith("xl", "create", config);
  }, 180_000);
  afterAll(async () => {
    await server.close();
    spawnSync(process.execPath, [cli, "down", "--force"], { cwd: root });
    if (before === undefined) delete process.env["XENOLITH_STATE"];
    else process.env["XENOLITH_STATE"] = before;
    rmSync(state, { recursive: true, force: true });
  }, 60_000);

  test("its domains are there, live, with consoles and views; what the page does, xl sees", async () => {
    const lab = await openPage(`${server.url}?host=service`);
    try {
      const { page } = lab;
      await seen(page, "echo", /quit/i, 30_000);
      await type(page, "echo", "from the page\n");
      await seen(page, "echo", /you said: from the page/, 20_000);
      for (const id of ["scheduler", "events", "rings", "store", "memory", "hypercalls", "trace", "cpu"]) {
        await view(page, id);
        await page.waitForTimeout(500);
      }
      await page.waitForSelector('[data-view="cpu"] .insn.now');
      await view(page, "store");
      await page.waitForSelector('[data-view="store"] .node:has-text("echo")');
      await page.click(`${tile("echo")} [aria-label="Pause"]`);
      await page.waitForSelector(`${tile("echo")}[data-state="paused"]`);
      expect(xenolith("xl", "list")).toMatch(/echo\s+\d+\s+32\s+1\s+-[b-]p---/);
      await page.click(`${tile("echo")} [aria-label="Unpause"]`);
      // From the page's gallery into the service.
      await page.click('.course button:has-text("The simplest kernel")');
      await page.click('[data-test="run-hello"]');
      await seen(page, "hello", /PASS: hello/, 20_000);
      expect(xenolith("xl", "list")).toMatch(/hello/);
      expect(lab.errors).toEqual([]);
    } finally {
      await lab.close();
    }
  }, 120_000);

  test.skipIf(!haveDebian)(
    "a domain that the command line saved is restored by dropping its file (npm run setup:debian)",
    async () => {
      const file = join(state, "debian.xensave");
      const lab = await openPage(`${server.url}?host=service`);
      try {
        await lab.page.waitForSelector('header button:has-text("New domain")');
        await lab.page.waitForSelector(tile("echo"));
        await bootDebian(lab.page, "travels", 128);
        await seen(lab.page, "travels", /xenolith:\/#/, 180_000);
        await type(lab.page, "travels", "z=7\n");
        await lab.page.waitForTimeout(500);
        xenolith("xl", "save", "travels", file);
        await lab.page.waitForSelector(`${tile("travels")}[data-state="gone"]`);
        await lab.page.goto(server.url);
        await ready(lab.page);
        await dropFile(lab.page, "debian.xensave", { path: file });
        await lab.page.waitForSelector(tile("travels"), { timeout: 60_000 });
        await type(lab.page, "travels", "\necho $((z*6))-d\n");
        await seen(lab.page, "travels", /42-d/, 60_000);
      } finally {
        await lab.close();
      }
    },
    400_000,
  );

  test("a page of another origin is not let in", async () => {
    const url = `${server.url.replace("http", "ws")}lab-socket`;
    const tryWith = (origin: string): Promise<string> =>
      new Promise((resolve) => {
        const ws = new WebSocket(url, { origin });
        ws.on("open", () => {
          ws.close();
          resolve("open");
        });
        ws.on("error", (e) => resolve(e.message));
      });
    expect(await tryWith("http://example.org")).toMatch(/403/);
    expect(await tryWith(new URL(server.url).origin)).toBe("open");
  });

  test("without a service the page says so, and how to get one", async () => {
    process.env["XENOLITH_STATE"] = join(state, "none");
    const lab = await openPage(`${server.url}?host=service`);
    try {
      await lab.page.waitForSelector('[role="alert"]:has-text("no host service is running")');
      await lab.page.waitForSelector('[role="alert"]:has-text("xenolith up")');
    } finally {
      process.env["XENOLITH_STATE"] = state;
      await lab.close();
    }
  }, 60_000);
});
