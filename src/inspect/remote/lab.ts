/**
 * A host with its inspector behind one pipe: `serveLab` on the machine's side, `LabClient` on the page's. Methods are those of `HostApi`
 * by name, those of `InspectApi` with `inspect.` before them, and further ones that the machine's side offers (`lab.…`).
 */
import type { ConsoleChannel, DomainRef, HostApi, HostEvent } from "../../toolstack/host/api.js";
import { INSPECT_METHODS, type InspectApi } from "../api.js";
import { RpcClient, RpcServer, type RpcHandler, type Send } from "./rpc.js";

/** What the page uses of a host. */
export const HOST_METHODS = [
  "info",
  "listDomains",
  "getDomain",
  "create",
  "destroy",
  "shutdown",
  "pause",
  "unpause",
  "rename",
  "setSched",
  "save",
  "restore",
  "fork",
  "dmesg",
] as const satisfies readonly (keyof HostApi)[];

export type LabHost = Pick<HostApi, (typeof HOST_METHODS)[number] | "openConsole" | "onEvent">;

export interface Lab {
  readonly host: LabHost;
  readonly inspect: InspectApi;
  /** Further methods, without their `lab.`. */
  readonly extra?: Readonly<Record<string, RpcHandler>>;
}

/** Serve a lab to one client. The result takes its messages; `closed` ends what it has open. */
export function serveLab(lab: Lab, send: Send): { readonly rpc: RpcServer; closed(): void } {
  const handlers = new Map<string, RpcHandler>();
  const { host, inspect } = lab;
  for (const name of HOST_METHODS) handlers.set(name, (host[name] as RpcHandler).bind(host));
  for (const name of INSPECT_METHODS) handlers.set(`inspect.${name}`, (inspect[name] as RpcHandler).bind(inspect));
  for (const [name, fn] of Object.entries(lab.extra ?? {})) handlers.set(`lab.${name}`, fn);
  const channels = new Map<number, ConsoleChannel>();
  let next = 1;
  handlers.set("console.open", async (ref: DomainRef, index: number) => {
    const channel = next++;
    const open = await host.openConsole(ref, index, {
      // A copy: the bytes may be a view on the machine's memory.
      data: (bytes) => rpc.emit("console", { channel, bytes: bytes.slice() }),
      end: (reason) => {
        channels.delete(channel);
        rpc.emit("console-end", { channel, reason });
      },
    });
    channels.set(channel, open);
    return channel;
  });
  handlers.set("console.write", (channel: number, bytes: Uint8Array) => {
    channels.get(channel)?.write(bytes);
  });
  handlers.set("console.close", (channel: number) => {
    channels.get(channel)?.close();
    channels.delete(channel);
  });
  const rpc = new RpcServer(send, handlers);
  const stop = host.onEvent((e) => rpc.emit("host", e));
  return {
    rpc,
    closed: () => {
      stop();
      for (const c of channels.values()) c.close();
      channels.clear();
    },
  };
}

interface ConsoleSink {
  data(bytes: Uint8Array): void;
  end(reason: string): void;
}

/** A lab somewhere else. */
export class LabClient implements Lab {
  readonly rpc: RpcClient;
  readonly host: LabHost;
  readonly inspect: InspectApi;
  private readonly sinks = new Map<number, ConsoleSink>();
  /** Output that came before its channel's number. */
  private readonly early = new Map<number, ((sink: ConsoleSink) => void)[]>();

  constructor(send: Send) {
    const rpc = (this.rpc = new RpcClient(send));
    const host: Record<string, unknown> = {};
    for (const name of HOST_METHODS) host[name] = (...p: unknown[]) => rpc.call(name, ...p);
    host["openConsole"] = (ref: DomainRef, index: number, sink: ConsoleSink) => this.open(ref, index, sink);
    host["onEvent"] = (sink: (e: HostEvent) => void) => rpc.on("host", (e) => sink(e as HostEvent));
    this.host = host as unknown as LabHost;
    const inspect: Record<string, unknown> = {};
    for (const name of INSPECT_METHODS) inspect[name] = (...p: unknown[]) => rpc.call(`inspect.${name}`, ...p);
    this.inspect = inspect as unknown as InspectApi;
    rpc.on("console", (data) => {
      const { channel, bytes } = data as { channel: number; bytes: Uint8Array };
      this.deliver(channel, (s) => s.data(bytes));
    });
    rpc.on("console-end", (data) => {
      const { channel, reason } = data as { channel: number; reason: string };
      this.deliver(channel, (s) => s.end(reason));
    });
  }

  /** One of the machine side's own methods. */
  extraCall(name: string, ...params: readonly unknown[]): Promise<unknown> {
    return this.rpc.call(`lab.${name}`, ...params);
  }

  private deliver(channel: number, fn: (sink: ConsoleSink) => void): void {
    const sink = this.sinks.get(channel);
    if (sink !== undefined) fn(sink);
    else this.early.set(channel, [...(this.early.get(channel) ?? []), fn]);
  }
  private async open(ref: DomainRef, index: number, sink: ConsoleSink): Promise<ConsoleChannel> {
    const channel = (await this.rpc.call("console.open", ref, index)) as number;
    this.sinks.set(channel, sink);
    for (const fn of this.early.get(channel) ?? []) fn(sink);
    this.early.delete(channel);
    const quietly = (p: Promise<unknown>): void => void p.catch(() => {});
    return {
      write: (bytes) => quietly(this.rpc.call("console.write", channel, bytes)),
      close: () => {
        this.sinks.delete(channel);
        quietly(this.rpc.call("console.close", channel));
      },
    };
  }
}
