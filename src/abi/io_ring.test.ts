import { expect, it } from "vitest";
import { blkif_request } from "./io_blkif.js";
import { ringMustNotify, ringSize } from "./io_ring.js";

it("a ring holds the greatest power of two of entries that fit behind its head", () => {
  expect(ringSize(4096, blkif_request.size)).toBe(32);
  expect(ringSize(4096, 12)).toBe(256);
  expect(ringSize(64, 12)).toBe(0);
});

it("the other end is notified when the producer passes its event index, over the wrap of the index too", () => {
  expect(ringMustNotify(0, 3, 1)).toBe(true);
  expect(ringMustNotify(0, 3, 3)).toBe(true);
  expect(ringMustNotify(0, 3, 4)).toBe(false);
  expect(ringMustNotify(2, 3, 1)).toBe(false);
  expect(ringMustNotify(0xfffffffe, 1, 0xffffffff)).toBe(true);
  expect(ringMustNotify(0xffffffff, 1, 0xffffffff)).toBe(false);
});
