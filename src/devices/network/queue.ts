/**
 * One queue of a vif: a ring in each direction, with the event channels that belong to them.
 *
 * Invariant: what the guest sends may bring frames back to it in the same moment; answers are written only when its requests have been taken.
 */
import { Timer } from "../../hypervisor/time/timers.js";
import type { Timers } from "../../hypervisor/time/timers.js";
import type { EventChannel } from "../xenbus/channel.js";
import type { Packet } from "./packet.js";
import type { RxQueue, TxQueue } from "./protocol.js";

/** A front end without feature-rx-notify is looked at this often while frames wait. */
const POLL_NS = 1e9 / 30;

/** What a queue needs of its vif. */
export interface QueueOwner {
  readonly timers: Timers;
  now(): number;
  notify(channel: EventChannel): void;
  /** Run a callback between grains. */
  later(fn: () => void): void;
  readonly rxNotify: boolean;
}

export class VifQueue {
  private inTx = false;
  private closed = false;
  private readonly txTimer = new Timer(() => this.owner.later(() => this.runTx()));
  private readonly rxTimer = new Timer(() => this.owner.later(() => this.flushRx()));
  /** Set once bound. */
  txChannel: EventChannel | null = null;
  rxChannel: EventChannel | null = null;

  constructor(
    private readonly owner: QueueOwner,
    readonly tx: TxQueue,
    readonly rx: RxQueue,
  ) {}

  /** The connection is over. */
  close(): void {
    this.closed = true;
    this.tx.closed = true;
    this.owner.timers.stop(this.txTimer);
    this.owner.timers.stop(this.rxTimer);
  }

  runTx(): void {
    const { tx, txChannel, owner } = this;
    if (this.closed || txChannel === null || this.inTx) return;
    let wait = 0;
    this.inTx = true;
    try {
      wait = tx.run();
    } finally {
      this.inTx = false;
    }
    if (this.isClosed) return;
    if (tx.push()) owner.notify(txChannel);
    if (wait > 0) owner.timers.set(this.txTimer, owner.now() + wait);
    // Answers to what the guest sent waited until its requests were done.
    this.flushRx();
  }
  /** A frame may have ended this very connection. */
  private get isClosed(): boolean {
    return this.closed;
  }

  /** A frame for the guest. */
  add(p: Packet): void {
    if (this.closed) return;
    this.rx.add(p);
    if (!this.inTx) this.flushRx();
  }

  flushRx(): void {
    const { rx, rxChannel, owner } = this;
    if (this.closed || rxChannel === null) return;
    if (rx.flush()) owner.notify(rxChannel);
    if (rx.waiting > 0 && !owner.rxNotify) owner.timers.set(this.rxTimer, owner.now() + POLL_NS);
  }
}
