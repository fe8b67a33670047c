/** What `create -F` and `restore -F` tell: the end of a domain, and what the host does about it. The host acts; this only watches. */
import type { HostApi, HostEvent } from "../../toolstack/host/api.js";
import type { Xl } from "./command.js";
import { OK } from "./exit.js";

const RESTARTS: ReadonlySet<string> = new Set(["restart", "rename-restart", "coredump-restart"]);

export class Monitor {
  /** Events that nobody has looked at yet: a domain may end before `watch`. */
  private readonly queue: HostEvent[] = [];
  private wake: (() => void) | undefined;
  private readonly unsubscribe: () => void;

  constructor(
    private readonly xl: Xl,
    host: HostApi,
  ) {
    this.unsubscribe = host.onEvent((event) => {
      this.queue.push(event);
      this.wake?.();
    });
  }

  stop(): void {
    this.unsubscribe();
  }

  private async next(): Promise<HostEvent> {
    for (;;) {
      const event = this.queue.shift();
      if (event !== undefined) return event;
      await new Promise<void>((resolve) => (this.wake = resolve));
    }
  }

  /** Until the domain, or what it has become by restarting, is no more. */
  async watch(domid: number, name: string): Promise<number> {
    const { xl } = this;
    try {
      let current = domid;
      let code: number | undefined;
      const waiting = (): void => xl.err(`Waiting for domain ${name} (domid ${current}) to die [pid ${xl.io.pid}]`);
      waiting();
      for (;;) {
        const event = await this.next();
        if (event.domid !== current) continue;
        if (event.type === "shutdown") {
          code = event.code;
          xl.err(`Domain ${current} has shut down, reason code ${code} 0x${code.toString(16)}`);
        } else if (event.type === "destroyed" && code === undefined) {
          xl.err(`Domain ${current} has been destroyed.`);
          return OK;
        } else if (event.type === "action") {
          xl.err(`Action for shutdown reason code ${code ?? 0} is ${event.action}`);
          if (event.action === "preserve") {
            xl.err("Done. Exiting now");
            return OK;
          }
          xl.err(`Domain ${current} needs to be cleaned up: destroying the domain`);
          if (!RESTARTS.has(event.action) || event.newDomid === undefined) {
            xl.err("Done. Exiting now");
            return OK;
          }
          xl.err("Done. Rebooting now");
          current = event.newDomid;
          code = undefined;
          waiting();
        }
      }
    } finally {
      this.stop();
    }
  }
}
