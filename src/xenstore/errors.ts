/**
 * The errors of the XenStore protocol: it carries names, never numbers (io/xs_wire.h, xsd_errors).
 *
 * A failed request throws one of the shared instances below: they are made once, so that a refused READ costs no stack capture.
 */
export const XSD_ERRORS = [
  "EINVAL",
  "EACCES",
  "EEXIST",
  "EISDIR",
  "ENOENT",
  "ENOMEM",
  "ENOSPC",
  "EIO",
  "ENOTEMPTY",
  "ENOSYS",
  "EROFS",
  "EBUSY",
  "EAGAIN",
  "EISCONN",
  "E2BIG",
  "EPERM",
] as const;

export type XsErrorName = (typeof XSD_ERRORS)[number];

export class XsError extends Error {
  constructor(readonly code: XsErrorName) {
    super(code);
    this.name = "XsError";
  }
}

/** The one instance of each error. */
export const XSE = Object.fromEntries(XSD_ERRORS.map((n) => [n, new XsError(n)])) as Readonly<
  Record<XsErrorName, XsError>
>;
