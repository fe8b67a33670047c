/** The arena of decoded code. */
import { expect, it } from "vitest";
import { PhysMem } from "../memory.js";
import { CodeCache } from "./code-cache.js";

it("the space of a block is used again, but not before a new epoch has begun", () => {
  let epochs = 0;
  const none = (): number => 0;
  const cache = new CodeCache(new PhysMem(1 << 20), {
    blockHash: none,
    dropWriters: none,
    forgetCode: none,
    hashFrame: none,
    sameFrame: none,
    codeDropped: () => epochs++,
  });
  const [a, b] = [cache.allocateBlock(1000), cache.allocate(3000)];
  cache.release(a, 1000);
  expect([epochs, cache.allocateBlock(1000) === a]).toEqual([0, false]);
  // When there is enough of it to be worth one.
  const many = Array.from({ length: 100 }, () => cache.allocateBlock(3000));
  for (const at of many) cache.release(at, 3000);
  const { used } = cache;
  expect([cache.allocateBlock(1000), epochs]).toEqual([a, 1]);
  expect(many).toContain(cache.allocateBlock(3000));
  expect(cache.used).toBe(used);
  expect([a, b]).not.toContain(cache.allocateBlock(3000));
});
