/**
 * Options as GNU getopt_long reads them: bundled letters, values attached or in the next word, long names that may be cut short,
 * options after arguments, `--` as the end of options.
 */

export interface OptionSpec {
  /** Letters as getopt has them: `d:w:s`, where a colon says that a value follows. */
  readonly short: string;
  /** Long names and the letter each stands for. */
  readonly long?: Readonly<Record<string, string>> | undefined;
}

export interface Option {
  readonly letter: string;
  readonly value: string;
}

export interface Parsed {
  readonly options: readonly Option[];
  readonly args: readonly string[];
}

/** An option that there is not, or one without its value; `letter` is NUL for a long one, as `optopt` is 0 then. */
export class OptionError extends Error {
  override readonly name = "OptionError";
  constructor(readonly letter: string) {
    super(`option ${letter}`);
  }
}

const NUL = "\0";

/** `inOrder`: the first word that is no option ends them (getopt's `+`). */
export function getopt(words: readonly string[], spec: OptionSpec, inOrder = false): Parsed {
  const options: Option[] = [];
  const args: string[] = [];
  const takesValue = (letter: string): boolean => spec.short[spec.short.indexOf(letter) + 1] === ":";
  const known = (letter: string): boolean => letter !== ":" && (letter === "h" || spec.short.includes(letter));
  for (let i = 0; i < words.length; i++) {
    const word = words[i];
    if (word === "--") {
      args.push(...words.slice(i + 1));
      break;
    }
    if (!word.startsWith("-") || word === "-") {
      if (inOrder) {
        args.push(...words.slice(i));
        break;
      }
      args.push(word);
      continue;
    }
    if (word.startsWith("--") && spec.long !== undefined) {
      const eq = word.indexOf("=");
      const letter = longOption(word.slice(2, eq < 0 ? undefined : eq), spec.long);
      if (letter === undefined) throw new OptionError(NUL);
      if (takesValue(letter)) {
        const value = eq < 0 ? words[++i] : word.slice(eq + 1);
        if (value === undefined) throw new OptionError(letter);
        options.push({ letter, value });
      } else if (eq >= 0) throw new OptionError(letter);
      else options.push({ letter, value: "" });
      continue;
    }
    for (let at = 1; at < word.length; at++) {
      const letter = word[at];
      if (!known(letter)) throw new OptionError(letter);
      if (!takesValue(letter)) {
        options.push({ letter, value: "" });
        continue;
      }
      const value = at + 1 < word.length ? word.slice(at + 1) : words[++i];
      if (value === undefined) throw new OptionError(letter);
      options.push({ letter, value });
      break;
    }
  }
  return { options, args };
}

/** The letter of a long name or of the only name that begins so. */
function longOption(name: string, long: Readonly<Record<string, string>>): string | undefined {
  const all: Readonly<Record<string, string>> = { ...long, help: "h" };
  if (Object.hasOwn(all, name)) return all[name];
  const letters = new Set(Object.keys(all).flatMap((n) => (name !== "" && n.startsWith(name) ? [all[n]] : [])));
  return letters.size === 1 ? [...letters][0] : undefined;
}
