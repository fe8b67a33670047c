// Debian's Chromium on a lab: a server, a page, and what a person would do with it.
import { existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "vite";
import { afterAll, afterEach, beforeAll, beforeEach, expect } from "vitest";
import { chromium, type BrowserContext, type Page } from "playwright-core";
import { startWeb, type WebServer } from "../../src/cli/web.js";
import { newest, takeLock } from "../building.js";
import { root } from "../cli-helper.js";

export const CHROMIUM = "/usr/bin/chromium";
export const haveChromium = existsSync(CHROMIUM);
export const built = join(root, ".cache/lab-test");

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** The lab, built where it is missing or older than its sources. Test files run in several processes: one builds, the others wait. */
export async function buildLab(): Promise<string> {
  const done = join(built, "index.html");
  const release = takeLock(`${built}.building`);
  try {
    const sources = Math.max(...["src", "guests", "docs/book", "vite.config.ts"].map((p) => newest(join(root, p))));
    if (!existsSync(done) || statSync(done).mtimeMs < sources) {
      await build({
        configFile: join(root, "vite.config.ts"),
        logLevel: "error",
        build: { outDir: built, emptyOutDir: true },
      });
    }
  } finally {
    release();
  }
  return built;
}

export interface Lab {
  readonly page: Page;
  /** Errors of the page that nobody caught. */
  readonly errors: readonly string[];
  close(): Promise<void>;
}

export async function openPage(
  url: string,
  options: { width?: number; height?: number; scheme?: "dark" | "light" } = {},
): Promise<Lab> {
  const profile = mkdtempSync(join(tmpdir(), "xenolith-chromium-"));
  const { width = 1280, height = 800, scheme = "dark" } = options;
  const context: BrowserContext = await chromium.launchPersistentContext(profile, {
    executablePath: CHROMIUM,
    headless: true,
    viewport: { width, height },
    colorScheme: scheme,
    acceptDownloads: true,
    args: FLAGS,
  });
  const page = context.pages()[0] ?? (await context.newPage());
  const errors: string[] = [];
  page.on("pageerror", (e) => errors.push(e.stack ?? e.message));
  await page.goto(url);
  return {
    page,
    errors,
    close: async () => {
      await context.close();
      rmSync(profile, { recursive: true, force: true });
    },
  };
}

export async function serveLab(): Promise<WebServer> {
  return startWeb({ port: 0, folder: await buildLab() });
}

/** In a group of tests: one server, and for each test a page whose errors end it. */
export function labPerTest(): Pick<Lab, "page"> {
  let server: WebServer;
  let lab: Lab;
  beforeAll(async () => {
    server = await serveLab();
  }, 120_000);
  afterAll(() => server.close());
  beforeEach(async () => {
    lab = await openPage(server.url);
    await ready(lab.page);
  }, 60_000);
  afterEach(async () => {
    const { errors } = lab;
    await lab.close();
    expect(errors).toEqual([]);
  });
  return {
    get page() {
      return lab.page;
    },
  };
}

/** The gallery is there and can be clicked. */
export async function ready(page: Page): Promise<void> {
  await page.waitForSelector('[data-test="boot-hello"]:not([disabled])', { timeout: 30_000 });
}

export const tile = (name: string): string => `article[aria-label="Domain ${name}"]`;

/** The visible text of a domain's terminal. */
export async function screenOf(page: Page, name: string): Promise<string> {
  return (await page.locator(`${tile(name)} .xterm-rows > div`).allTextContents()).join("\n");
}

/** Wait until a terminal shows the pattern; how long it took, in ms. */
export async function seen(page: Page, name: string, pattern: RegExp, timeoutMs: number): Promise<number> {
  const start = Date.now();
  for (;;) {
    // Lines that wrapped are still one: a terminal row ends where the screen does.
    const text = (await screenOf(page, name)).replace(/\u00a0/g, " ");
    if (pattern.test(text) || pattern.test(text.replace(/\n/g, ""))) return Date.now() - start;
    if (Date.now() - start > timeoutMs) {
      throw new Error(`${name} did not show ${pattern} within ${timeoutMs / 1000} s. Its screen:\n${text}`);
    }
    await page.waitForTimeout(50);
  }
}

/** Type at a domain's console. */
export async function type(page: Page, name: string, text: string): Promise<void> {
  await page.focus(`${tile(name)} textarea`);
  await page.keyboard.type(text);
}

export async function view(page: Page, id: string): Promise<void> {
  await page.click(`#tab-${id}`);
  await page.waitForSelector(`[data-view="${id}"]`);
}

/** Debian by the form, with a name. */
export async function bootDebian(page: Page, name: string, memory = 256): Promise<void> {
  await page.click('header button:has-text("New domain")');
  await page.selectOption("dialog select", "debian");
  await page.fill('dialog label:has-text("Name") input', name);
  await page.fill('dialog label:has-text("Memory") input', String(memory));
  await page.click('dialog button[type="submit"]');
}

/** Drop a file on the page: its text, or a file of this machine. */
export async function dropFile(page: Page, name: string, content: string | { path: string }): Promise<void> {
  await drop(
    page,
    typeof content === "string" ? { name, mimeType: "", buffer: Buffer.from(content, "latin1") } : content.path,
    name,
  );
}
/** Drop files of this machine, with their own names. */
export async function dropFiles(page: Page, paths: string[]): Promise<void> {
  await drop(page, paths, null);
}

async function drop(page: Page, files: Parameters<Page["setInputFiles"]>[1], name: string | null): Promise<void> {
  await page.evaluate(`{
    const input = document.createElement("input");
    input.type = "file";
    input.multiple = true;
    input.id = "drop-test";
    document.body.append(input);
  }`);
  await page.setInputFiles("#drop-test", files);
  await page.evaluate(`{
    const input = document.getElementById("drop-test");
    const dataTransfer = new DataTransfer();
    for (const f of input.files) dataTransfer.items.add(new File([f], ${JSON.stringify(name)} ?? f.name));
    input.remove();
    document.querySelector(".app").dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
  }`);
}
