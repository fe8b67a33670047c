/** Instruction bytes as text. The disassembler (a library in WebAssembly) is loaded when it is first needed. */
export interface Line {
  /** 16 digits. */
  readonly at: string;
  readonly bytes: string;
  readonly text: string;
}

const LINES = 24;
/** Bytes that no instruction exceeds: what is cut off at the end is not shown. */
const LONGEST = 15;

/** @param code hexadecimal digits, `..` where nothing is mapped */
export async function disassemble(code: string, rip: string): Promise<readonly Line[]> {
  const mapped = /^(?:[0-9a-f]{2})*/.exec(code)?.[0] ?? "";
  if (mapped === "") return [{ at: rip, bytes: "", text: "nothing is mapped here" }];
  const bytes = Uint8Array.from(mapped.match(/../g) ?? [], (b) => parseInt(b, 16));
  const iced = await import("iced-x86");
  const decoder = new iced.Decoder(64, bytes, iced.DecoderOptions.None);
  const formatter = new iced.Formatter(iced.FormatterSyntax.Nasm);
  const out: Line[] = [];
  try {
    decoder.ip = BigInt(`0x${rip}`);
    formatter.digitSeparator = "";
    formatter.firstOperandCharIndex = 8;
    formatter.hexPrefix = "0x";
    formatter.hexSuffix = "";
    formatter.uppercaseHex = false;
    formatter.showBranchSize = false;
    formatter.branchLeadingZeros = false;
    formatter.spaceAfterOperandSeparator = true;
    while (decoder.canDecode && out.length < LINES) {
      const from = decoder.position;
      if (from > 0 && bytes.length - from < LONGEST) break;
      const insn = decoder.decode();
      const text = insn.isInvalid ? "(bad)" : formatter.format(insn);
      out.push({
        at: BigInt.asUintN(64, insn.ip).toString(16).padStart(16, "0"),
        bytes: mapped.slice(from * 2, decoder.position * 2),
        text,
      });
      insn.free();
    }
  } finally {
    formatter.free();
    decoder.free();
  }
  return out;
}
