// Transcripts of real xl, re-typed (test/xl/golden): `$ ` a command, `| ` its standard output, `! ` a part of a line of its standard
// error, `[rc=N]` its exit status. `| ...`: more output follows that is not compared. `@ ` sets the fake host before the command;
// `file: text` is a line of a file the command reads; `#` is for people.
import { readFileSync } from "node:fs";

export interface Step {
  readonly command: string;
  readonly section: string;
  readonly stdout: readonly string[];
  readonly stderr: readonly string[];
  readonly status: number;
  readonly directives: readonly string[][];
  readonly files: ReadonlyMap<string, string>;
}

export function readTranscript(name: string): Step[] {
  const text = readFileSync(new URL(`golden/${name}.txt`, import.meta.url), "utf8");
  const steps: Step[] = [];
  let section = "";
  let command: string | undefined;
  let stdout: string[] = [];
  let stderr: string[] = [];
  let directives: string[][] = [];
  let files = new Map<string, string>();
  for (const line of text.split("\n")) {
    if (line.startsWith("$ ")) command = line.slice(2);
    else if (line.startsWith("| ") && command !== undefined) stdout.push(line.slice(2));
    else if (line.startsWith("! ") && command !== undefined) stderr.push(line.slice(2));
    else if (line.startsWith("@ ")) directives.push(line.slice(2).split(" "));
    else if (line.startsWith("### ")) section = line.slice(4);
    else if (line.startsWith("#") || line === "") continue;
    else if (line.startsWith("[rc=") && command !== undefined) {
      steps.push({ command, section, stdout, stderr, status: Number(line.slice(4, -1)), directives, files });
      command = undefined;
      [stdout, stderr, directives, files] = [[], [], [], new Map()];
    } else {
      const file = /^(\S+): (.*)$/.exec(line);
      if (file === null) throw new Error(`${name}: not understood: ${line}`);
      files.set(file[1], `${files.get(file[1]) ?? ""}${file[2]}\n`);
    }
  }
  return steps;
}

/** Words as a shell makes them: quotes and backslashes; nothing else is expanded. */
export function shellWords(command: string): string[] {
  const words: string[] = [];
  for (const m of command.matchAll(/(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+/g)) {
    words.push(
      m[0].replace(
        /\\(.)|"((?:[^"\\]|\\.)*)"|'([^']*)'/g,
        (_, e?: string, d?: string, q?: string) => e ?? d ?? q ?? "",
      ),
    );
  }
  return words;
}
