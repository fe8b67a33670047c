// SUPPORT.md lists every hypercall and sub-operation of the table, and what it names as proof exists.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import * as xen from "../src/abi/xen.js";
import { handlerTable, hypercalls } from "../src/hypervisor/hypercalls/table.js";
import { root } from "./cli-helper.js";

const text = readFileSync(join(root, "SUPPORT.md"), "utf8");
const rows = text
  .slice(text.indexOf("## Hypercalls"))
  .split("\n")
  .filter((l) => /^\| +[\d–]+ +\|/.test(l))
  .map((l) => {
    const [, number, name, operations, status] = l.split("|").map((c) => c.trim());
    const [first, last] = number.split("–").map(Number);
    return { first, last: last ?? first, name, operations: operations.split(/,\s*/), status };
  });

describe("SUPPORT.md", () => {
  it.each(hypercalls.map((h) => [h.number, h] as const))("has hypercall %i with its operations", (number, h) => {
    const mine = rows.filter((r) => number >= r.first && number <= r.last);
    expect(mine.length).toBeGreaterThan(0);
    if (h.pv64) expect(mine.map((r) => r.name)).toContain(h.name);
    const listed = mine.flatMap((r) => r.operations);
    if (h.selector >= 0 && !h.name.endsWith("_compat")) for (const op of h.ops.values()) expect(listed).toContain(op);
    // Nothing is called working that nobody handles.
    if (handlerTable()[number] === null) for (const r of mine) expect(r.status).toMatch(/^(not here|refused)/);
  });

  it("has every extended MMU operation", () => {
    const listed = rows.filter((r) => r.name === "mmuext_op").flatMap((r) => r.operations);
    const all = Object.keys(xen).filter((k) => /^MMUEXT_[A-Z]/.test(k));
    expect(all.length).toBeGreaterThan(15);
    for (const k of all) expect(listed).toContain(k.slice("MMUEXT_".length));
  });

  it("names only tests and guests that exist", () => {
    for (const [, path] of text.matchAll(/`((?:src|test|tools)\/[^`]*)`/g)) {
      const [folder, tail] = path.split("*");
      const found =
        tail === undefined
          ? existsSync(join(root, path))
          : readdirSync(join(root, folder)).some((f) => f.endsWith(tail));
      expect(found, path).toBe(true);
    }
    const images = new Set(readdirSync(join(root, "guests/images")).map((f) => f.replace(/\.elf$/, "")));
    for (const [, list] of text.matchAll(/guests? ((?:`[a-z-]+`(?:, )?)+)/g)) {
      for (const [, name] of list.matchAll(/`([a-z-]+)`/g)) expect(images.has(name), name).toBe(true);
    }
  });
});
