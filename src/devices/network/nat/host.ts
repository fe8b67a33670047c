/** What the NAT needs beside frames: time and the host's sockets. Pure data and callbacks, so that tests script it. */
import type { SocketProvider } from "./sockets.js";

export interface NatTimer {
  /** Absolute, in ns of the same clock as `now`. */
  set(deadline: number): void;
  stop(): void;
}

export interface NatHost {
  /** ns; never goes back. */
  now(): number;
  timer(fire: () => void): NatTimer;
  /** Hand in what a socket brought: runs `fn` soon, between grains of guest work. */
  post(fn: () => void): void;
  /** In [0, 1). */
  random(): number;
  readonly sockets: SocketProvider;
}
