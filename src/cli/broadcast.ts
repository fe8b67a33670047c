/** `--broadcast`: domains of one run on a broadcast channel (the book's exercise 10.5). */
import { InvalidArgumentError } from "commander";
import { attachBroadcast, BroadcastChannel } from "../devices/broadcast/index.js";
import { InputError } from "../sys/node/index.js";
import type { Machine, RunningDomain } from "../toolstack/machine.js";

export interface BroadcastSpec {
  readonly channel: string;
  readonly writer: string;
  readonly readers: readonly string[];
}
export const BROADCAST_SYNTAX = "CHANNEL:WRITER,READER[,READER…] (names of domains)";

export function broadcast(text: string, before: BroadcastSpec[] = []): BroadcastSpec[] {
  const m = /^([\w.-]+):([^,:]+)((?:,[^,:]+)+)$/.exec(text);
  if (m === null) throw new InvalidArgumentError(`It must be ${BROADCAST_SYNTAX}.`);
  return [...before, { channel: m[1] ?? "", writer: m[2] ?? "", readers: (m[3] ?? "").slice(1).split(",") }];
}

/** The channels of a run. */
export class Broadcasts {
  private readonly channels: readonly { readonly spec: BroadcastSpec; readonly channel: BroadcastChannel }[];

  /** Throws an InputError where a domain is named that is not there. */
  constructor(
    private readonly machine: Machine,
    specs: readonly BroadcastSpec[],
    names: readonly string[],
  ) {
    for (const s of specs)
      for (const n of [s.writer, ...s.readers])
        if (!names.includes(n)) throw new InputError(`--broadcast: there is no domain "${n}" in this run`);
    this.channels = specs.map((spec) => ({ spec, channel: new BroadcastChannel(spec.channel) }));
  }
  /** A domain has started: plug it in. */
  attach(running: RunningDomain): void {
    const { name } = running.domain;
    for (const { spec, channel } of this.channels) {
      if (spec.writer === name) attachBroadcast(this.machine, running.devices, channel, "writer");
      if (spec.readers.includes(name)) attachBroadcast(this.machine, running.devices, channel, "reader");
    }
  }
}
