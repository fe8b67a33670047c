/** Where text goes: guest bytes unbuffered, messages as whole lines that start at the left edge, trace lines to a file or stderr. */
import { closeSync, openSync, writeSync } from "node:fs";

/** A stream as far as it is needed. */
export interface Sink {
  readonly isTTY?: boolean | undefined;
  write(data: Uint8Array | string): unknown;
}

const NEWLINE = 10;

export class Output {
  /** The last byte of the console was no line end: a message has to start a new line. */
  private midLine = false;

  constructor(
    private readonly consoleSink: Sink,
    private readonly messages: Sink,
  ) {}

  /** Bytes of the first domain's console. */
  console(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.consoleSink.write(bytes);
    this.midLine = bytes[bytes.length - 1] !== NEWLINE;
  }

  /** A message line. */
  line(text: string): void {
    // On a terminal both streams are one picture.
    if (this.midLine && this.consoleSink.isTTY === true && this.messages.isTTY === true) {
      this.midLine = false;
      this.messages.write(`\n${text}\n`);
    } else this.messages.write(`${text}\n`);
  }
}

/** Whole lines of a byte stream, each with a prefix: the consoles of domains that are not on the terminal. */
export class LineSplitter {
  private rest = "";
  private readonly decoder = new TextDecoder("utf-8");
  constructor(private readonly onLine: (line: string) => void) {}
  push(bytes: Uint8Array): void {
    const lines = (this.rest + this.decoder.decode(bytes, { stream: true })).split("\n");
    this.rest = lines.pop() ?? "";
    for (const line of lines) this.onLine(printable(line));
  }
  end(): void {
    if (this.rest !== "") this.onLine(printable(this.rest));
    this.rest = "";
  }
}

/** A guest's line without what could drive a terminal. */
function printable(line: string): string {
  return line.replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/g, "");
}

/** Trace lines, gathered and written in blocks; `flush` before anything else is said. */
export class TraceWriter {
  private text = "";
  private readonly fd: number | null;
  constructor(
    file: string | undefined,
    private readonly output: Output,
  ) {
    this.fd = file === undefined ? null : openSync(file, "w");
  }
  add(line: string): void {
    this.text += this.text === "" ? line : `\n${line}`;
    if (this.text.length > 32768) this.flush();
  }
  flush(): void {
    if (this.text === "") return;
    const text = this.text;
    this.text = "";
    if (this.fd === null) this.output.line(text);
    else writeSync(this.fd, `${text}\n`);
  }
  close(): void {
    this.flush();
    if (this.fd !== null) closeSync(this.fd);
  }
}
