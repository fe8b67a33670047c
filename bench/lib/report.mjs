// Rows as text, Markdown and a chart. A row: { work, unit, ours, qemu, ratio, target, met, note? }; ours and qemu are { min, median, max, runs }.

const FORMAT = {
  ms: (x) => (x >= 9995 ? (x / 1000).toFixed(1) : x >= 100 ? (x / 1000).toFixed(2) : (x / 1000).toFixed(3)),
  ns: (x) => (x >= 100 ? x.toFixed(0) : x.toFixed(1)),
  MiB: (x) => x.toFixed(1),
  "%": (x) => x.toFixed(2),
};
const SHOWN = { ms: "s", ns: "ns", MiB: "MiB", "%": "%" };
const three = (s, unit) =>
  s === null ? "–" : s.runs === 1 ? FORMAT[unit](s.min) : [s.min, s.median, s.max].map(FORMAT[unit]).join(" / ");
const verdict = (r) => (r.note !== undefined ? r.note : r.met === null ? "" : r.met ? "yes" : "no");

function table(head, rows, right) {
  const widths = head.map((h, i) => Math.max(h.length, ...rows.map((r) => r[i].length)));
  const line = (r) => `| ${r.map((c, i) => (right[i] ? c.padStart(widths[i]) : c.padEnd(widths[i]))).join(" | ")} |`;
  const rule = `| ${widths.map((n, i) => (right[i] ? `${"-".repeat(n - 1)}:` : "-".repeat(n))).join(" | ")} |`;
  return [line(head), rule, ...rows.map(line)];
}

/** Both tables, as Markdown that also reads well as text. */
export function tables(result) {
  const cell = (text) => text.replaceAll("|", "\\|");
  const paired = result.rows.filter((r) => r.unit === "ms" || r.unit === "ratio");
  const out = table(
    ["work", "Xenolith s (min / median / max)", "QEMU TCG s (min / median / max)", "QEMU ÷ ours", "target", "met"],
    paired.map((r) => [
      cell(r.work),
      r.unit === "ratio" ? "" : three(r.ours, r.unit),
      r.unit === "ratio" ? "" : three(r.qemu, r.unit),
      r.ratio === null ? "–" : r.ratio.toFixed(2),
      r.target === null ? "" : `≥ ${r.target}`,
      verdict(r),
    ]),
    [false, true, true, true, true, false],
  );
  const alone = result.rows.filter((r) => r.unit !== "ms" && r.unit !== "ratio");
  if (alone.length > 0) {
    out.push("");
    out.push(
      ...table(
        ["without a peer", "min / median / max", "target", "met"],
        alone.map((r) => [
          cell(r.work),
          r.ours === null ? "–" : `${three(r.ours, r.unit)} ${SHOWN[r.unit]}`,
          r.target === null ? "" : `< ${r.target} ${SHOWN[r.unit]}`,
          verdict(r),
        ]),
        [false, true, true, false],
      ),
    );
  }
  return out.join("\n");
}

const escape = (s) => s.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** Bars of how many times QEMU's speed each work has; a tick at each target. Colours follow the reader's scheme. */
export function chart(result) {
  const rows = result.rows.filter((r) => r.ratio !== null);
  const step = 20;
  const left = 270;
  const width = 820;
  const top = 56;
  const bars = width - left - 60;
  const most = Math.max(2, Math.ceil(Math.max(...rows.map((r) => r.ratio)) * 2) / 2);
  // Where one work is far ahead the others would be slivers: the axis ends, the number says how far it went.
  const end = Math.min(most, 4);
  const x = (ratio) => left + (Math.min(ratio, end) / end) * bars;
  const height = top + rows.length * step + 36;
  const out = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-labelledby="t">`,
    `<title id="t">Speed of guest work under Xenolith, relative to QEMU TCG</title>`,
    "<style>",
    "text{font:12px system-ui,sans-serif;fill:#24292f}.head{font-size:15px;font-weight:600}.dim{fill:#57606a}",
    ".met{fill:#1a7f37}.near{fill:#bf8700}.axis{stroke:#d0d7de}.one{stroke:#24292f}.target{stroke:#cf222e;stroke-width:2}",
    "@media (prefers-color-scheme:dark){text{fill:#e6edf3}.dim{fill:#9198a1}.met{fill:#3fb950}.near{fill:#d29922}",
    ".axis{stroke:#3d444d}.one{stroke:#e6edf3}.target{stroke:#ff7b72}}",
    "</style>",
    `<text class="head" x="8" y="20">Guest work: QEMU TCG's time ÷ Xenolith's (longer is faster)</text>`,
    `<text class="dim" x="8" y="38">${escape(result.host.cpu)}, ${result.host.cores} cores, Node ${escape(result.host.node)}, ${escape(result.host.qemu ?? "no QEMU")}; best of ${result.rounds}. Red: the target.</text>`,
  ];
  for (let r = 0; r <= end; r += 0.5) {
    const at = x(r).toFixed(1);
    const bottom = top + rows.length * step;
    out.push(`<line class="${r === 1 ? "one" : "axis"}" x1="${at}" y1="${top}" x2="${at}" y2="${bottom}"/>`);
    out.push(`<text class="dim" x="${at}" y="${bottom + 16}" text-anchor="middle">${r}</text>`);
  }
  rows.forEach((r, i) => {
    const y = top + i * step;
    const good = r.met === null ? r.ratio >= 1 : r.met;
    out.push(`<text x="${left - 8}" y="${y + 14}" text-anchor="end">${escape(r.work)}</text>`);
    out.push(
      `<rect class="${good ? "met" : "near"}" x="${left}" y="${y + 4}" width="${(x(r.ratio) - left).toFixed(1)}" height="${step - 8}" rx="2"/>`,
    );
    if (r.target !== null) {
      const t = x(r.target).toFixed(1);
      out.push(`<line class="target" x1="${t}" y1="${y + 2}" x2="${t}" y2="${y + step - 2}"/>`);
    }
    const after = Math.max(x(r.ratio), r.target === null ? 0 : x(r.target), r.ratio < 1 ? x(1) : 0) + 6;
    out.push(`<text x="${after.toFixed(1)}" y="${y + 14}">${r.ratio.toFixed(2)}</text>`);
  });
  out.push("</svg>", "");
  return out.join("\n");
}
