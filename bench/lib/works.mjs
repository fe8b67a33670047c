// What is measured against a peer. `run` is a line for the guest's shell; what it prints goes to a file, whose checksum must be the same on both
// sides. `per` divides a time into what one of many costs.

/** The 13 kernels of the engine's design, as arguments of /bench/work: sized for about 0.3 s under QEMU. */
const KERNELS = [
  ["alu", "register arithmetic", 50000000],
  ["memcpy", "copying words and bytes", 25000],
  ["memchr", "a byte in a string", 25000],
  ["chase", "pointers in 256 KiB", 50000000],
  ["far", "pointers in 16 MiB", 3000000],
  ["fib", "recursive calls", 1500],
  ["md5", "MD5", 2000000],
  ["qsort", "quicksort with a callback", 2000],
  ["vm", "a bytecode machine", 40000000],
  ["lz", "compress and expand", 500],
  ["sieve", "prime numbers", 1200],
  ["matrix", "a product of integers", 900],
  ["list", "a list sorted by merging", 400],
];

export const POWER_ON = { work: "power-on to user space", target: 1.0 };
export const KERNEL_MEAN = { work: "13 kernels, geometric mean", target: 1.3 };

/** In the order in which they are done. */
export const WORKS = [
  { work: "md5sum of 64 MiB", target: 1.3, run: "md5sum /tmp/data /tmp/data /tmp/data /tmp/data" },
  { work: "sha256sum of 64 MiB", target: 1.3, run: "sha256sum /tmp/data /tmp/data /tmp/data /tmp/data" },
  { work: "gzip of 16 MiB", target: 1.3, run: "gzip -c </tmp/data" },
  { work: "gunzip of 16 MiB", target: 1.3, run: "gzip -dc </tmp/data.gz" },
  { work: "sort of 200,000 lines", target: 1.3, run: "sort /tmp/lines" },
  {
    work: "awk over 20 MiB",
    target: 1.3,
    run: "awk '{ n += NF; s += \\$2 } END { print n, s }' /tmp/text",
  },
  { work: "shell loop, 200,000", target: 1.3, run: "i=0; while [ \\$i -lt 200000 ]; do i=\\$((i+1)); done; echo \\$i" },
  {
    work: "fork+exec, 2,000",
    target: 1.0,
    run: "i=0; while [ \\$i -lt 2000 ]; do /bin/true; i=\\$((i+1)); done; echo \\$i",
  },
  { work: "getppid, 200,000", target: 1.0, run: "/bench/work getppid 200000", per: 200000 },
  { work: "pipe ping-pong, 20,000", target: 1.0, run: "/bench/work pingpong 20000" },
  { work: "SSE2 matrix product", target: 1.0, run: "/bench/work sse 60" },
  { work: "x87 matrix product", target: 0.5, run: "/bench/work x87 20" },
  // Its limit is an absolute one (peerless.mjs); the peer's time is shown beside it.
  { work: "page faults, 65,536", target: null, run: "/bench/work fault 65536", per: 65536 },
  ...KERNELS.map(([name, what, n]) => ({
    work: `kernel ${name}: ${what}`,
    target: 0.9,
    kernel: true,
    run: `/bench/work ${name} ${n}`,
  })),
];
