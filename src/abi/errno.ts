// Error numbers, positive; a hypercall returns their negation. The header spells them XEN_EPERM and so on.
// Source: <xen/errno.h>. Layout: 64-bit x86. abi.test.ts compares every line with the headers.

export const EPERM = 1; // Operation not permitted
export const ENOENT = 2; // No such file or directory
export const ESRCH = 3; // No such process
export const EIO = 5; // I/O error
export const ENXIO = 6; // No such device or address
export const E2BIG = 7; // Arg list too long
export const ENOEXEC = 8; // Exec format error
export const EBADF = 9; // Bad file number
export const ECHILD = 10; // No child processes
export const EAGAIN = 11; // Try again
export const EWOULDBLOCK = 11; // Operation would block.  Aliases EAGAIN
export const ENOMEM = 12; // Out of memory
export const EACCES = 13; // Permission denied
export const EFAULT = 14; // Bad address
export const EBUSY = 16; // Device or resource busy
export const EEXIST = 17; // File exists
export const EXDEV = 18; // Cross-device link
export const ENODEV = 19; // No such device
export const ENOTDIR = 20; // Not a directory
export const EISDIR = 21; // Is a directory
export const EINVAL = 22; // Invalid argument
export const ENFILE = 23; // File table overflow
export const EMFILE = 24; // Too many open files
export const ENOSPC = 28; // No space left on device
export const EROFS = 30; // Read-only file system
export const EMLINK = 31; // Too many links
export const EDOM = 33; // Math argument out of domain of func
export const ERANGE = 34; // Math result not representable
export const EDEADLK = 35; // Resource deadlock would occur
export const EDEADLOCK = 35; // Resource deadlock would occur. Aliases EDEADLK
export const ENAMETOOLONG = 36; // File name too long
export const ENOLCK = 37; // No record locks available
export const ENOSYS = 38; // Function not implemented
export const ENOTEMPTY = 39; // Directory not empty
export const ENODATA = 61; // No data available
export const ETIME = 62; // Timer expired
export const EBADMSG = 74; // Not a data message
export const EOVERFLOW = 75; // Value too large for defined data type
export const EILSEQ = 84; // Illegal byte sequence
export const ENOTSOCK = 88; // Socket operation on non-socket
export const EMSGSIZE = 90; // Message too large.
export const EOPNOTSUPP = 95; // Operation not supported on transport endpoint
export const EADDRINUSE = 98; // Address already in use
export const EADDRNOTAVAIL = 99; // Cannot assign requested address
export const ENOBUFS = 105; // No buffer space available
export const EISCONN = 106; // Transport endpoint is already connected
export const ENOTCONN = 107; // Transport endpoint is not connected
export const ETIMEDOUT = 110; // Connection timed out
export const ECONNREFUSED = 111; // Connection refused

/** Name of an error number, as XenStore and the logs spell it: `errnoName(2) === "ENOENT"`. */
export function errnoName(errno: number): string {
  return NAMES[errno] ?? `E${errno}`;
}

const NAMES: Readonly<Record<number, string>> = {
  [EPERM]: "EPERM",
  [ENOENT]: "ENOENT",
  [ESRCH]: "ESRCH",
  [EIO]: "EIO",
  [ENXIO]: "ENXIO",
  [E2BIG]: "E2BIG",
  [ENOEXEC]: "ENOEXEC",
  [EBADF]: "EBADF",
  [ECHILD]: "ECHILD",
  [EAGAIN]: "EAGAIN",
  [ENOMEM]: "ENOMEM",
  [EACCES]: "EACCES",
  [EFAULT]: "EFAULT",
  [EBUSY]: "EBUSY",
  [EEXIST]: "EEXIST",
  [EXDEV]: "EXDEV",
  [ENODEV]: "ENODEV",
  [ENOTDIR]: "ENOTDIR",
  [EISDIR]: "EISDIR",
  [EINVAL]: "EINVAL",
  [ENFILE]: "ENFILE",
  [EMFILE]: "EMFILE",
  [ENOSPC]: "ENOSPC",
  [EROFS]: "EROFS",
  [EMLINK]: "EMLINK",
  [EDOM]: "EDOM",
  [ERANGE]: "ERANGE",
  [EDEADLK]: "EDEADLK",
  [ENAMETOOLONG]: "ENAMETOOLONG",
  [ENOLCK]: "ENOLCK",
  [ENOSYS]: "ENOSYS",
  [ENOTEMPTY]: "ENOTEMPTY",
  [ENODATA]: "ENODATA",
  [ETIME]: "ETIME",
  [EBADMSG]: "EBADMSG",
  [EOVERFLOW]: "EOVERFLOW",
  [EILSEQ]: "EILSEQ",
  [ENOTSOCK]: "ENOTSOCK",
  [EMSGSIZE]: "EMSGSIZE",
  [EOPNOTSUPP]: "EOPNOTSUPP",
  [EADDRINUSE]: "EADDRINUSE",
  [EADDRNOTAVAIL]: "EADDRNOTAVAIL",
  [ENOBUFS]: "ENOBUFS",
  [EISCONN]: "EISCONN",
  [ENOTCONN]: "ENOTCONN",
  [ETIMEDOUT]: "ETIMEDOUT",
  [ECONNREFUSED]: "ECONNREFUSED",
};
