// A run recorded in the page, replayed there, and gone through backwards.
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Page } from "playwright-core";
import { parseRecording } from "../../src/debug/replay/recording.js";
import { haveDebian, image } from "../cli-helper.js";
import { dropFile, dropFiles, haveChromium, labPerTest, ready, screenOf, seen, tile, type, view } from "./browser.js";

const bar = 'section[aria-label="Recorded run"]';
const position = async (page: Page): Promise<number> => Number(await page.getAttribute(bar, "data-position"));

async function record(page: Page, what: string): Promise<void> {
  await page.click('[data-test="record-run"]');
  await page.selectOption("dialog select", what);
  await page.click('dialog button[type="submit"]');
  await page.waitForSelector(`${bar}[data-mode="recording"]`);
}
/** Do it, and wait until the replay is somewhere else and stands still. */
async function go(page: Page, label: string): Promise<number> {
  const before = await position(page);
  await page.click(`${bar} [aria-label="${label}"]`);
  await page.waitForFunction(
    ([selector, was]) => {
      const d = (
        globalThis as unknown as { document: { querySelector(s: string): { dataset: Record<string, string> } | null } }
      ).document.querySelector(String(selector))?.dataset;
      return d?.["position"] !== String(was) && d?.["moving"] === "false";
    },
    [bar, before],
    { timeout: 60_000 },
  );
  return position(page);
}
/** The registers, once the view has followed: two looks that agree. */
async function registers(page: Page): Promise<string> {
  for (let last = ""; ;) {
    await page.waitForTimeout(450);
    const now = await page.innerText('[data-view="cpu"] [aria-label="Registers"]');
    if (now === last) return now;
    last = now;
  }
}

describe.skipIf(!haveChromium)("record and replay in the page (needs the package chromium)", () => {
  const lab = labPerTest();

  test("a recorded run is replayed exactly, goes back by hypercall and by instruction, and forward again to the same instant", async () => {
    const { page } = lab;
    // The page's own machine goes on behind it.
    await page.click('[data-test="boot-hello"]');
    await seen(page, "hello", /PASS: hello/, 20_000);
    await page.click('header button:has-text("New domain")');
    await page.selectOption("dialog select", "console-echo");
    await page.check('[data-test="record"]');
    await page.click('dialog button[type="submit"]');
    await page.waitForSelector(`${bar}[data-mode="recording"]`);
    await seen(page, "console-echo", /quit/i, 20_000);
    await type(page, "console-echo", "good morning\n");
    await seen(page, "console-echo", /you said: good morning/, 20_000);
    await type(page, "console-echo", "quit\n");
    await seen(page, "console-echo", /PASS: console-echo/, 20_000);
    const recorded = await screenOf(page, "console-echo");

    await page.click('[data-test="studio-stop"]');
    await page.waitForSelector(`${bar}[data-mode="replay"]`);
    await page.waitForFunction(
      (selector) =>
        (globalThis as unknown as { document: { querySelector(s: string): { textContent: string } | null } }).document
          .querySelector(selector)
          ?.textContent.trim() === "",
      `${tile("console-echo")} .xterm-rows`,
    );
    expect(await position(page)).toBe(0);

    const end = await go(page, "To the end");
    await page.waitForSelector('[data-test="exact"]:has-text("replayed exactly")');
    await seen(page, "console-echo", /PASS: console-echo/, 20_000);
    expect(await screenOf(page, "console-echo")).toBe(recorded);

    const call = await go(page, "Previous hypercall");
    expect(call).toBeLessThan(end);
    const earlier = await go(page, "Previous hypercall");
    expect(earlier).toBeLessThan(call);
    expect(await page.isVisible('[data-test="exact"]:has-text("exactly")')).toBe(false);
    await view(page, "cpu");
    const there = await registers(page);
    expect(await go(page, "Previous instruction")).toBe(earlier - 1);
    const before = await registers(page);
    expect(before).not.toBe(there);
    expect(await go(page, "Next instruction")).toBe(earlier);
    expect(await registers(page)).toBe(there);
    expect(await go(page, "Next hypercall")).toBe(call);

    const event = await go(page, "Previous event");
    expect(event).toBeLessThan(call);
    await page.focus(bar + " input[type=range]");
    expect(await go(page, "To the beginning")).toBe(0);
    expect((await screenOf(page, "console-echo")).trim()).toBe("");
    // By keys alone, and what is shown is of that instant: half of the conversation.
    await page.keyboard.press("Alt+h");
    await page.waitForFunction(
      (s) => !(globalThis as unknown as { document: { querySelector(s: string): unknown } }).document.querySelector(s),
      `${bar}[data-position="0"]`,
    );
    await page.keyboard.press("Alt+End");
    await page.waitForSelector('[data-test="exact"]:has-text("replayed exactly")');
    expect(await position(page)).toBe(end);

    // Back to the machine of the page: it is as it was.
    await page.click('[data-test="studio-leave"]');
    await seen(page, "hello", /PASS: hello/, 20_000);
    await page.waitForSelector(bar, { state: "detached" });
  }, 120_000);

  test("a recording is a small file that is replayed when it is dropped; another kernel and the command line's are refused in words", async () => {
    const { page } = lab;
    await record(page, "console-echo");
    await seen(page, "console-echo", /quit/i, 20_000);
    await type(page, "console-echo", "quit\n");
    await seen(page, "console-echo", /PASS: console-echo/, 20_000);
    await page.click('[data-test="studio-stop"]');
    await page.waitForSelector(`${bar}[data-mode="replay"]`);
    const [download] = await Promise.all([
      page.waitForEvent("download"),
      page.click(`${bar} [aria-label="Download the recording"]`),
    ]);
    expect(download.suggestedFilename()).toBe("console-echo.xrec");
    const content = readFileSync(await download.path(), "utf8");
    expect(content.length).toBeLessThan(4000);
    const recording = parseRecording(content);
    expect(recording.inputs.map((i) => Buffer.from(i.data).toString()).join("")).toMatch(/^quit[\r\n]$/);
    await page.click('[data-test="studio-leave"]');
    await ready(page);

    await dropFile(page, "console-echo.xrec", content);
    await page.waitForSelector(`${bar}[data-mode="replay"]`);
    expect(await go(page, "To the end")).toBe(recording.end?.retired);
    await page.waitForSelector('[data-test="exact"]:has-text("replayed exactly")');
    await seen(page, "console-echo", /PASS: console-echo/, 20_000);
    await page.click('[data-test="studio-leave"]');
    await ready(page);

    await dropFile(page, "changed.xrec", content.replace(/"sha256":"[0-9a-f]{8}/, '"sha256":"00000000'));
    await page.waitForSelector('[role="status"]:has-text("is not what it was when the run was recorded")');
    const { source } = recording.begin as { source: unknown };
    await dropFile(page, "cli.xrec", content.replace(JSON.stringify(source), '{"cwd":"/","words":["x"],"flags":{}}'));
    await page.waitForSelector('[role="status"]:has-text("made on the command line")');
    await dropFile(page, "none.xrec", content.replaceAll("guests/console-echo.elf", "files/of-mine.elf"));
    await page.waitForSelector(
      '[role="status"]:has-text("of-mine.elf is needed: drop it together with the recording")',
    );
    await ready(page);
  }, 120_000);

  test("a kernel of one's own is recorded, and replayed in a new page when both are dropped together", async () => {
    const { page } = lab;
    const folder = mkdtempSync(join(tmpdir(), "xenolith-own-"));
    try {
      const kernel = join(folder, "of-mine.elf");
      copyFileSync(image("hello"), kernel);
      await dropFiles(page, [kernel]);
      await page.waitForSelector('dialog:has-text("of-mine.elf")');
      await page.check('[data-test="record"]');
      await page.fill('dialog label:has-text("Memory") input', "16");
      await page.click('dialog button[type="submit"]');
      await seen(page, "guest", /PASS: hello/, 20_000);
      await page.click('[data-test="studio-stop"]');
      await page.waitForSelector(`${bar}[data-mode="replay"]`);
      const [download] = await Promise.all([
        page.waitForEvent("download"),
        page.click(`${bar} [aria-label="Download the recording"]`),
      ]);
      const file = join(folder, "guest.xrec");
      await download.saveAs(file);
      await page.reload();
      await ready(page);
      await dropFiles(page, [kernel, file]);
      await page.waitForSelector(`${bar}[data-mode="replay"]`);
      await go(page, "To the end");
      await page.waitForSelector('[data-test="exact"]:has-text("replayed exactly")');
      await seen(page, "guest", /PASS: hello/, 20_000);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }, 120_000);

  test.skipIf(!haveDebian)(
    "Debian is recorded to its shell, replayed exactly, and gone back in (npm run setup:debian)",
    async () => {
      const { page } = lab;
      await record(page, "debian");
      await seen(page, "debian", /xenolith:\/#/, 240_000);
      await type(page, "debian", "echo $((6*7))-ok\n");
      await seen(page, "debian", /42-ok/, 30_000);
      await page.click('[data-test="studio-stop"]');
      await page.waitForSelector(`${bar}[data-mode="replay"]`);
      await page.click(`${bar} [aria-label="To the end"]`);
      await page.waitForSelector('[data-test="exact"]:has-text("replayed exactly")', { timeout: 240_000 });
      await seen(page, "debian", /42-ok/, 10_000);
      const end = await position(page);
      const back = await go(page, "Previous hypercall");
      expect(back).toBeLessThan(end);
      expect(await go(page, "Previous instruction")).toBe(back - 1);
    },
    600_000,
  );
});
