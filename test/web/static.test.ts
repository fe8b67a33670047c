// The lab's static build on a plain file server: no headers of ours, no isolation, nothing of Debian.
import { createServer, type Server } from "node:http";
import { readFile } from "node:fs/promises";
import { join, normalize } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { debian, haveDebian } from "../cli-helper.js";
import { buildLab, dropFiles, haveChromium, openPage, ready, seen, type } from "./browser.js";

const TYPES: Readonly<Record<string, string>> = { html: "text/html", js: "text/javascript", css: "text/css" };

/** What any file server does: the file at that path, its type by its ending. It lies in a folder below the root. */
function plainServer(folder: string): Promise<{ server: Server; url: string; asked: string[] }> {
  const asked: string[] = [];
  const server = createServer((request, answer) => {
    const path = (request.url ?? "/").split("?")[0] ?? "/";
    asked.push(path);
    const inside = normalize(path.replace(/^\/some\/folder\//, "")).replace(/^(\.\.[/\\])+/, "");
    readFile(join(folder, inside === "" || inside === "." ? "index.html" : inside)).then(
      (bytes) => {
        const type =
          TYPES[inside.slice(inside.lastIndexOf(".") + 1)] ??
          (inside === "." ? "text/html" : "application/octet-stream");
        answer.writeHead(200, { "Content-Type": type }).end(bytes);
      },
      () => answer.writeHead(404).end(),
    );
  });
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => {
      const at = server.address();
      const port = typeof at === "object" && at !== null ? at.port : 0;
      resolve({ server, url: `http://localhost:${port}/some/folder/`, asked });
    });
  });
}

describe.skipIf(!haveChromium)("the static lab (needs the package chromium)", () => {
  let plain: Awaited<ReturnType<typeof plainServer>>;
  beforeAll(async () => {
    plain = await plainServer(await buildLab());
  }, 120_000);
  afterAll(() => {
    plain.server.close();
    plain.server.closeAllConnections();
  });

  test("boots a guest from a plain file server, in a page that is not isolated; then the server has nothing to do", async () => {
    const lab = await openPage(plain.url);
    try {
      const { page } = lab;
      await ready(page);
      expect(await page.evaluate("crossOriginIsolated")).toBe(false);
      await page.waitForSelector("text=This server has no Debian kernel");
      await page.click('[data-test="boot-console-echo"]');
      await seen(page, "console-echo", /quit/i, 20_000);
      const before = plain.asked.length;
      await type(page, "console-echo", "no server takes part\n");
      await seen(page, "console-echo", /you said: no server takes part/, 20_000);
      for (const id of ["scheduler", "events", "rings", "store"]) {
        await page.click(`#tab-${id}`);
        await page.waitForTimeout(300);
      }
      expect(plain.asked.slice(before)).toEqual([]);
      expect(lab.errors).toEqual([]);
    } finally {
      await lab.close();
    }
  }, 60_000);

  test.skipIf(!haveDebian)(
    "a vmlinuz and an initramfs that are dropped boot to a shell (npm run setup:debian)",
    async () => {
      const lab = await openPage(plain.url);
      try {
        const { page } = lab;
        await ready(page);
        await dropFiles(page, [debian("vmlinuz-cloud"), debian("initramfs.cpio.gz")]);
        await page.waitForSelector('dialog:has-text("vmlinuz-cloud"):has-text("initramfs.cpio.gz")');
        await page.fill('dialog label:has-text("Name") input', "dropped");
        await page.click('dialog button[type="submit"]');
        await seen(page, "dropped", /xenolith:\/#/, 180_000);
        await type(page, "dropped", "echo $((6*7))-ok\n");
        await seen(page, "dropped", /42-ok/, 30_000);
      } finally {
        await lab.close();
      }
    },
    240_000,
  );
});
