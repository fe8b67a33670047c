/**
 * A recording: what a run began with, and every input from outside with its place in the run. With the virtual clock and exact budgets that is
 * all there is to know: the same beginning and the same inputs give the same run, instruction for instruction.
 *
 * The file is text, one JSON object a line: the beginning, the inputs in order, the end. Its size follows what was typed, not what was computed.
 */

export const FORMAT = 1;

/** A file that the run began with: found by its path, known by its content. */
export interface RecordedFile {
  readonly path: string;
  readonly bytes: number;
  readonly sha256: string;
}

export interface Beginning {
  readonly type: "xenolith-recording";
  readonly format: number;
  /** Of the program that recorded: another version may run otherwise. */
  readonly version: string;
  readonly scheduler: string;
  readonly pcpus: number;
  readonly memoryMiB: number;
  /** Names of the domains. */
  readonly domains: readonly string[];
  /** What the shell needs to make the same domains again. */
  readonly source: unknown;
  readonly files: readonly RecordedFile[];
}

export interface Input {
  readonly type: "console";
  /** Rounds of work done before it came in. */
  readonly round: number;
  /** Which of the domains, by place in the list. */
  readonly domain: number;
  readonly data: Uint8Array;
}

export interface Ending {
  readonly type: "end";
  readonly rounds: number;
  /** Instructions retired by all vCPUs. */
  readonly retired: number;
  /** Virtual nanoseconds. */
  readonly time: number;
  /** Each domain's console output: bytes, and a hash of them. */
  readonly console: readonly { readonly bytes: number; readonly hash: string }[];
  /** SHUTDOWN_* of each, −1 where it still ran. */
  readonly codes: readonly number[];
}

export interface Recording {
  readonly begin: Beginning;
  readonly inputs: readonly Input[];
  /** None: the recording was cut off. */
  readonly end: Ending | null;
}

/** The file is no recording, or one that cannot be replayed. */
export class RecordingError extends Error {
  override readonly name = "RecordingError";
}

export function recordingLine(item: Beginning | Input | Ending): string {
  return `${JSON.stringify(item.type === "console" ? { ...item, data: latin1(item.data) } : item)}\n`;
}

/** Bytes as text that JSON keeps and people can read. */
function latin1(data: Uint8Array): string {
  let out = "";
  for (const b of data) out += String.fromCharCode(b);
  return out;
}

type Line = Readonly<Record<string, unknown>>;

/** Reads a recording; a last line that was cut off is passed over. Throws a RecordingError. */
export function parseRecording(text: string): Recording {
  const lines = text.split("\n");
  const begin = parseLine(lines[0] ?? "", 1, false);
  if (begin?.["type"] !== "xenolith-recording") throw new RecordingError("not a recording");
  if (begin["format"] !== FORMAT) {
    throw new RecordingError(`a recording of format ${String(begin["format"])}; this program reads ${FORMAT}`);
  }
  const { domains } = begin;
  if (!Array.isArray(domains) || domains.length === 0) throw new RecordingError("line 1: no domains");
  const inputs: Input[] = [];
  let end: Ending | null = null;
  lines.slice(1).forEach((line, i) => {
    const number = i + 2;
    if (line === "") return;
    const item = parseLine(line, number, number === lines.length);
    if (item === null) return;
    if (item["type"] === "end") {
      end = item as unknown as Ending;
      return;
    }
    const { round, domain, data } = item;
    if (item["type"] !== "console" || !isCount(round) || !isCount(domain) || typeof data !== "string") {
      throw new RecordingError(`line ${number}: not an input`);
    }
    if (round < (inputs.at(-1)?.round ?? 0)) throw new RecordingError(`line ${number}: the inputs are out of order`);
    if (domain >= domains.length) throw new RecordingError(`line ${number}: no such domain`);
    inputs.push({ type: "console", round, domain, data: Uint8Array.from(data, (c) => c.charCodeAt(0)) });
  });
  return { begin: begin as unknown as Beginning, inputs, end };
}

const isCount = (v: unknown): v is number => typeof v === "number" && Number.isInteger(v) && v >= 0;

function parseLine(line: string, number: number, last: boolean): Line | null {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value === "object" && value !== null) return value as Line;
  } catch {
    if (last) return null;
  }
  throw new RecordingError(number === 1 ? "not a recording" : `line ${number}: damaged`);
}
