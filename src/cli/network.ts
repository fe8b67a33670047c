/** Options of the network: links between hosts, and files for Wireshark. */
import { closeSync, openSync, writeSync } from "node:fs";
import { InvalidArgumentError } from "commander";
import { parseLinkAddress, VifBackend, type LinkAddress } from "../devices/network/index.js";
import { InputError } from "../sys/node/index.js";
import { DEFAULT_BRIDGE } from "../toolstack/config/vif.js";
import type { RunningDomain } from "../toolstack/machine.js";

export interface LinkSpec {
  readonly bridge: string;
  readonly where: LinkAddress;
}
export const LINK_SYNTAX = "[BRIDGE=]HOST:PORT or [BRIDGE=]listen:[ADDRESS:]PORT";

/** A repeatable option's value, with those before it. */
export function link(text: string, before: LinkSpec[] = []): LinkSpec[] {
  const m = /^(?:([A-Za-z][\w.-]*)=)?(.*)$/.exec(text);
  try {
    return [...before, { bridge: m?.[1] ?? DEFAULT_BRIDGE, where: parseLinkAddress(m?.[2] ?? "") }];
  } catch {
    throw new InvalidArgumentError(`It must be ${LINK_SYNTAX}.`);
  }
}

export interface CaptureSpec {
  /** The domain's name; absent: the first domain. */
  readonly domain?: string | undefined;
  readonly devid: number;
  readonly file: string;
}
export const CAPTURE_SYNTAX = "[[DOMAIN.]N=]FILE";

export function capture(text: string, before: CaptureSpec[] = []): CaptureSpec[] {
  const m = /^(?:(?:([^=/]+)\.)?(\d+)=)?(.+)$/.exec(text);
  if (m === null) throw new InvalidArgumentError(`It must be ${CAPTURE_SYNTAX}.`);
  return [...before, { domain: m[1], devid: Number(m[2] ?? 0), file: m[3] ?? "" }];
}

/** A file that takes the frames of one vif, through any number of starts of its domain. */
export class Capture {
  private readonly fd: number;
  private stop: () => void = () => {};
  private begun = false;

  constructor(readonly spec: CaptureSpec) {
    try {
      this.fd = openSync(spec.file, "w");
    } catch (e) {
      throw new InputError(`${spec.file}: ${(e as Error).message}`);
    }
  }
  /** A domain has started. */
  follow(running: RunningDomain, first: boolean): void {
    const { domain, devid } = this.spec;
    if (domain === undefined ? !first : running.domain.name !== domain) return;
    const vif = running.devices.get("vif", devid);
    if (!(vif instanceof VifBackend)) throw new InputError(`--pcap: ${running.domain.name} has no vif ${devid}`);
    this.stop();
    this.stop = vif.capture((bytes) => {
      // The head of the file comes once.
      if (this.begun && bytes.length === PCAP_HEAD) return;
      this.begun = true;
      writeSync(this.fd, bytes);
    });
  }
  close(): void {
    this.stop();
    closeSync(this.fd);
  }
}
/** Bytes of a pcap file's head; a record has at least a header and a frame. */
const PCAP_HEAD = 24;
