/** One domain's terminal, from its first byte to after its end: it outlives the domain, so that last words can be read. */
import { Terminal, type ITheme } from "@xterm/xterm";
import { FitAddon } from "@xterm/addon-fit";
import type { ConsoleChannel } from "../../toolstack/host/api.js";
import type { LabHost } from "../../inspect/remote/lab.js";

const DARK: ITheme = {
  background: "#0b0e12",
  scrollbarSliderBackground: "#8a96a433",
  scrollbarSliderHoverBackground: "#8a96a466",
  scrollbarSliderActiveBackground: "#8a96a488",
  overviewRulerBorder: "#0b0e12",
  foreground: "#d5dbe3",
  cursor: "#4cc38a",
  cursorAccent: "#0b0e12",
  selectionBackground: "#2f4a63",
  black: "#1b2027",
  brightBlack: "#5c6773",
  green: "#4cc38a",
  brightGreen: "#6fe0a9",
  red: "#f0706c",
  yellow: "#e0b35a",
  blue: "#5aa3f0",
  magenta: "#b590f0",
  cyan: "#45c1cb",
};
const LIGHT: ITheme = {
  background: "#ffffff",
  scrollbarSliderBackground: "#5b687533",
  scrollbarSliderHoverBackground: "#5b687566",
  scrollbarSliderActiveBackground: "#5b687588",
  overviewRulerBorder: "#ffffff",
  foreground: "#1f2933",
  cursor: "#0b7a57",
  cursorAccent: "#ffffff",
  selectionBackground: "#cfe3f7",
  black: "#1f2933",
  white: "#4b5561",
  brightWhite: "#1f2933",
  brightBlack: "#7a8591",
  green: "#0b7a57",
  brightGreen: "#0b7a57",
  red: "#c0322d",
  yellow: "#8a6100",
  brightYellow: "#8a6100",
  blue: "#1f68c1",
  magenta: "#7b45c9",
  cyan: "#0b7285",
};

export class Session {
  readonly terminal: Terminal;
  readonly fit = new FitAddon();
  name = $state("");
  /** The domain is gone; what is left is its text. */
  gone = $state(false);
  private channel: ConsoleChannel | null = null;
  private opening: Promise<void> | null = null;
  private readonly early: Uint8Array[] = [];

  constructor(
    readonly domid: number,
    name: string,
    theme: "dark" | "light",
  ) {
    this.name = name;
    this.terminal = new Terminal({
      fontFamily: "ui-monospace, 'SF Mono', 'Cascadia Mono', 'DejaVu Sans Mono', Menlo, Consolas, monospace",
      fontSize: 12.5,
      lineHeight: 1.15,
      cursorBlink: true,
      scrollback: 5000,
      overviewRuler: { width: 9 },
      // Guests of ours end lines with a line feed alone; a tty's own carriage returns do no harm.
      convertEol: true,
      theme: theme === "dark" ? DARK : LIGHT,
      minimumContrastRatio: 3,
    });
    this.terminal.loadAddon(this.fit);
    const bytes = new TextEncoder();
    this.terminal.onData((text) => this.write(bytes.encode(text)));
    this.terminal.onBinary((text) => this.write(Uint8Array.from(text, (c) => c.charCodeAt(0))));
  }

  set theme(theme: "dark" | "light") {
    this.terminal.options.theme = theme === "dark" ? DARK : LIGHT;
  }

  /** Attach to the console; does nothing where it is, or is under way. Fails where the domain has no console (yet). */
  open(host: LabHost): Promise<void> {
    this.opening ??= this.attach(host).catch((e: unknown) => {
      this.opening = null;
      throw e;
    });
    return this.opening;
  }
  private async attach(host: LabHost): Promise<void> {
    this.channel = await host.openConsole(this.domid, 0, {
      data: (bytes) => this.terminal.write(bytes),
      end: () => (this.channel = null),
    });
    for (const b of this.early.splice(0)) this.channel.write(b);
  }
  /** Type at the console. */
  write(bytes: Uint8Array): void {
    if (this.gone) return;
    if (this.channel === null) this.early.push(bytes);
    else this.channel.write(bytes);
  }
  /** A line that came by Xen's console. */
  say(line: string): void {
    this.terminal.write(`${line}\r\n`);
  }
  ended(): void {
    if (this.gone) return;
    this.gone = true;
    this.terminal.options.cursorBlink = false;
    this.terminal.options.disableStdin = true;
    this.terminal.write("\x1b[?25l");
  }
  dispose(): void {
    this.channel?.close();
    this.terminal.dispose();
  }
  /** What is on the screen and above it, for tests and for copying. */
  get text(): string {
    const b = this.terminal.buffer.active;
    const lines: string[] = [];
    for (let i = 0; i < b.length; i++) lines.push(b.getLine(i)?.translateToString(true) ?? "");
    return lines.join("\n").trimEnd();
  }
}
