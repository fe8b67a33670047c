// The configuration grammar of xl (libxlu): it looks like Python and is not.
//
//   file    = { [ name ("=" | "+=") value ] (newline | ";") }
//   value   = string | number | "[" { newline } [ value { newline } { "," { newline } value { newline } } [ "," ] ] "]"
//   string  = '…' | "…" with \-escapes, on one line;   number = digits, C notation;   comment = # to the end of the line
//
// A number and a string that looks like one are the same thing. A name that is set twice keeps its last value.
// Messages are libxlu's own, so that people find them: `file:line: config parsing error near `text': what`.

/** A mistake in a configuration: one line with the place of it. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

export interface XluAtom {
  readonly kind: "atom";
  readonly text: string;
  readonly line: number;
}
export interface XluList {
  readonly kind: "list";
  readonly items: readonly XluValue[];
  readonly line: number;
}
export type XluValue = XluAtom | XluList;

export interface XluSetting {
  readonly name: string;
  readonly value: XluValue;
  /** Where it stands: a file name, or the name given for a command line. */
  readonly source: string;
  readonly line: number;
}

type TokenKind = "IDENT" | "STRING" | "NUMBER" | "NEWLINE" | "'='" | "+=" | "';'" | "','" | "'['" | "']'" | "$end";

interface Token {
  readonly kind: TokenKind;
  /** As written. */
  readonly raw: string;
  readonly line: number;
}

const TOKEN =
  /[ \t\f\r]+|#[^\n]*|(?<newline>\n)|(?<ident>[A-Za-z_][A-Za-z0-9_]*)|(?<number>\d[0-9a-fA-FxX]*)|(?<string>'(?:[^'\\\n]|\\[^\n])*'|"(?:[^"\\\n]|\\[^\n])*")|(?<append>\+=)|(?<punct>[=;,[\]])/y;

function tokenize(text: string, source: string): Token[] {
  const tokens: Token[] = [];
  let line = 1;
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.length) {
    const at = TOKEN.lastIndex;
    const m = TOKEN.exec(text);
    if (m === null) {
      const rest = /^(["'][^\n]*|.)/u.exec(text.slice(at))?.[0] ?? "";
      throw parseError(source, line, rest, "lexical error");
    }
    const raw = m[0];
    const g = m.groups ?? {};
    if (g["newline"] !== undefined) tokens.push({ kind: "NEWLINE", raw: "", line: line++ });
    else if (g["ident"] !== undefined) tokens.push({ kind: "IDENT", raw, line });
    else if (g["number"] !== undefined) tokens.push({ kind: "NUMBER", raw, line });
    else if (g["string"] !== undefined) tokens.push({ kind: "STRING", raw, line });
    else if (g["append"] !== undefined) tokens.push({ kind: "+=", raw, line });
    else if (g["punct"] !== undefined) tokens.push({ kind: `'${raw}'` as TokenKind, raw, line });
  }
  tokens.push({ kind: "$end", raw: "", line });
  return tokens;
}

const parseError = (source: string, line: number, near: string, what: string): ConfigError =>
  new ConfigError(`${source}:${line}: config parsing error near \`${near}': ${what}`);

const SIMPLE_ESCAPES: Readonly<Record<string, string>> = {
  a: "\x07",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
  v: "\v",
};

/** The text of a string token: quotes off, escapes as in C. */
function unquote(token: Token, source: string): string {
  return token.raw.slice(1, -1).replace(/\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)/gsu, (_, e: string) => {
    if (/^x./.test(e)) return String.fromCharCode(parseInt(e.slice(1), 16));
    if (/^[0-7]/.test(e)) return String.fromCharCode(parseInt(e, 8) & 255);
    const simple = SIMPLE_ESCAPES[e];
    if (simple !== undefined) return simple;
    if (/^[A-Za-z0-9]/.test(e)) {
      throw parseError(source, token.line, token.raw, `invalid character after backslash in quoted string: "${e}"`);
    }
    return e;
  });
}

class Parser {
  private readonly tokens: readonly Token[];
  private readonly source: string;
  private at = 0;

  constructor(text: string, source: string) {
    this.source = source;
    this.tokens = tokenize(text, source);
  }

  private get next(): Token {
    return this.tokens[this.at];
  }

  private fail(expecting: string): never {
    const t = this.next;
    const tail = expecting === "" ? "" : `, expecting ${expecting}`;
    throw parseError(this.source, t.line, t.raw, `syntax error, unexpected ${t.kind}${tail}`);
  }

  private accept(kind: TokenKind): boolean {
    if (this.next.kind !== kind) return false;
    this.at++;
    return true;
  }

  private newlines(): void {
    while (this.accept("NEWLINE"));
  }

  settings(): { setting: XluSetting; append: boolean }[] {
    const list: { setting: XluSetting; append: boolean }[] = [];
    for (;;) {
      while (this.accept("NEWLINE") || this.accept("';'"));
      if (this.accept("$end")) return list;
      const name = this.next;
      if (!this.accept("IDENT")) this.fail("");
      const append = this.next.kind === "+=";
      if (!this.accept("'='") && !this.accept("+=")) this.fail("+= or '='");
      const value = this.value();
      list.push({ setting: { name: name.raw, value, source: this.source, line: name.line }, append });
      if (this.next.kind !== "$end" && !this.accept("NEWLINE") && !this.accept("';'")) this.fail("NEWLINE or ';'");
    }
  }

  private value(): XluValue {
    const t = this.next;
    if (this.accept("NUMBER")) return { kind: "atom", text: t.raw, line: t.line };
    if (this.accept("STRING")) return { kind: "atom", text: unquote(t, this.source), line: t.line };
    if (!this.accept("'['")) this.fail("STRING or NUMBER or '['");
    const items: XluValue[] = [];
    for (;;) {
      this.newlines();
      if (this.accept("']'")) break;
      if (this.next.kind === "$end" || this.next.kind === "','") this.fail("']'");
      items.push(this.value());
      this.newlines();
      if (this.accept("']'")) break;
      if (!this.accept("','")) this.fail("']'");
    }
    return { kind: "list", items, line: t.line };
  }
}

/** The settings of one or more sources read one after the other: the last value of a name counts. */
export class XluConfig {
  private readonly map = new Map<string, XluSetting>();

  /** Reads more text, for example `key=value` of a command line after the file. Throws a ConfigError. */
  read(text: string, source: string): this {
    for (const { setting, append } of new Parser(text, source).settings()) {
      const old = append ? this.map.get(setting.name) : undefined;
      this.map.set(setting.name, old === undefined ? setting : joined(old, setting));
    }
    return this;
  }

  get(name: string): XluSetting | undefined {
    return this.map.get(name);
  }

  [Symbol.iterator](): IterableIterator<XluSetting> {
    return this.map.values();
  }
}

/** `name += value`: lists grow, strings are joined. */
function joined(old: XluSetting, more: XluSetting): XluSetting {
  const a = old.value;
  const b = more.value;
  if (a.kind === "list" && b.kind === "list") {
    return { ...more, value: { kind: "list", items: [...a.items, ...b.items], line: b.line } };
  }
  if (a.kind === "atom" && b.kind === "atom") {
    return { ...more, value: { kind: "atom", text: a.text + b.text, line: b.line } };
  }
  const what = (v: XluValue): string => (v.kind === "list" ? "list" : "string");
  throw new ConfigError(
    `${more.source}:${more.line}: can't add [${what(b)}] to [${what(a)}] in parameter \`${more.name}'`,
  );
}

/** Reads one configuration. Throws a ConfigError that names file and line. */
export const parseXlu = (text: string, source: string): XluConfig => new XluConfig().read(text, source);
