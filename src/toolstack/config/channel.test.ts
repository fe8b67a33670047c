import { describe, expect, it } from "vitest";
import { parseChannel } from "./channel.js";

describe("channel specifications", () => {
  it.each([
    ["connection=pty,name=org.a", { connection: "pty", name: "org.a", path: undefined }],
    ["connection=socket, path=/run/a.sock , name=a", { connection: "socket", name: "a", path: "/run/a.sock" }],
    ["connection=pty,backend=store", { connection: "pty", backend: "store" }],
  ])("%s", (text, expected) => {
    expect(parseChannel(text)).toMatchObject(expected);
  });

  it.each([
    ["name=a", "channel has no connection"],
    ["connection=tcp", "unknown channel connection `tcp'"],
    ["connection=socket,name=a", "needs a path"],
    ["connection=pty,path=/x", "has no path"],
    ["connection=pty,speed=9", "unrecognized argument `speed=9'"],
  ])("%s is refused", (text, message) => {
    expect(() => parseChannel(text)).toThrow(message);
  });
});
