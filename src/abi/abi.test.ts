// Every constant, size and offset in src/abi is compared with what a C compiler says about the libxen-dev headers.
// The C spelling of a field comes from the module's own line comment (`.arch.max_pfn: unsigned long`), that of a
// structure from the comment above it (`/** struct vcpu_info */`), the header from the module's `Source:` line.
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, it } from "vitest";

interface Fact {
  readonly name: string;
  readonly c: string;
  readonly value: number | string;
}

const here = fileURLToPath(new URL(".", import.meta.url));
const modules = readdirSync(here)
  .filter((f) => f.endsWith(".ts") && !f.endsWith(".test.ts") && !f.endsWith(".d.ts"))
  .map((f) => f.slice(0, -3));

const haveHeaders = existsSync("/usr/include/xen/xen.h");
const haveCompiler = (() => {
  try {
    execFileSync("cc", ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
})();
const missing = !haveHeaders ? " (skipped: libxen-dev is not installed)" : !haveCompiler ? " (skipped: no cc)" : "";

async function facts(module: string): Promise<{ headers: string[]; facts: Fact[] }> {
  const text = readFileSync(join(here, `${module}.ts`), "utf8");
  const values = (await import(/* @vite-ignore */ new URL(`${module}.ts`, import.meta.url).href)) as Record<
    string,
    unknown
  >;
  const source = /^\/\/ Source: (.*)/m.exec(text)?.[1] ?? "";
  const headers = [...source.matchAll(/<([\w/.-]+)>/g)].map((m) => m[1] as string);
  const list: Fact[] = [];
  const prefix = module === "errno" ? "XEN_" : "";
  for (const [name, value] of Object.entries(values)) {
    if (typeof value === "number" || typeof value === "string") list.push({ name, c: prefix + name, value });
  }
  for (const m of text.matchAll(/^\/\*\* (.+) \*\/\nexport const (\w+) = \{\n([\s\S]*?)^\} as const;/gm)) {
    const [, c, name, body] = m as unknown as [string, string, string, string];
    const layout = values[name] as Record<string, number>;
    const lines = [...body.matchAll(/^ {2}(\w+): (\d+),(?: \/\/ \.([\w.]+):)?/gm)];
    expect(lines.length, `${module}.${name}`).toBe(Object.keys(layout).length);
    for (const [, key, , path] of lines as unknown as [string, string, string, string | undefined][]) {
      list.push({
        name: `${name}.${key}`,
        c: key === "size" ? `sizeof(${c})` : `offsetof(${c}, ${path ?? key})`,
        value: layout[key] as number,
      });
    }
  }
  return { headers, facts: list };
}

describe.skipIf(missing !== "")(`the ABI modules match the public headers${missing}`, () => {
  const fromC = new Map<string, string>();
  const ours = new Map<string, Fact[]>();

  beforeAll(async () => {
    const includes: string[] = [];
    const prints: string[] = [];
    for (const module of modules) {
      const { headers, facts: list } = await facts(module);
      ours.set(module, list);
      for (const h of headers) includes.push(`#include <${h}>`);
      for (const f of list) {
        const key = `${module}.${f.name}`;
        if (typeof f.value === "string") prints.push(`puts("${key} s" ${f.c});`);
        else prints.push(`printf("${key} %c%llx\\n", (${f.c}) < 0 ? '-' : '+', (unsigned long long)(${f.c}));`);
      }
    }
    const program = [
      "#define __XEN_TOOLS__ 1",
      "#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n#include <stdbool.h>\n#include <string.h>",
      "#include <xen/xen.h>",
      ...new Set(includes),
      "int main(void) {",
      ...prints,
      "return 0; }",
    ].join("\n");
    const dir = mkdtempSync(join(tmpdir(), "xenolith-abi-"));
    try {
      writeFileSync(join(dir, "abi.c"), program);
      execFileSync("cc", ["-w", "-O0", "-o", join(dir, "abi"), join(dir, "abi.c")]);
      for (const line of execFileSync(join(dir, "abi"), { encoding: "utf8" }).trim().split("\n")) {
        const space = line.indexOf(" ");
        fromC.set(line.slice(0, space), line.slice(space + 1));
      }
    } finally {
      rmSync(dir, { recursive: true });
    }
  }, 60_000);

  it.each(modules)("%s", (module) => {
    const list = ours.get(module) as Fact[];
    expect(list.length).toBeGreaterThan(0);
    const wrong: string[] = [];
    for (const f of list) {
      const c = fromC.get(`${module}.${f.name}`) ?? "";
      let theirs: number | string;
      if (typeof f.value === "string") theirs = c.slice(1);
      else {
        const bits = BigInt(`0x${c.slice(1)}`);
        // A negative value, or a canonical address of the upper half, is sign-extended; other values are unsigned.
        const signed = c[0] === "-" || f.value < 0;
        theirs = Number(signed ? BigInt.asIntN(64, bits) : bits);
      }
      if (theirs !== f.value) wrong.push(`${f.name} is ${f.value}, the header says ${theirs}`);
    }
    expect(wrong).toEqual([]);
  });
});
