// The same work in Node and in a page: Debian's kernel, the same initramfs, interleaved in one run; and whether a page stays smooth.
//
//   npm run build && npm run build:web && node bench/browser.mjs
//   node bench/browser.mjs --rounds 5 --json
//
// Needs Debian's package chromium and `npm run setup:debian`. What counts is the processor time of the thread that runs the machine (Node's
// main thread, the page's worker), between what the guest's console shows: on a busy host elapsed time says nothing. Each work is done
// once as a warm-up, and the best of the rounds counts. The frame times are those of requestAnimationFrame while four domains
// compute without end and the scheduler's view is drawn.
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const args = process.argv.slice(2);
const json = args.includes("--json");
const rounds = args.includes("--rounds") ? Number(args[args.indexOf("--rounds") + 1]) : 3;
const { startWeb } = await import(join(root, "dist/cli/web.js"));

/** Processor time of a thread in ms, user and system (proc(5)). */
function threadMs(pid, tid) {
  const text = readFileSync(`/proc/${pid}/task/${tid}/stat`, "utf8");
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}
/** The thread of a page's worker, among all processes that were started with this profile. */
function workerThread(profile) {
  const found = [];
  for (const pid of readdirSync("/proc").filter((n) => /^\d+$/.test(n))) {
    try {
      if (!readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("--type=renderer")) continue;
      if (
        !readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(profile) &&
        !ancestors(pid).some((p) => ownProfile(p, profile))
      )
        continue;
      for (const tid of readdirSync(`/proc/${pid}/task`)) {
        const name = readFileSync(`/proc/${pid}/task/${tid}/comm`, "utf8").trim();
        if (name.startsWith("DedicatedWorker")) found.push({ pid, tid });
      }
    } catch {
      // It ended meanwhile.
    }
  }
  if (found.length !== 1) throw new Error(`${found.length} worker threads, not one`);
  return found[0];
}
function ancestors(pid) {
  const out = [];
  for (let p = pid; Number(p) > 1;) {
    p = /PPid:\s*(\d+)/.exec(readFileSync(`/proc/${p}/status`, "utf8"))?.[1] ?? "0";
    if (Number(p) > 1) out.push(p);
  }
  return out;
}
function ownProfile(pid, profile) {
  return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(profile);
}

const PROMPT = /xenolith:\/#/;
const WORK = [
  { name: "dd 64 MiB | md5sum", run: "dd if=/dev/zero bs=1M count=64 2>/dev/null | md5sum" },
  { name: "shell loop, 100,000", run: "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done" },
  { name: "fork+exec, 500", run: "i=0; while [ $i -lt 500 ]; do /bin/true; i=$((i+1)); done" },
];
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** @returns {Promise<{type(text: string): Promise<void>, seen(pattern: RegExp): Promise<void>, end(): Promise<void>}>} */
async function inNode() {
  const child = spawn(
    process.execPath,
    [
      join(root, "bin/xenolith.js"),
      "run",
      join(root, ".cache/debian/vmlinuz-cloud"),
      ...["--ramdisk", join(root, ".cache/debian/initramfs.cpio.gz"), "--cmdline", "console=hvc0", "--pcpus", "2"],
    ],
    { stdio: ["pipe", "pipe", "ignore"] },
  );
  let text = "";
  let look = () => {};
  child.stdout.setEncoding("utf8").on("data", (s) => {
    text += s;
    look();
  });
  return {
    type: async (s) => void child.stdin.write(s),
    seen: (pattern) =>
      new Promise((resolve) => {
        look = () => {
          if (!pattern.test(text)) return;
          text = "";
          look = () => {};
          resolve();
        };
        look();
      }),
    cpuMs: () => threadMs(child.pid, child.pid),
    end: () =>
      new Promise((resolve) => {
        child.on("close", () => resolve());
        child.kill("SIGKILL");
      }),
  };
}

async function openPage(url) {
  const profile = mkdtempSync(join(tmpdir(), "xenolith-bench-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: "/usr/bin/chromium",
    headless: true,
    viewport: { width: 1280, height: 800 },
    args: FLAGS,
  });
  const page = context.pages()[0] ?? (await context.newPage());
  await page.goto(url);
  await page.waitForSelector('[data-test="boot-hello"]:not([disabled])');
  const end = async () => {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  };
  return { page, end, profile };
}

async function inPage(url) {
  const { page, end, profile } = await openPage(url);
  const { pid, tid } = workerThread(profile);
  const before = threadMs(pid, tid);
  await page.click('[data-test="boot-debian"]');
  await page.waitForSelector('article[aria-label="Domain debian"] textarea');
  return {
    type: async (s) => {
      await page.focus('article[aria-label="Domain debian"] textarea');
      await page.keyboard.insertText(s.replace(/\n$/, ""));
      await page.keyboard.press("Enter");
    },
    // Looked at in the page itself: no message between the processes takes part.
    seen: (pattern) =>
      page.evaluate(
        (source) =>
          new Promise((resolve) => {
            const rows = document.querySelector('article[aria-label="Domain debian"] .xterm-rows');
            const timer = setInterval(() => {
              if (!new RegExp(source).test(rows?.textContent?.replaceAll("\u00a0", " ") ?? "")) return;
              clearInterval(timer);
              resolve();
            }, 5);
          }),
        pattern.source,
      ),
    cpuMs: () => threadMs(pid, tid) - before,
    end,
  };
}

/** Milliseconds of each work. */
async function round(open) {
  const out = {};
  const guest = await open();
  await guest.seen(PROMPT);
  out["power-on to shell"] = guest.cpuMs();
  let n = 0;
  for (const w of WORK) {
    for (let k = 0; k < 2; k++) {
      const mark = `@done${n++}@`;
      // The mark is not in what is typed, so that its echo does not count.
      await guest.type(`clear; (${w.run}) >/dev/null; echo ${mark.slice(0, 3)}""${mark.slice(3)}\n`);
      const start = guest.cpuMs();
      await guest.seen(new RegExp(mark));
      out[w.name] = guest.cpuMs() - start;
    }
  }
  await guest.end();
  return out;
}

/** Frame times while four domains compute, in ms. */
async function frames(url) {
  const { page, end, profile } = await openPage(url);
  const { pid } = workerThread(profile);
  await page.click('[data-test="boot-scheduler"]');
  await page.waitForSelector('article[aria-label="Domain spin-c"]');
  await page.click('header button:has-text("New domain")');
  await page.selectOption("dialog select", "spin");
  await page.click('dialog button[type="submit"]');
  await page.waitForSelector('article[aria-label="Domain spin"]');
  await page.click("#tab-scheduler");
  await page.waitForTimeout(4000);
  const busyBefore = threadMs(pid, pid);
  const started = performance.now();
  const times = await page.evaluate(
    () =>
      new Promise((resolve) => {
        const all = [];
        let last = performance.now();
        const step = (now) => {
          all.push(now - last);
          last = now;
          if (all.length < 400) requestAnimationFrame(step);
          else resolve(all.slice(5));
        };
        requestAnimationFrame(step);
      }),
  );
  const busy = (threadMs(pid, pid) - busyBefore) / (performance.now() - started);
  const domains = await page.locator('article[data-state="running"]').count();
  await end();
  times.sort((a, b) => a - b);
  const at = (q) => times[Math.floor(q * (times.length - 1))];
  const mean = times.reduce((a, b) => a + b, 0) / times.length;
  return {
    domains,
    busy,
    frames: times.length,
    fps: 1000 / mean,
    median: at(0.5),
    p95: at(0.95),
    p99: at(0.99),
    max: at(1),
  };
}

const web = await startWeb({ port: 0 });
const best = { node: {}, page: {} };
for (let r = 0; r < rounds; r++) {
  for (const [where, open] of [
    ["node", inNode],
    ["page", () => inPage(web.url)],
  ]) {
    const times = await round(open);
    for (const [name, ms] of Object.entries(times)) best[where][name] = Math.min(best[where][name] ?? Infinity, ms);
    if (!json)
      console.error(
        `round ${r + 1}, ${where}: ${Object.values(times)
          .map((t) => t.toFixed(0))
          .join(" ")} ms`,
      );
  }
}
const smooth = await frames(web.url);
await web.close();
const rows = Object.keys(best.node).map((name) => ({
  name,
  nodeMs: best.node[name],
  pageMs: best.page[name],
  ratio: best.page[name] / best.node[name],
}));
if (json) console.log(JSON.stringify({ rows, smooth }));
else {
  console.log("| work | Node, ms | page, ms | page / Node |\n| --- | ---: | ---: | ---: |");
  for (const r of rows)
    console.log(
      `| ${r.name.replace("|", "\\|")} | ${r.nodeMs.toFixed(0)} | ${r.pageMs.toFixed(0)} | ${r.ratio.toFixed(2)} |`,
    );
  console.log(
    `\n${smooth.domains} domains computing: ${smooth.fps.toFixed(1)} frames a second; frame times median ${smooth.median.toFixed(1)}, ` +
      `95 % ${smooth.p95.toFixed(1)}, 99 % ${smooth.p99.toFixed(1)}, longest ${smooth.max.toFixed(1)} ms; the page's main thread is busy ${(smooth.busy * 100).toFixed(0)} % of the time`,
  );
}
process.exit(0);
