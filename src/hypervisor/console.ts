/**
 * Xen's console: what the hypervisor says, and what guests say through console_io, as one ring of text that `xl dmesg` reads and
 * that sinks may follow. Lines of guests carry the prefix `(dN) `, those of the hypervisor `(XEN) `.
 *
 * Invariant: guest bytes are reduced to printable characters, so that no guest can drive the terminal of whoever reads the log.
 */

/** 16 KiB, as on a real host with one CPU. */
const RING_SIZE = 16384;
/** A guest's line is cut here, as Xen does with its per-domain buffer. */
const LINE_MAX = 200;

export class XenConsole {
  private ring = "";
  private readonly partial = new Map<number, string>();
  private readonly input: number[] = [];
  private readonly sinks = new Set<(text: string, domid: number) => void>();

  /** Follow complete lines; `domid` is −1 for the hypervisor's own. */
  onLine(sink: (text: string, domid: number) => void): () => void {
    this.sinks.add(sink);
    return () => this.sinks.delete(sink);
  }

  /** One line of the hypervisor's log. */
  log(line: string): void {
    this.put(`(XEN) ${line}`, -1);
  }

  /** Bytes that a domain wrote with CONSOLEIO_write. */
  guestWrite(domid: number, bytes: Uint8Array): void {
    let line = this.partial.get(domid) ?? "";
    for (const c of bytes) {
      if (c === 10) {
        this.put(`(d${domid}) ${line}`, domid);
        line = "";
      } else if ((c >= 32 && c < 127) || c === 9) {
        line += String.fromCharCode(c);
        if (line.length >= LINE_MAX) {
          this.put(`(d${domid}) ${line}`, domid);
          line = "";
        }
      }
    }
    if (line === "") this.partial.delete(domid);
    else this.partial.set(domid, line);
  }

  /** A domain is gone: what it left of a line is shown. */
  flush(domid: number): void {
    const line = this.partial.get(domid);
    this.partial.delete(domid);
    if (line !== undefined) this.put(`(d${domid}) ${line}`, domid);
  }

  /** Input for CONSOLEIO_read (dom0 only). */
  type(bytes: Uint8Array): void {
    for (const c of bytes) this.input.push(c);
  }
  read(max: number): Uint8Array {
    return Uint8Array.from(this.input.splice(0, max));
  }

  /** The ring's text, oldest first. */
  text(): string {
    return this.ring;
  }
  clear(): void {
    this.ring = "";
  }

  private put(line: string, domid: number): void {
    this.ring += line + "\n";
    if (this.ring.length > RING_SIZE * 2) this.ring = this.ring.slice(-RING_SIZE);
    for (const s of this.sinks) s(line, domid);
  }
}
