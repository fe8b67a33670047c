/**
 * Packets of gdb's remote protocol: `$data#sum`, acknowledged by + or − until both sides agree to do without, and the interrupt byte 3.
 * A state machine over bytes; sockets are adapters. (The GDB manual, "Remote Protocol", Overview.)
 */

export type Incoming =
  | { readonly kind: "packet"; readonly text: Uint8Array }
  | { readonly kind: "interrupt" }
  /** The last packet sent must be sent again. */
  | { readonly kind: "again" };

/** The longest packet that is taken. */
export const PACKET_MAX = 0x4000;

const DOLLAR = 0x24,
  HASH = 0x23,
  ESCAPE = 0x7d,
  PLUS = 0x2b,
  MINUS = 0x2d,
  STAR = 0x2a,
  INTERRUPT = 3;

export class PacketReader {
  /** Acknowledge packets. */
  acks = true;
  private data: number[] | null = null;
  private sum = 0;
  /** Digits of the checksum still to come. */
  private digits = 0;
  private check = 0;

  /** `send` gets the acknowledgements. */
  constructor(private readonly send: (bytes: Uint8Array) => void) {}

  *push(bytes: Uint8Array): Generator<Incoming> {
    for (const b of bytes) {
      const got = this.take(b);
      if (got !== null) yield got;
    }
  }

  private take(b: number): Incoming | null {
    if (this.digits > 0) {
      const d = parseInt(String.fromCharCode(b), 16);
      this.check = this.check * 16 + (Number.isNaN(d) ? 256 : d);
      return --this.digits === 0 ? this.end() : null;
    }
    if (this.data === null) {
      if (b === DOLLAR) {
        this.data = [];
        this.sum = 0;
      } else if (b === INTERRUPT) return { kind: "interrupt" };
      else if (b === MINUS && this.acks) return { kind: "again" };
      return null;
    }
    if (b === HASH) {
      this.digits = 2;
      this.check = 0;
      return null;
    }
    this.sum = (this.sum + b) & 255;
    if (this.data.length < PACKET_MAX) this.data.push(b);
    return null;
  }

  private end(): Incoming | null {
    const raw = this.data ?? [];
    this.data = null;
    const good = this.check === this.sum && raw.length < PACKET_MAX;
    if (this.acks) this.send(Uint8Array.of(good ? PLUS : MINUS));
    if (!good) return null;
    const text: number[] = [];
    for (let i = 0; i < raw.length; i++) {
      const b = raw[i] as number;
      text.push(b === ESCAPE ? (raw[++i] as number) ^ 0x20 : b);
    }
    return { kind: "packet", text: Uint8Array.from(text) };
  }
}

/** A packet with its frame; what the protocol reserves is escaped. */
export function packet(data: Uint8Array): Uint8Array {
  const out = [DOLLAR];
  let sum = 0;
  const put = (b: number): void => {
    out.push(b);
    sum = (sum + b) & 255;
  };
  for (const b of data) {
    if (b === DOLLAR || b === HASH || b === ESCAPE || b === STAR) {
      put(ESCAPE);
      put(b ^ 0x20);
    } else put(b);
  }
  const hex = sum.toString(16).padStart(2, "0");
  out.push(HASH, hex.charCodeAt(0), hex.charCodeAt(1));
  return Uint8Array.from(out);
}

export function toHex(bytes: Uint8Array): string {
  let out = "";
  for (const b of bytes) out += b.toString(16).padStart(2, "0");
  return out;
}

/** Bytes of a hexadecimal text; null where it is none. */
export function fromHex(text: string): Uint8Array | null {
  if (text.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(text)) return null;
  return Uint8Array.from({ length: text.length / 2 }, (_, i) => parseInt(text.slice(2 * i, 2 * i + 2), 16));
}
