/**
 * The broadcast device in XenStore (the book's exercise 10.5): one domain writes a page, many read it.
 *
 *   back end, of every member:   channel, role ("writer" or "reader"), frontend-id, online, state
 *   back end of the writer:      readers/<domid> = ""           who wants to read: the writer grants and offers a port to each
 *   front end of the writer:     reader-<domid>/page-ref, reader-<domid>/event-channel
 *   back end of a reader:        writer-id, page-ref, event-channel   once the writer has answered
 *
 * The back end only introduces: the page is granted by the writer to each reader, read-only, and events go straight from one to the other.
 */
import { XenbusState, type Nodes } from "../xenbus/index.js";

export const KIND = "broadcast";
export type Role = "writer" | "reader";

export const readerNode = (domid: number): string => `readers/${domid}`;
export const answerNode = (domid: number): string => `reader-${domid}`;

export function broadcastNodes(domid: number, channel: string, role: Role): { front: Nodes; back: Nodes } {
  return {
    front: [["state", XenbusState.Initialising]],
    back: [
      ["frontend-id", domid],
      ["online", 1],
      ["state", XenbusState.Initialising],
      ["channel", channel],
      ["role", role],
    ],
  };
}
