/** What a recording that was made by a page says of its domains; the command line's recordings say something else (cli/record.ts). */
import { RecordingError } from "./recording.js";

export interface PageDomain {
  readonly name: string;
  /** A file of the page: one of the lab's guests, the server's Debian, or one that was dropped (`files/…`). */
  readonly kernel: string;
  readonly ramdisk: string | null;
  readonly memoryMiB: number;
  readonly vcpus: number;
  readonly cmdline: string;
  /** An interface on the page's bridge. */
  readonly network: boolean;
}
export interface PageSource {
  readonly page: true;
  readonly domains: readonly PageDomain[];
}

const isWord = (v: unknown): v is string => typeof v === "string" && v !== "";
const isNumber = (v: unknown, most: number): v is number => typeof v === "number" && v >= 1 && v <= most;

function isDomain(v: unknown): v is PageDomain {
  if (typeof v !== "object" || v === null) return false;
  const d = v as Readonly<Record<string, unknown>>;
  return (
    isWord(d["name"]) &&
    isWord(d["kernel"]) &&
    (d["ramdisk"] === null || isWord(d["ramdisk"])) &&
    isNumber(d["memoryMiB"], 3072) &&
    isNumber(d["vcpus"], 64) &&
    typeof d["cmdline"] === "string" &&
    typeof d["network"] === "boolean"
  );
}

/** Was it made by a page? */
export function isPageSource(source: unknown): boolean {
  return typeof source === "object" && source !== null && "page" in source;
}

/** Throws a RecordingError where a page cannot make these domains again. */
export function pageSource(source: unknown): PageSource {
  if (!isPageSource(source)) throw new RecordingError("made on the command line: replay it there (xenolith replay)");
  const { domains } = source as { domains?: unknown };
  if (!Array.isArray(domains) || domains.length === 0 || !domains.every(isDomain)) {
    throw new RecordingError("what it says of its domains is damaged");
  }
  return { page: true, domains };
}
