/** XenbusState with names for messages, and what a peer's state node says (hostile text included). */
import {
  XenbusStateClosed,
  XenbusStateClosing,
  XenbusStateConnected,
  XenbusStateInitialised,
  XenbusStateInitialising,
  XenbusStateInitWait,
  XenbusStateReconfigured,
  XenbusStateReconfiguring,
  XenbusStateUnknown,
} from "../../abi/io_xenbus.js";

export const XenbusState = {
  Unknown: XenbusStateUnknown,
  Initialising: XenbusStateInitialising,
  InitWait: XenbusStateInitWait,
  Initialised: XenbusStateInitialised,
  Connected: XenbusStateConnected,
  Closing: XenbusStateClosing,
  Closed: XenbusStateClosed,
  Reconfiguring: XenbusStateReconfiguring,
  Reconfigured: XenbusStateReconfigured,
} as const;

export type XenbusState = (typeof XenbusState)[keyof typeof XenbusState];

const NAMES = Object.keys(XenbusState) as (keyof typeof XenbusState)[];

export function stateName(state: XenbusState): string {
  return NAMES[state] ?? "Unknown";
}

/** What a state node says: a missing node or anything but a known number is Unknown. */
export function parseState(text: string | null): XenbusState {
  if (text === null || !/^[0-8]$/.test(text)) return XenbusState.Unknown;
  return Number(text) as XenbusState;
}
