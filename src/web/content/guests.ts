/** The gallery: guests of ours that a page can start, with what to look at. */
import manifest from "../../../guests/manifest.json";
import type { DomainConfigText, ViewName } from "../state/lab.svelte.js";
import type { Environment } from "../worker/protocol.js";

export interface GalleryItem {
  readonly id: string;
  readonly title: string;
  readonly text: string;
  /** Section of the book, "" for none. */
  readonly chapter: string;
  /** The view that shows what it is about. */
  readonly view: ViewName;
  /** Images (names in guests/src or guests/hello). */
  readonly guests: readonly string[];
  readonly sources: readonly string[];
  /** The domains to be made; `next` is the number the first will have. */
  configs(env: Environment, next: number, name: (base: string) => string): readonly DomainConfigText[];
}

interface Extra {
  readonly cmdline?: string;
  readonly vcpus?: number;
  readonly memory?: number;
}

/** A configuration in xl's own words. Domains stay after their end, so that they can be looked at. */
export function guestConfig(env: Environment, image: string, name: string, extra: Extra = {}): DomainConfigText {
  const lines = [
    `name = "${name}"`,
    'type = "pv"',
    `kernel = "${env.guests}${image}.elf"`,
    `memory = ${extra.memory ?? 32}`,
    `vcpus = ${extra.vcpus ?? 1}`,
    'on_poweroff = "preserve"',
    'on_crash = "preserve"',
    'on_reboot = "preserve"',
  ];
  if (extra.cmdline !== undefined) lines.push(`extra = "${extra.cmdline}"`);
  return { name, text: `${lines.join("\n")}\n` };
}

function one(
  id: string,
  title: string,
  text: string,
  view: ViewName,
  options: { chapter?: string; extra?: Extra; source?: string } = {},
): GalleryItem {
  const entry = manifest.guests.find((g) => g.name === id) as { vcpus?: number } | undefined;
  const extra = { ...(entry?.vcpus === undefined ? {} : { vcpus: entry.vcpus }), ...options.extra };
  return {
    id,
    title,
    text,
    chapter: options.chapter ?? "",
    view,
    guests: [id],
    sources: [options.source ?? `src/${id}.c`],
    configs: (env, _next, name) => [guestConfig(env, id, name(id), extra)],
  };
}

export const gallery: readonly GalleryItem[] = [
  one(
    "hello",
    "The simplest kernel",
    "Forty lines of C that say one line, and what makes an ELF file a Xen kernel.",
    "trace",
    {
      chapter: "2.8",
      source: "hello/kernel.c",
    },
  ),
  one("time", "gettimeofday", "The clock that Xen publishes in shared memory, and the rules it keeps.", "hypercalls", {
    chapter: "3.4",
  }),
  one("grant-map", "A granted page", "Offer a page, map it, take it back: the grant table at work.", "grants", {
    chapter: "4.4",
  }),
  {
    id: "grant-share",
    title: "Two domains, one page",
    text: "They meet by a grant and an event channel, and take turns.",
    chapter: "4.5",
    view: "events",
    guests: ["grant-share"],
    sources: ["src/grant-share.c"],
    configs: (env, next, name) => [
      guestConfig(env, "grant-share", name("share-a"), { cmdline: `role=a peer=${next + 1} ref=20` }),
      guestConfig(env, "grant-share", name("share-b"), { cmdline: `role=b peer=${next} ref=20` }),
    ],
  },
  one("shared-info", "The shared info page", "One page of Xen's, mapped three ways.", "memory", { chapter: "5.8" }),
  one("console", "A console driver", "The write side: a ring of characters in a shared page.", "rings", {
    chapter: "6.7",
  }),
  one("console-echo", "The full console", "Input as well, by events. Type at it; “quit” ends it.", "events", {
    chapter: "7.10",
  }),
  {
    id: "scheduler",
    title: "Who gets the processor",
    text: "Three domains that never give up the CPU, on a scheduler that takes it from them.",
    chapter: "12.4",
    view: "scheduler",
    guests: ["spin"],
    sources: ["src/spin.c"],
    configs: (env, _next, name) => ["spin-a", "spin-b", "spin-c"].map((n) => guestConfig(env, "spin", name(n))),
  },
];

/** Guests that check the rules, one for each room of the hypervisor. */
export const rules: readonly GalleryItem[] = [
  one("traps", "Traps", "Exceptions, gates, emulated instructions.", "trace", { chapter: "rules" }),
  one("memory", "Memory", "Who may map what; page types; the balloon.", "memory", { chapter: "rules" }),
  one("grants", "Grants", "Mapping, copying, every refusal.", "grants", { chapter: "rules" }),
  one("events", "Events", "Sending, masking, binding; 2-level and FIFO.", "events", { chapter: "rules" }),
  one("sched", "Scheduling", "Yield, block, poll; a second vCPU.", "scheduler", { chapter: "rules" }),
  one("bench", "Bench", "What a hypercall, a trap, an event costs here.", "hypercalls", { chapter: "rules" }),
];

export function debianConfig(
  kernel: string,
  ramdisk: string | null,
  name: string,
  extra: DebianOptions,
): DomainConfigText {
  const lines = [
    `name = "${name}"`,
    'type = "pv"',
    `kernel = "${kernel}"`,
    ...(ramdisk === null ? [] : [`ramdisk = "${ramdisk}"`]),
    `memory = ${extra.memory}`,
    `vcpus = ${extra.vcpus}`,
    `extra = "${extra.cmdline}"`,
    ...(extra.network ? ['vif = [ "bridge=xenbr0" ]'] : []),
    ...(extra.disk === null ? [] : [`disk = [ "${extra.disk},raw,xvda,rw" ]`]),
    'on_poweroff = "preserve"',
    'on_crash = "preserve"',
  ];
  return { name, text: `${lines.join("\n")}\n` };
}

export interface DebianOptions {
  readonly memory: number;
  readonly vcpus: number;
  readonly cmdline: string;
  readonly network: boolean;
  readonly disk: string | null;
}
