// The course's text: what the book uses of Markdown becomes HTML, and nothing else does.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { markdown } from "../../src/web/content/markdown.js";
import { root } from "../cli-helper.js";

const html = (text: string): string => markdown(text, (href) => (href.endsWith(".md") ? `#${href}` : null));

describe("the course's text", () => {
  test("paragraphs, headings, emphasis, code", () => {
    expect(html("# A _b_ `c<d`\n\ntwo\nlines **strong**")).toBe(
      "<h1>A <em>b</em> <code>c&lt;d</code></h1>\n<p>two lines <strong>strong</strong></p>",
    );
  });
  test("names with underscores stay whole", () => {
    expect(html("evtchn_pending_sel is _one_ word")).toBe("<p>evtchn_pending_sel is <em>one</em> word</p>");
  });
  test("lists go on over lines, code blocks keep theirs", () => {
    expect(html("1. a\n   b\n2. c")).toBe("<ol><li>a b</li><li>c</li></ol>");
    expect(html("```\na <b>\n  c\n```")).toBe("<pre><code>a &lt;b&gt;\n  c</code></pre>");
  });
  test("tables", () => {
    expect(html("| a | b |\n| - | - |\n| 1 | `2` |")).toBe(
      "<table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td>1</td><td><code>2</code></td></tr></tbody></table>",
    );
  });
  test("links lead where the lab has something, else they are text", () => {
    expect(html("[x](y.md) and [z](https://example.org)")).toBe('<p><a href="#y.md">x</a> and z</p>');
  });
  test("no element of a page's own gets through", () => {
    expect(html('<img src=x onerror="y"> **<b>**')).not.toMatch(/<(?!\/?(p|strong)>)/);
  });
  test("every page of the book comes out without a mark left over", () => {
    const folder = join(root, "docs/book");
    for (const file of readdirSync(folder).filter((f) => f.endsWith(".md"))) {
      const text = html(readFileSync(join(folder, file), "utf8")).replace(/<pre>.*?<\/pre>|<code>.*?<\/code>/gs, "");
      expect(text, file).not.toMatch(/\*\*|```|^#|\]\(/m);
    }
  });
});
