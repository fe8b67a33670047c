/**
 * The head of a saved domain: 32 bytes of magic, byte order, flags and the length of what follows (the configuration), all
 * little-endian. The stream behind it is the host's business.
 */

const MAGIC = "Xen saved domain, xl format\n \0 \r";
const ORDER = 0x01020304;
const HEAD = 48;

export const SAVE_HEAD_BYTES = HEAD;

export type SaveHeader =
  | { readonly ok: true; readonly mandatory: number; readonly optional: number; readonly length: number }
  | { readonly ok: false; readonly why: string };

export function readSaveHeader(bytes: Uint8Array): SaveHeader {
  const magic = String.fromCharCode(...bytes.subarray(0, MAGIC.length));
  if (magic !== MAGIC || bytes.length < HEAD)
    return { ok: false, why: "File has wrong magic number - corrupt or for a different tool?" };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(32, true) !== ORDER) return { ok: false, why: "File has wrong byte order" };
  return {
    ok: true,
    mandatory: view.getUint32(36, true),
    optional: view.getUint32(40, true),
    length: view.getUint32(44, true),
  };
}
