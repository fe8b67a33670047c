/** The last lines of Xen's console, numbered, so that a reader can ask for what is new. */
import type { XenConsole } from "../hypervisor/console.js";
import type { LogView } from "./api.js";

const LINES = 2000;

export class Log {
  private lines: { seq: number; domid: number; text: string }[] = [];
  private next = 0;

  constructor(console: XenConsole) {
    // What was said before there was a reader.
    for (const text of console.text().split("\n")) if (text !== "") this.put(text, domidOf(text));
    console.onLine((text, domid) => this.put(text, domid));
  }
  private put(text: string, domid: number): void {
    this.lines.push({ seq: this.next++, domid, text });
    if (this.lines.length > LINES * 2) this.lines = this.lines.slice(-LINES);
  }
  view(after: number): LogView {
    const from = this.lines.findIndex((l) => l.seq > after);
    return { lines: from < 0 ? [] : this.lines.slice(from), next: this.next - 1 };
  }
}

function domidOf(text: string): number {
  const m = /^\(d(\d+)\) /.exec(text);
  return m === null ? -1 : Number(m[1]);
}
