/**
 * Serves the lab's files over HTTP: a folder, and a few files by name from elsewhere. Answers carry what a page needs in order to be
 * cross-origin isolated.
 *
 * Invariant: nothing outside the folder and the named files is ever read, whatever the address says.
 */
import { createReadStream, type Stats } from "node:fs";
import { stat } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { extname, join, normalize, sep } from "node:path";
import { pipeline } from "node:stream";

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".json": "application/json",
  ".wasm": "application/wasm",
  ".svg": "image/svg+xml",
  ".png": "image/png",
};
const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
  "X-Content-Type-Options": "nosniff",
  "Referrer-Policy": "no-referrer",
} as const;

export interface StaticFiles {
  readonly folder: string;
  /** Address (without its first slash) → file. */
  readonly more: ReadonlyMap<string, string>;
  /** Address → text made for each answer. */
  readonly made: ReadonlyMap<string, () => string>;
}

/** The file behind an address, `undefined` where there is none. */
function fileOf(files: StaticFiles, path: string): string | undefined {
  const known = files.more.get(path);
  if (known !== undefined) return known;
  const inside = normalize(path);
  if (inside.startsWith("..") || inside.startsWith(sep) || path.includes("\0")) return undefined;
  return join(files.folder, inside);
}

export async function serveFile(files: StaticFiles, request: IncomingMessage, answer: ServerResponse): Promise<void> {
  const refuse = (status: number, text: string): void => {
    answer.writeHead(status, { ...HEADERS, "Content-Type": "text/plain; charset=utf-8" });
    answer.end(text);
  };
  if (request.method !== "GET" && request.method !== "HEAD") return refuse(405, "only GET and HEAD\n");
  let path: string;
  try {
    path = decodeURIComponent(new URL(request.url ?? "/", "http://lab").pathname).slice(1);
  } catch {
    return refuse(400, "no address\n");
  }
  if (path === "" || path.endsWith("/")) path += "index.html";
  const made = files.made.get(path);
  if (made !== undefined) {
    answer.writeHead(200, {
      ...HEADERS,
      "Content-Type": TYPES[extname(path)] ?? "text/plain",
      "Cache-Control": "no-store",
    });
    answer.end(request.method === "HEAD" ? undefined : made());
    return;
  }
  const file = fileOf(files, path);
  let facts: Stats | undefined;
  try {
    facts = file === undefined ? undefined : await stat(file);
  } catch {
    // Not there.
  }
  if (file === undefined || facts?.isFile() !== true) return refuse(404, `${path}: no such file\n`);
  answer.writeHead(200, {
    ...HEADERS,
    "Content-Type": TYPES[extname(file)] ?? "application/octet-stream",
    "Content-Length": facts.size,
    // Files in assets/ have their content's hash in their names.
    "Cache-Control": path.startsWith("assets/") ? "public, max-age=31536000, immutable" : "no-cache",
  });
  if (request.method === "HEAD") answer.end();
  else pipeline(createReadStream(file), answer, () => {});
}
