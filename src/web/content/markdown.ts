/**
 * The part of Markdown that the book uses, as HTML: headings, paragraphs, lists, tables, code, emphasis, links.
 *
 * Invariant: nothing of the text gets into the HTML unescaped, so that a page cannot bring elements of its own.
 */
const ESCAPES: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const escape = (text: string): string => text.replace(/[&<>"]/g, (c) => ESCAPES[c] ?? c);

/** Where a link leads: a page of the book, a source, or nowhere that this lab has. */
export type Resolve = (href: string) => string | null;

function inline(text: string, resolve: Resolve): string {
  const codes: string[] = [];
  let out = text.replace(/`([^`]+)`/g, (_m, code: string) => `\0${codes.push(code) - 1}\0`);
  out = escape(out)
    .replace(/\[([^\]]+)\]\(([^)]+)\)/g, (_m, label: string, href: string) => {
      const to = resolve(href);
      return to === null ? label : `<a href="${to}">${label}</a>`;
    })
    .replace(/\*\*([^*]+)\*\*/g, "<strong>$1</strong>")
    .replace(/(^|[^\w])_([^_]+)_(?=[^\w]|$)/g, "$1<em>$2</em>")
    .replace(/\*([^*]+)\*/g, "<em>$1</em>");
  return out
    .split("\0")
    .map((part, i) => (i % 2 === 0 ? part : `<code>${escape(codes[Number(part)] ?? "")}</code>`))
    .join("");
}

const LIST = /^(\s*)([-*]|\d+\.)\s+(.*)$/;

export function markdown(source: string, resolve: Resolve): string {
  const lines = source.split("\n");
  const out: string[] = [];
  let i = 0;
  const at = (n: number): string => lines[n] ?? "";
  const cells = (line: string): string[] =>
    line
      .trim()
      .replace(/^\||\|$/g, "")
      .split("|")
      .map((c) => inline(c.trim(), resolve));
  while (i < lines.length) {
    const line = at(i);
    if (line.trim() === "") i++;
    else if (line.startsWith("```")) {
      const code: string[] = [];
      for (i++; i < lines.length && !at(i).startsWith("```"); i++) code.push(at(i));
      i++;
      out.push(`<pre><code>${escape(code.join("\n"))}</code></pre>`);
    } else if (/^#{1,6} /.test(line)) {
      const level = line.indexOf(" ");
      out.push(`<h${level}>${inline(line.slice(level + 1), resolve)}</h${level}>`);
      i++;
    } else if (line.startsWith("|") && /^\|[\s:|-]+\|$/.test(at(i + 1).trim())) {
      const head = cells(line).map((c) => `<th>${c}</th>`);
      const rows: string[] = [];
      for (i += 2; at(i).startsWith("|"); i++) {
        rows.push(
          `<tr>${cells(at(i))
            .map((c) => `<td>${c}</td>`)
            .join("")}</tr>`,
        );
      }
      out.push(`<table><thead><tr>${head.join("")}</tr></thead><tbody>${rows.join("")}</tbody></table>`);
    } else if (LIST.test(line)) {
      const ordered = /^\s*\d/.test(line);
      const items: string[] = [];
      while (i < lines.length && at(i).trim() !== "") {
        const m = LIST.exec(at(i));
        if (m !== null) items.push(m[3] ?? "");
        else items[items.length - 1] += ` ${at(i).trim()}`;
        i++;
      }
      const tag = ordered ? "ol" : "ul";
      out.push(`<${tag}>${items.map((t) => `<li>${inline(t, resolve)}</li>`).join("")}</${tag}>`);
    } else {
      const text: string[] = [];
      while (i < lines.length && at(i).trim() !== "" && !at(i).startsWith("```") && !LIST.test(at(i))) {
        text.push(at(i).trim());
        i++;
      }
      out.push(`<p>${inline(text.join(" "), resolve)}</p>`);
    }
  }
  return out.join("\n");
}
