/** Reading configuration files, with xl's words when that fails. */
import type { Xl } from "./command.js";

const WHY: Readonly<Record<string, string>> = {
  ENOENT: "No such file or directory",
  EACCES: "Permission denied",
  ENOTDIR: "Not a directory",
  ELOOP: "Too many levels of symbolic links",
  EISDIR: "Is a directory",
};

export function fileError(e: unknown): string {
  const code = e instanceof Error && "code" in e ? String(e.code) : "";
  return WHY[code] ?? (e instanceof Error ? e.message : String(e));
}

/** The text of a file. Bytes that are no UTF-8 are kept as replacement characters: the grammar refuses them with their line. */
export function readConfig(xl: Xl, file: string, status: number): string {
  try {
    return new TextDecoder().decode(xl.io.readFile(file));
  } catch (e) {
    const why = fileError(e);
    if (why === WHY["EISDIR"]) xl.libxlError(`${file} is not a plain file`);
    return xl.fail(`Failed to read config file: ${file}: ${why}`, status);
  }
}
