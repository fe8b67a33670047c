/** What the page and its worker say to each other beyond the lab's own calls. */
import type { Message } from "../../inspect/remote/rpc.js";

/** First message to the worker. */
export interface Start {
  readonly start: {
    /** The page's address: what the server has is found from there. */
    readonly base: string;
    readonly memoryMiB: number;
    readonly pcpus: number;
    readonly scheduler: string;
  };
}
/** In its place: no machine yet, but one whose runs are recorded and replayed (inspect/studio.ts). */
export interface StartStudio {
  readonly studio: { readonly base: string };
}
export type ToWorker = Start | StartStudio | Message;
/** The machine stopped for a mistake of its own: nothing more will come. */
export interface Failed {
  readonly failed: string;
}
export type FromWorker = Message | Failed;

/** Where a lab's own files are, for configurations made by the page. */
export interface Environment {
  readonly kind: "page" | "service";
  /** Folder of the guests' images, with a slash at its end. */
  readonly guests: string;
  /** The same for files that the page brings or takes away. */
  readonly files: string;
  /** Debian's kernel and RAM disk, where there are any. */
  readonly debian: { readonly kernel: string; readonly ramdisk: string } | null;
  readonly memoryMiB: number;
  readonly isolated: boolean;
  readonly title: string;
}
