// The shared page of the paravirtual console.
// Source: <xen/io/console.h>. Layout: 64-bit x86. abi.test.ts compares every line with the headers.

/** struct xencons_interface */
export const xencons_interface = {
  size: 3088,
  in: 0, // char[1024]
  out: 1024, // char[2048]
  in_cons: 3072, // XENCONS_RING_IDX
  in_prod: 3076, // XENCONS_RING_IDX
  out_cons: 3080, // XENCONS_RING_IDX
  out_prod: 3084, // XENCONS_RING_IDX
} as const;
