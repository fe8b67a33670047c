/** The worker of the page: a machine, its host and its inspector. The page has no machine code at all. */
import { version } from "../../../package.json";
import { Inspector } from "../../inspect/inspector.js";
import { serveLab } from "../../inspect/remote/lab.js";
import type { Message } from "../../inspect/remote/rpc.js";
import { BrowserPlatform } from "../../sys/browser/host-platform.js";
import { realClock, runMachine } from "../../sys/browser/index.js";
import { VirtualFiles } from "../../sys/browser/virtual-files.js";
import { Host } from "../../toolstack/host/host.js";
import { Machine } from "../../toolstack/machine.js";
import type { Environment, FromWorker, Start, ToWorker } from "./protocol.js";

const images = import.meta.glob<string>("../../../guests/images/*.elf", {
  eager: true,
  query: "?url",
  import: "default",
});
const GUESTS = "guests/";
const DEBIAN = "debian/";

interface Scope {
  postMessage(message: FromWorker): void;
  onmessage: ((e: MessageEvent<ToWorker>) => void) | null;
  readonly crossOriginIsolated: boolean;
}
const scope = globalThis as unknown as Scope;

function urls(base: string): (name: string) => string | undefined {
  const guests = new Map(Object.entries(images).map(([path, url]) => [path.slice(path.lastIndexOf("/") + 1), url]));
  return (name) => {
    if (name.startsWith(GUESTS)) {
      const url = guests.get(name.slice(GUESTS.length));
      return url === undefined ? undefined : new URL(url, import.meta.url).href;
    }
    return name.startsWith(DEBIAN) ? new URL(name, base).href : undefined;
  };
}

/** As much memory as was asked for, or as the browser gives. */
function makeMachine(options: Start["start"]): { machine: Machine; memoryMiB: number } {
  for (let memoryMiB = options.memoryMiB; ; memoryMiB = Math.floor(memoryMiB / 2)) {
    try {
      const { pcpus, scheduler } = options;
      return { machine: new Machine({ memoryMiB, pcpus, scheduler, clock: realClock() }), memoryMiB };
    } catch (e) {
      if (!(e instanceof RangeError) || memoryMiB <= 128) throw e;
    }
  }
}

/** What the page's server has beside the lab itself: lab.json says. */
async function debianAt(base: string): Promise<Environment["debian"]> {
  try {
    const answer = await fetch(new URL("lab.json", base));
    if (!answer.ok) return null;
    const { debian } = (await answer.json()) as { debian?: { kernel?: unknown; ramdisk?: unknown } | null };
    if (!debian || typeof debian.kernel !== "string" || typeof debian.ramdisk !== "string") return null;
    return { kernel: debian.kernel, ramdisk: debian.ramdisk };
  } catch {
    return null;
  }
}

function start(options: Start["start"]): (m: Message) => void {
  const { machine, memoryMiB } = makeMachine(options);
  const files = new VirtualFiles(urls(options.base));
  const host = new Host({ machine, platform: new BrowserPlatform(files), version });
  const run = runMachine(machine, { until: () => false });
  run.catch((e: unknown) => {
    const text = e instanceof Error ? (e.stack ?? e.message) : String(e);
    scope.postMessage({ failed: text });
  });
  machine.onInput = () => run.wake();
  const inspect = new Inspector(
    {
      xen: machine.xen,
      cpu: machine.cpu,
      xenstore: machine.xenstore,
      xs: machine.xs,
      devices: (domid) => host.domains.get(domid)?.running.devices.list() ?? [],
    },
    {
      wake: () => run.wake(),
      later: (fn, ms) => {
        const id = setTimeout(fn, ms);
        return () => clearTimeout(id);
      },
    },
  );
  const extra = {
    environment: async (): Promise<Environment> => ({
      kind: "page",
      guests: GUESTS,
      files: "",
      debian: await debianAt(options.base),
      memoryMiB,
      isolated: scope.crossOriginIsolated,
      title: "this page",
    }),
    putFile: (name: string, content: Blob) => files.put(name, content),
    getFile: (name: string) => files.get(name),
    removeFile: (name: string) => files.remove(name),
  };
  const { rpc } = serveLab({ host, inspect, extra }, (m) => scope.postMessage(m));
  return (m) => {
    rpc.receive(m);
    run.wake();
  };
}

let receive: ((m: Message) => void) | null = null;
scope.onmessage = ({ data }) => {
  if (!("start" in data)) return receive?.(data);
  try {
    receive = start(data.start);
  } catch (e) {
    scope.postMessage({ failed: e instanceof Error ? e.message : String(e) });
  }
};
