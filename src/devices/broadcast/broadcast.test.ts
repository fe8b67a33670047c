import { beforeEach, describe, expect, it } from "vitest";
import { Machine } from "../../toolstack/machine.js";
import { VirtualClock } from "../../machine/clock.js";
import { TestFront } from "../xenbus/testing.js";
import { XenbusState } from "../xenbus/index.js";
import { attachBroadcast, BroadcastChannel, type BroadcastBackend, type Role } from "./index.js";

let machine: Machine;
let channel: BroadcastChannel;
beforeEach(() => {
  machine = new Machine({ memoryMiB: 16, clock: new VirtualClock() });
  channel = new BroadcastChannel("news");
});

interface Member {
  readonly front: TestFront;
  readonly device: BroadcastBackend;
  write(node: string, value: string | number): void;
  back(node: string): string | null;
}

function member(role: Role): Member {
  const front = new TestFront(machine);
  const device = attachBroadcast(machine, front.devices, channel, role);
  front.settle();
  return {
    front,
    device,
    write: (node, value) => {
      machine.xs.write(`${device.frontPath}/${node}`, value);
      front.settle();
    },
    back: (node) => machine.xs.read(`${device.backPath}/${node}`),
  };
}
const ready = (m: Member): void => m.write("state", XenbusState.Initialised);
const answer = (writer: Member, reader: Member, page: string | number, port: string | number): void => {
  const node = `reader-${reader.front.domain.domid}`;
  writer.write(`${node}/page-ref`, page);
  writer.write(`${node}/event-channel`, port);
};

describe("a broadcast channel", () => {
  it("asks the writer for each reader, whoever comes first, and tells the reader what the writer answered", () => {
    const early = member("reader");
    ready(early);
    const writer = member("writer");
    ready(writer);
    expect(writer.device.state).toBe(XenbusState.Connected);
    const late = member("reader");
    ready(late);
    const asked = machine.xs.list(`${writer.device.backPath}/readers`);
    expect(asked).toEqual([early, late].map((m) => String(m.front.domain.domid)));
    expect(early.back("page-ref")).toBeNull();
    answer(writer, early, 16, 5);
    expect(early.back("page-ref")).toBe("16");
    expect(early.back("event-channel")).toBe("5");
    expect(early.back("writer-id")).toBe(String(writer.front.domain.domid));
    expect(late.back("page-ref")).toBeNull();
  });

  it("has one writer: a second one is refused, and only its device ends", () => {
    const first = member("writer");
    ready(first);
    const second = member("writer");
    ready(second);
    expect(second.device.lastError).toContain("has a writer already");
    expect(second.device.state).toBe(XenbusState.Closing);
    expect(first.device.state).toBe(XenbusState.Connected);
  });

  it("a reader that leaves is off the writer's list; a writer that leaves is forgotten by its readers", () => {
    const writer = member("writer");
    const reader = member("reader");
    ready(writer);
    ready(reader);
    answer(writer, reader, 16, 5);
    reader.write("state", XenbusState.Closing);
    expect(machine.xs.exists(`${writer.device.backPath}/readers/${reader.front.domain.domid}`)).toBe(false);
    const other = member("reader");
    ready(other);
    answer(writer, other, 17, 6);
    expect(other.back("page-ref")).toBe("17");
    writer.write("state", XenbusState.Closed);
    expect(other.back("page-ref")).toBeNull();
    expect(channel.members).toBe(1);
  });

  it("comes and goes with a running domain, and its nodes with it", async () => {
    const writer = member("writer");
    ready(writer);
    const reader = member("reader");
    ready(reader);
    reader.write("state", XenbusState.Connected);
    const gone = reader.front.devices.detach("broadcast", 0);
    expect(reader.back("state")).toBe(String(XenbusState.Closing));
    reader.write("state", XenbusState.Closed);
    expect(await gone).toBe(true);
    expect(machine.xs.exists(reader.device.backPath)).toBe(false);
    expect(channel.members).toBe(1);
  });

  it.each([
    ["a reference that is no number", "x", 5],
    ["a port beyond any", 16, 131_072],
    ["a reference that is too large", "99999999999", 5],
  ])("%s ends the writer's device, and nobody else's", (_name, page, port) => {
    const writer = member("writer");
    const reader = member("reader");
    ready(writer);
    ready(reader);
    answer(writer, reader, page, port);
    expect(writer.device.state).toBe(XenbusState.Closing);
    expect(reader.device.state).toBe(XenbusState.Connected);
    expect(reader.back("page-ref")).toBeNull();
  });

  it("an answer for a domain that is no reader is nobody's business", () => {
    const writer = member("writer");
    const stranger = new TestFront(machine);
    ready(writer);
    writer.write(`reader-${stranger.domain.domid}/page-ref`, 16);
    writer.write(`reader-${stranger.domain.domid}/event-channel`, 5);
    expect(writer.device.state).toBe(XenbusState.Connected);
  });
});
