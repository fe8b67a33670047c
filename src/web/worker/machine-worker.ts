/** The worker of the page: a machine, its host and its inspector; or a recorded run. The page has no machine code at all. */
import { version } from "../../../package.json";
import type { PageSource } from "../../debug/replay/page-source.js";
import { Inspector } from "../../inspect/inspector.js";
import { Studio, type Move } from "../../inspect/studio.js";
import { serveLab } from "../../inspect/remote/lab.js";
import type { Message } from "../../inspect/remote/rpc.js";
import { BrowserPlatform } from "../../sys/browser/host-platform.js";
import { realClock, runMachine } from "../../sys/browser/index.js";
import { VirtualFiles } from "../../sys/browser/virtual-files.js";
import { HostError } from "../../toolstack/host/api.js";
import { Host } from "../../toolstack/host/host.js";
import { Machine } from "../../toolstack/machine.js";
import type { Environment, FromWorker, Start, StartStudio, ToWorker } from "./protocol.js";

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

async function environment(base: Start["start"]["base"], memoryMiB: number, title: string): Promise<Environment> {
  return {
    kind: "page",
    guests: GUESTS,
    files: "",
    debian: await debianAt(base),
    memoryMiB,
    isolated: scope.crossOriginIsolated,
    title,
  };
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
      later,
    },
  );
  const extra = {
    environment: () => environment(options.base, memoryMiB, "this page"),
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

const later = (fn: () => void, ms: number): (() => void) => {
  const id = setTimeout(fn, ms);
  return () => clearTimeout(id);
};

function startStudio(options: StartStudio["studio"]): (m: Message) => void {
  const files = new VirtualFiles(urls(options.base));
  const { port1, port2 } = new MessageChannel();
  const waiting: (() => void)[] = [];
  port1.onmessage = () => waiting.shift()?.();
  const studio = new Studio({
    version,
    read: async (name) => {
      if (files.has(name)) return files.bytes(name);
      throw new HostError("invalid", `${name.replace("files/", "")} is needed: drop it together with the recording`);
    },
    // Only secure contexts can hash; the size is compared in any case.
    sha256: async (bytes) => {
      if (!globalThis.isSecureContext) return "";
      const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new Uint8Array(bytes)));
      return [...digest].map((b) => b.toString(16).padStart(2, "0")).join("");
    },
    turn: () =>
      new Promise((done) => {
        waiting.push(done);
        port2.postMessage(0);
      }),
    sleep: (ms) => new Promise((done) => setTimeout(done, ms)),
    inspect: { later },
  });
  const extra = {
    environment: () => environment(options.base, 0, "a recorded run"),
    putFile: (name: string, content: Blob) => files.put(name, content),
    record: (source: PageSource) => studio.record(source),
    stop: () => studio.stop(),
    file: () => studio.file(),
    open: (content: string) => studio.openFile(content),
    move: (move: Move) => studio.move(move),
    status: () => studio.status(),
  };
  const { rpc } = serveLab({ host: studio.host, inspect: studio.inspect, extra }, (m) => scope.postMessage(m));
  return (m) => rpc.receive(m);
}

let receive: ((m: Message) => void) | null = null;
scope.onmessage = ({ data }) => {
  if (!("start" in data || "studio" in data)) return receive?.(data);
  try {
    receive = "start" in data ? start(data.start) : startStudio(data.studio);
  } catch (e) {
    scope.postMessage({ failed: e instanceof Error ? e.message : String(e) });
  }
};
