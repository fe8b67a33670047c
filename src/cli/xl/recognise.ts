/**
 * The host's words for what stops a domain, with those of Xen that people and scripts look for. The host says what and where; what is
 * added is the phrase by which it is known.
 */

const PHRASES: readonly (readonly [RegExp, (m: RegExpExecArray) => string])[] = [
  [
    /^(?:.*: )?disk (\S+): (.+): no such file$/,
    (m) => `Disk vdev=${m[1]} failed to stat: ${m[2]}: No such file or directory`,
  ],
  [/^disk (\S+): exists already$/, (m) => `Disk vdev=${m[1]}: device already exists in xenstore`],
  [/^(.+): no such file$/, (m) => `failed to open file '${m[1]}': No such file or directory`],
  [/^(.*free memory.*)$/, (m) => `can't allocate low memory for domain: Out of memory: ${m[1]}`],
  [
    /^(.*(?:too little|does not fit|too small|too large|no room).*)$/,
    (m) => `not enough memory: Out of memory: ${m[1]}`,
  ],
  [
    /^(.*(?:not an ELF|not a kernel|no Xen notes?|neither an? ELF|wrong class|no loader).*)$/i,
    (m) => `no loader found: Invalid kernel: ${m[1]}`,
  ],
];

export function recognised(message: string): string {
  for (const [pattern, phrase] of PHRASES) {
    const m = pattern.exec(message);
    if (m !== null) return phrase(m);
  }
  return message;
}
