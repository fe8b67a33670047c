/**
 * top: the host and its domains as they run. On a terminal a live screen (top-screen.ts); with -b, or where stdout is no terminal,
 * rows one after the other.
 */
import type { Command, Xl } from "./command.js";
import { OK } from "./exit.js";
import { takeSample, type Sample } from "./top-data.js";
import { domainLines, headLine, type TopLines } from "./top-format.js";
import { liveTop } from "./top-screen.js";

export interface TopOptions {
  readonly delayMs: number;
  /** 0: without end. */
  readonly iterations: number;
  readonly lines: TopLines;
  readonly repeatHead: boolean;
}

/** As xentop -b prints it. */
async function batch(xl: Xl, options: TopOptions): Promise<void> {
  const host = await xl.host();
  let stopped = false;
  let interrupt: () => void = () => {};
  const interrupted = new Promise<void>((resolve) => (interrupt = resolve));
  const release = xl.io.onInterrupt(() => {
    stopped = true;
    interrupt();
  });
  try {
    let before: Sample | undefined;
    for (let n = 0; !stopped && (options.iterations === 0 || n < options.iterations); n++) {
      if (n > 0) await Promise.race([xl.io.sleep(options.delayMs), interrupted]);
      if (stopped) break;
      const sample: Sample = await takeSample(host, xl.io.now(), before);
      xl.out(headLine(sample, options.lines.full));
      for (const d of sample.domains) {
        if (options.repeatHead && d !== sample.domains[0]) xl.out(headLine(sample, options.lines.full));
        for (const line of domainLines(d, sample, options.lines)) xl.out(line);
      }
      before = sample;
    }
  } finally {
    release();
  }
}

function topCommand(name: "top" | "xentop"): Command {
  return {
    name,
    synopsis: "[-b] [-d SECONDS] [-i NUMBER] [-f] [-n] [-r] [-v]",
    brief: "Watch the host and its domains",
    options: [
      "-b, --batch            rows one after the other, for files and pipes",
      "-d, --delay=SECONDS    between two looks (3)",
      "-i, --iterations=N     so many looks, then end",
      "-f, --full-name        names in full",
      "-n, --networks         with a line for each network interface",
      "-r, --repeat-header    the head above every domain",
      "-v, --vcpus            with the time of each virtual CPU",
      ...(name === "xentop" ? ["-x, --vbds             with a line for each disk"] : []),
    ].join("\n"),
    // xl top has never had -x; xentop has.
    spec: {
      short: `bd:i:fnrv${name === "xentop" ? "x" : ""}`,
      long: {
        batch: "b",
        delay: "d",
        iterations: "i",
        "full-name": "f",
        networks: "n",
        "repeat-header": "r",
        vcpus: "v",
        ...(name === "xentop" ? { vbds: "x" } : {}),
      },
    },
    async run(xl: Xl, words: readonly string[]) {
      const p = xl.parse(words);
      const delay = p.has("d") ? Number(p.value("d")) : 3;
      if (!(delay > 0 && delay < 1e6))
        xl.fail(`${name}: -d ${p.value("d") ?? ""}: it must be a number of seconds above 0`);
      const iterations = p.has("i") ? Number(p.value("i")) : 0;
      if (!Number.isInteger(iterations) || iterations < 0)
        xl.fail(`${name}: -i ${p.value("i") ?? ""}: it must be a whole number`);
      const options: TopOptions = {
        delayMs: delay * 1000,
        iterations,
        repeatHead: p.has("r"),
        lines: { full: p.has("f"), vcpus: p.has("v"), networks: p.has("n"), disks: p.has("x") },
      };
      if (p.has("b") || !xl.io.outIsTty) await batch(xl, options);
      else await liveTop(xl, options);
      return OK;
    },
  };
}

export const topCommands: readonly Command[] = [topCommand("top")];
/** For `xentop` by its own name. */
export const xentopCommand: Command = topCommand("xentop");
