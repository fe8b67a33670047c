/**
 * Names of nodes (xenstore.txt): `/` separated, of letters, digits and `-/_@`; no double or trailing slash; relative ones belong to the
 * domain's own directory.
 */
import { XENSTORE_ABS_PATH_MAX, XENSTORE_REL_PATH_MAX } from "../abi/io_xs_wire.js";

const CHARS = /^[-/_@0-9A-Za-z]*$/;
const OWN_DIRECTORY = /^\/local\/domain\/\d{1,5}\//;

export function domainPath(domid: number): string {
  return `/local/domain/${domid}`;
}

export function isSpecial(path: string): boolean {
  return path.charCodeAt(0) === 0x40;
}

/** What a client wrote as an absolute name. Special names stand for themselves where the request allows them. */
export function canonical(path: string, base: string, allowSpecial: boolean): string {
  return path.startsWith("/") || (allowSpecial && isSpecial(path)) ? path : `${base}/${path}`;
}

/** The name obeys the rules; `maxPath` bounds the part below a domain's own directory too. */
export function validPath(path: string, allowSpecial = false, maxPath: number = XENSTORE_REL_PATH_MAX): boolean {
  if (!path.startsWith("/") && !(allowSpecial && isSpecial(path))) return false;
  if (path.length > 1 && path.endsWith("/")) return false;
  if (path.includes("//") || !CHARS.test(path)) return false;
  if (path.length > XENSTORE_ABS_PATH_MAX) return false;
  const own = OWN_DIRECTORY.exec(path);
  return path.length - (own === null ? 0 : own[0].length) <= (own === null ? XENSTORE_ABS_PATH_MAX : maxPath);
}

export function parentOf(path: string): string {
  const i = path.lastIndexOf("/");
  return i <= 0 ? "/" : path.slice(0, i);
}

export function leafOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

export function childOf(path: string, leaf: string): string {
  return path === "/" ? `/${leaf}` : `${path}/${leaf}`;
}
