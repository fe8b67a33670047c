/** Ways to a lab: the worker of this page, or a host service behind a WebSocket. */
import { LabClient } from "../../inspect/remote/lab.js";
import { decode, encode } from "../../inspect/remote/text.js";
import type { Message } from "../../inspect/remote/rpc.js";
import type { FromWorker, Start, ToWorker } from "../worker/protocol.js";

export interface Connection {
  readonly client: LabClient;
  close(): void;
}

export function openWorker(options: Omit<Start["start"], "base">): Connection {
  return open({ start: { base: document.baseURI, ...options } });
}
/** A machine for a recorded run. */
export function openStudio(): Connection {
  return open({ studio: { base: document.baseURI } });
}

function open(first: ToWorker): Connection {
  const worker = new Worker(new URL("../worker/machine-worker.ts", import.meta.url), { type: "module" });
  const post = (m: ToWorker): void => worker.postMessage(m);
  const client = new LabClient(post);
  worker.onmessage = ({ data }: MessageEvent<FromWorker>) => {
    if ("failed" in data) client.rpc.closed(`the machine has stopped: ${data.failed}`);
    else client.rpc.receive(data);
  };
  worker.onerror = (e) =>
    client.rpc.closed(`the machine's worker has failed: ${e.message || "it could not be loaded"}`);
  post(first);
  return {
    client,
    close: () => {
      worker.terminate();
      client.rpc.closed("closed");
    },
  };
}

export function openSocket(url: string): Promise<Connection> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url);
    const client = new LabClient((m: Message) => {
      if (socket.readyState === WebSocket.OPEN) socket.send(encode(m));
    });
    const close = (): void => socket.close();
    socket.onopen = () => resolve({ client, close });
    socket.onmessage = (e: MessageEvent<unknown>) => {
      if (typeof e.data === "string") client.rpc.receive(decode(e.data));
    };
    socket.onclose = (e) => {
      const why = e.reason || "the connection to the host service has ended";
      reject(new Error(why));
      client.rpc.closed(why);
    };
  });
}
