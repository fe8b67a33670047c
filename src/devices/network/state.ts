/** What a network front end asks for when it connects (public/io/netif.h), read from its own nodes: nothing there is believed. */
import { EINVAL, EOPNOTSUPP } from "../../abi/errno.js";
import { DeviceError } from "../xenbus/errors.js";
import type { FrontNodes } from "../xenbus/front-nodes.js";

/** multi-queue-max-queues at most: more serve nobody, for one thread serves them all. */
export const MAX_QUEUES = 8;
/** An XDP program's room in front of each frame, at most (XDP_PACKET_HEADROOM is 256). */
const MAX_HEADROOM = 1024;

/** The rings of one queue. */
export interface QueueFront {
  readonly txRef: number;
  readonly rxRef: number;
  /** Ports the front end offers; the same one twice without feature-split-event-channels. */
  readonly txPort: number;
  readonly rxPort: number;
}

export interface VifFront {
  readonly queues: readonly QueueFront[];
  /** Frames to the guest may take several slots. */
  readonly sg: boolean;
  readonly gsoV4: boolean;
  readonly gsoV6: boolean;
  /** Frames to the guest may have blank checksums. */
  readonly csumV4: boolean;
  readonly csumV6: boolean;
  /** The front end sends an event when it offers buffers. */
  readonly rxNotify: boolean;
  readonly headroom: number;
  /** Multicast frames only to the groups it names. */
  readonly multicastControl: boolean;
}

/** One queue has its nodes with the rest, several have directories queue-0, queue-1, … */
function readQueue(n: FrontNodes, prefix: string): QueueFront {
  const split = n.text(`${prefix}event-channel-tx`) !== undefined;
  const txPort = n.number(`${prefix}${split ? "event-channel-tx" : "event-channel"}`);
  return {
    txRef: n.number(`${prefix}tx-ring-ref`),
    rxRef: n.number(`${prefix}rx-ring-ref`),
    txPort,
    rxPort: split ? n.number(`${prefix}event-channel-rx`) : txPort,
  };
}

/** `max`: the queues that were offered. */
export function readFront(n: FrontNodes, max: number): VifFront {
  const queues = n.number("multi-queue-num-queues", 0xffff_ffff, 1);
  if (queues < 1 || queues > max)
    throw new DeviceError(`guest requested ${queues} queues, exceeding the maximum of ${max}.`, EINVAL);
  if (!n.flag("request-rx-copy")) throw new DeviceError("only request-rx-copy is offered", EOPNOTSUPP);
  return {
    queues: Array.from({ length: queues }, (_, i) => readQueue(n, queues === 1 ? "" : `queue-${i}/`)),
    sg: n.flag("feature-sg"),
    gsoV4: n.flag("feature-gso-tcpv4"),
    gsoV6: n.flag("feature-gso-tcpv6"),
    csumV4: !n.flag("feature-no-csum-offload"),
    csumV6: n.flag("feature-ipv6-csum-offload"),
    rxNotify: n.flag("feature-rx-notify"),
    headroom: readHeadroom(n),
    multicastControl: n.flag("request-multicast-control"),
  };
}

export function readHeadroom(n: FrontNodes): number {
  const v = n.number("xdp-headroom", 0xffff_ffff, 0);
  if (v > MAX_HEADROOM) throw new DeviceError(`xdp-headroom ${v} is above ${MAX_HEADROOM}`, EINVAL);
  return v;
}
