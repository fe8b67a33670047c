/** Values of options that several commands take. */
import { InvalidArgumentError } from "commander";

export function whole(least: number, most: number): (text: string) => number {
  return (text) => {
    const n = /^\d+$/.test(text) ? Number(text) : NaN;
    if (!(n >= least && n <= most))
      throw new InvalidArgumentError(`It must be a whole number from ${least} to ${most}.`);
    return n;
  };
}

/** Of an option that may be given again and again. */
export function collect(text: string, before: string[] = []): string[] {
  return [...before, text];
}
