// What the common code may use beyond ECMAScript and WebAssembly: things that Node and every browser have alike.
// Timers, the console, streams and anything else of a platform come in through interfaces that `sys/` implements.

declare class TextEncoder {
  encode(text?: string): Uint8Array<ArrayBuffer>;
  encodeInto(text: string, target: Uint8Array): { read: number; written: number };
}

declare class TextDecoder {
  constructor(label?: string, options?: { fatal?: boolean; ignoreBOM?: boolean });
  decode(bytes?: ArrayBufferView | ArrayBufferLike, options?: { stream?: boolean }): string;
}

declare const performance: { now(): number; readonly timeOrigin: number };
