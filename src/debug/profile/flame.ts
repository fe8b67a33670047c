/**
 * Stacks with their time as files: the lines that flame graph programs read (`a;b;c 123`), speedscope's JSON, and a flame graph of our own (SVG: boxes
 * with a title that shows on hover; a click on a box widens it, on the root box goes back).
 */

export type Stacks = ReadonlyMap<string, number>;

/** A line per stack, with microseconds. */
export function collapsed(stacks: Stacks): string {
  return [...stacks]
    .map(([stack, ms]): [string, number] => [stack, Math.round(ms * 1000)])
    .filter(([, us]) => us > 0)
    .sort((a, b) => (a[0] < b[0] ? -1 : 1))
    .map(([stack, us]) => `${stack} ${us}\n`)
    .join("");
}

/** speedscope's file format ("sampled", weights in milliseconds). */
export function speedscope(stacks: Stacks, name: string): string {
  const frames: { name: string }[] = [];
  const index = new Map<string, number>();
  const samples: number[][] = [];
  const weights: number[] = [];
  for (const [stack, ms] of stacks) {
    samples.push(
      stack.split(";").map((frame) => {
        let i = index.get(frame);
        if (i === undefined) {
          i = frames.push({ name: frame }) - 1;
          index.set(frame, i);
        }
        return i;
      }),
    );
    weights.push(ms);
  }
  const endValue = weights.reduce((a, b) => a + b, 0);
  return JSON.stringify({
    $schema: "https://www.speedscope.app/file-format-schema.json",
    shared: { frames },
    profiles: [{ type: "sampled", name, unit: "milliseconds", startValue: 0, endValue, samples, weights }],
  });
}

interface Node {
  readonly name: string;
  ms: number;
  readonly children: Map<string, Node>;
}
function tree(stacks: Stacks): Node {
  const root: Node = { name: "all", ms: 0, children: new Map() };
  for (const [stack, ms] of stacks) {
    if (!(ms > 0)) continue;
    root.ms += ms;
    let at = root;
    for (const name of stack.split(";")) {
      let next = at.children.get(name);
      if (next === undefined) {
        next = { name, ms: 0, children: new Map() };
        at.children.set(name, next);
      }
      next.ms += ms;
      at = next;
    }
  }
  return root;
}

const escape = (s: string): string =>
  s.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");

const WIDTH = 1200;
const ROW = 17;
const HEAD = 30;
/** Narrower boxes are not drawn. */
const LEAST = 0.3;

/** The same name has the same colour: guest code warm, the hypervisor and the engine blue, the host grey. */
function colour(name: string, above: string): string {
  let h = 0;
  for (let i = 0; i < name.length; i++) h = (Math.imul(h, 31) + name.charCodeAt(i)) >>> 0;
  const kind = name.startsWith("[") ? name : above;
  if (kind === "[host]") return `hsl(0 0% ${62 + (h % 12)}%)`;
  if (kind.startsWith("[")) return `hsl(${200 + (h % 30)} 60% ${64 + (h % 10)}%)`;
  if (name === "user") return "hsl(130 45% 62%)";
  return `hsl(${15 + (h % 40)} 80% ${60 + ((h >>> 8) % 10)}%)`;
}

const SCRIPT =
  "var R=document.querySelectorAll('g[data-x]');function zoom(g){var x=+g.dataset.x,w=+g.dataset.w,d=+g.dataset.d;R.forEach(function(e){" +
  "var a=+e.dataset.x,b=+e.dataset.w,u=+e.dataset.d<d;var l=u?0:(a-x)/w*1200,n=u?1200:b/w*1200;var hit=u?a<=x+1e-6&&a+b>=x+w-1e-6:l>-1e-6&&l+n<1200+1e-3;" +
  "e.style.display=hit&&n>.3?'':'none';var r=e.querySelector('rect'),t=e.querySelector('text');r.setAttribute('x',l);r.setAttribute('width',Math.max(0,n-.5));" +
  "t.setAttribute('x',l+3);var s=e.dataset.n,c=Math.floor((n-6)/6.6);t.textContent=c<3?'':s.length<=c?s:s.slice(0,c-1)+'…';});}" +
  "R.forEach(function(g){g.onclick=function(){zoom(g)}});";

/** The flame graph; the root is at the bottom. */
export function flameGraph(stacks: Stacks, title: string): string {
  const root = tree(stacks);
  const boxes: { node: Node; x: number; w: number; depth: number; above: string }[] = [];
  let deepest = 0;
  const place = (node: Node, x: number, depth: number, above: string): void => {
    const w = root.ms > 0 ? (node.ms / root.ms) * WIDTH : WIDTH;
    if (w < LEAST) return;
    deepest = Math.max(deepest, depth);
    boxes.push({ node, x, w, depth, above });
    const kind = node.name.startsWith("[") ? node.name : above;
    let at = x;
    for (const child of [...node.children.values()].sort((a, b) => (a.name < b.name ? -1 : 1))) {
      place(child, at, depth + 1, kind);
      at += (child.ms / root.ms) * WIDTH;
    }
  };
  place(root, 0, 0, "");
  const height = HEAD + (deepest + 1) * ROW + 8;
  const out = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}">`,
    "<style>text{font:11px ui-monospace,monospace;pointer-events:none;fill:#111}.t{font:14px system-ui,sans-serif}svg{background:#fff}g[data-x]{cursor:pointer}</style>",
    `<text class="t" x="6" y="19">${escape(title)}</text>`,
  ];
  for (const { node, x, w, depth, above } of boxes) {
    const y = height - 8 - (depth + 1) * ROW;
    const share = root.ms > 0 ? (100 * node.ms) / root.ms : 0;
    const room = Math.floor((w - 6) / 6.6);
    const shown = room < 3 ? "" : node.name.length <= room ? node.name : `${node.name.slice(0, room - 1)}…`;
    const name = escape(node.name);
    out.push(
      `<g data-x="${x.toFixed(3)}" data-w="${w.toFixed(3)}" data-d="${depth}" data-n="${name}">` +
        `<title>${name}: ${node.ms.toFixed(1)} ms, ${share.toFixed(1)} %</title>` +
        `<rect x="${x.toFixed(2)}" y="${y}" width="${Math.max(0, w - 0.5).toFixed(2)}" height="${ROW - 1}" rx="1" fill="${colour(node.name, above)}"/>` +
        `<text x="${(x + 3).toFixed(2)}" y="${y + 12}">${escape(shown)}</text></g>`,
    );
  }
  out.push(
    `<script>${SCRIPT.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")}</script>`,
    "</svg>",
    "",
  );
  return out.join("\n");
}
