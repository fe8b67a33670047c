/** Draws runs of (value, length) as a map: one cell for as many pages as must share it. */
export interface Drawn {
  /** What is at a point of the canvas, in CSS pixels. */
  at(x: number, y: number): { index: number; value: number } | null;
}

function rgb(color: string): readonly [number, number, number] {
  const m = /^#([0-9a-f]{6})$/i.exec(color);
  const n = m?.[1] === undefined ? 0x808080 : parseInt(m[1], 16);
  return [n >> 16, (n >> 8) & 255, n & 255];
}

/** @param colorOf `null`: nothing is there, leave it empty. */
export function drawRuns(
  canvas: HTMLCanvasElement,
  runs: readonly number[],
  first: number,
  colorOf: (value: number) => string | null,
): Drawn {
  let total = 0;
  for (let i = 1; i < runs.length; i += 2) total += runs[i] as number;
  const width = Math.max(1, canvas.clientWidth);
  const height = Math.max(1, canvas.clientHeight);
  // Square cells, as large as fit; below two pixels several pages share a cell.
  const size = Math.max(2, Math.floor(Math.sqrt((width * height) / Math.max(1, total))));
  const columns = Math.max(1, Math.floor(width / size));
  const rows = Math.max(1, Math.floor(height / size));
  const each = Math.max(1, Math.ceil(total / (columns * rows)));
  canvas.width = columns;
  canvas.height = Math.ceil(height / size);
  canvas.style.width = `${columns * size}px`;
  canvas.style.height = `${canvas.height * size}px`;
  const g = canvas.getContext("2d");
  const image = g?.createImageData(canvas.width, canvas.height);
  const cells: number[] = [];
  const colors = new Map<number, readonly [number, number, number] | null>();
  let at = 0;
  for (let i = 0; i < runs.length; i += 2) {
    const value = runs[i] as number;
    const end = at + (runs[i + 1] as number);
    let color = colors.get(value);
    if (color === undefined) {
      const text = colorOf(value);
      colors.set(value, (color = text === null ? null : rgb(text)));
    }
    for (let cell = Math.floor(at / each); cell <= Math.floor((end - 1) / each); cell++) {
      // Of several in a cell the rarest would be lost: anything wins over nothing, and the later over the earlier.
      if (color === null && cells[cell] !== undefined) continue;
      cells[cell] = value;
      if (color !== null && image !== undefined && cell * 4 + 3 < image.data.length) {
        image.data.set([color[0], color[1], color[2], 255], cell * 4);
      }
    }
    at = end;
  }
  if (g && image !== undefined) g.putImageData(image, 0, 0);
  return {
    at: (x, y) => {
      const column = Math.floor(x / size);
      if (column >= columns) return null;
      const cell = Math.floor(y / size) * columns + column;
      const value = cells[cell];
      return value === undefined ? null : { index: first + cell * each, value };
    },
  };
}
