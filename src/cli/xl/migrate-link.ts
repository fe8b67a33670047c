/**
 * Migration through a command, as xl does it with ssh: the sending host service is given a socket of ours, and whoever connects there is
 * joined to the standard streams of `ssh HOST xl migrate-receive`; that in turn joins its streams to its own host service. Each
 * connection gets a command of its own: the sender may ask once more how an earlier one ended.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";

/** Bytes both ways until one side ends; each end is passed on. */
function joinStreams(socket: Socket, input: Readable, output: Writable): Promise<void> {
  return new Promise((resolve) => {
    socket.pipe(output);
    input.pipe(socket);
    for (const stream of [socket, input, output]) stream.on("error", () => socket.destroy());
    socket.on("close", () => {
      output.end();
      resolve();
    });
  });
}

/** What `-s` says: a command line for sh. */
export function receiverCommand(host: string, ssh: string | undefined): string {
  if (ssh === "") return host;
  return `exec ${ssh ?? "ssh"} ${host} xl migrate-receive`;
}

/** A socket for the host service, and the commands behind it, while `use` runs. */
export async function throughCommand<T>(commandLine: string, use: (socketPath: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "xl-migrate-"));
  const path = join(folder, "link");
  const children = new Set<ChildProcess>();
  const server = createServer((socket) => {
    const child = spawn("/bin/sh", ["-c", commandLine], { stdio: ["pipe", "pipe", "inherit"] });
    children.add(child);
    child.on("error", () => socket.destroy());
    child.on("close", () => children.delete(child));
    void joinStreams(socket, child.stdout, child.stdin);
  });
  try {
    await new Promise<void>((resolve, reject) => {
      server.on("error", reject);
      server.listen(path, resolve);
    });
    return await use(path);
  } finally {
    server.close();
    for (const child of children) child.kill();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** This process's standard streams joined to the host service's socket for incoming migrations. */
export function receiveOnStdio(socketPath: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    socket.once("error", reject);
    socket.once("connect", () => {
      // Nothing but the stream may be on stdout from here on.
      joinStreams(socket, process.stdin, process.stdout).then(resolve, reject);
    });
  });
}
