// Networks between unmodified Debian guests, and from them to the host's loopback through the NAT.
import { createHash } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { mapForHost } from "../src/hypervisor/grants/grant-table.js";
import { checksumOk, parse } from "../src/devices/network/packet.js";
import { NodeSockets } from "../src/sys/node/nat-sockets.js";
import { debianFile, type Guest, Host, missing, TEST_LIMIT } from "./machine/harness.js";

const noDebian = missing(debianFile("vmlinuz-cloud"), debianFile("initramfs.cpio.gz"));
const md5 = (b: Uint8Array): string => createHash("md5").update(b).digest("hex");

/** A pcap file's frames: the test's own reader. */
function readPcap(chunks: readonly Uint8Array[]): { time: number; frame: Uint8Array }[] {
  const file = Buffer.concat(chunks);
  expect(file.readUInt32LE(0)).toBe(0xa1b2c3d4);
  expect([file.readUInt16LE(4), file.readUInt16LE(6), file.readUInt32LE(20)]).toEqual([2, 4, 1]);
  const out: { time: number; frame: Uint8Array }[] = [];
  for (let at = 24; at < file.length;) {
    const length = file.readUInt32LE(at + 8);
    expect(file.readUInt32LE(at + 12)).toBe(length);
    out.push({
      time: file.readUInt32LE(at) + file.readUInt32LE(at + 4) / 1e6,
      frame: file.subarray(at + 16, at + 16 + length),
    });
    at += 16 + length;
  }
  return out;
}

/** Run guests while something of the host's goes on. */
async function during<T>(host: Host, work: Promise<T>): Promise<T> {
  let done = false;
  const mark = (): void => {
    done = true;
  };
  work.then(mark, mark);
  await host.run(() => done, { what: "the host's part" });
  return work;
}

describe.skipIf(noDebian !== "")(`two Debians on one bridge${noDebian}`, { timeout: TEST_LIMIT }, () => {
  const host = new Host({ memoryMiB: 400 });
  let a: Guest;
  let b: Guest;
  beforeAll(async () => {
    const vifs = (n: number) => [{ mac: `00:16:3e:00:00:0${n}` }];
    a = await host.debian("cloud", "quiet", { memoryMiB: 128, vifs: vifs(1), vcpus: 4 });
    b = await host.debian("cloud", "quiet", { memoryMiB: 128, vifs: vifs(2) });
    await a.shell();
    await b.shell();
    await a.sh("ip addr add 10.1.0.1/24 dev eth0; ip link set eth0 up");
    await b.sh("ip addr add 10.1.0.2/24 dev eth0; ip link set eth0 up");
  }, TEST_LIMIT);
  afterAll(() => host.close());

  it("have the nodes of real Xen", () => {
    const { xs } = host.machine;
    // As in golden/xenstore/3-net-attached.txt, without the control ring.
    const back = xs.list(`/local/domain/0/backend/vif/${b.domid}/0`) ?? [];
    expect([...back].sort()).toEqual(
      `bridge feature-dynamic-multicast-control feature-gso-tcpv4 feature-gso-tcpv6 feature-ipv6-csum-offload feature-multicast-control
       feature-rx-copy feature-rx-flip feature-sg feature-split-event-channels feature-xdp-headroom frontend frontend-id handle
       hotplug-status mac multi-queue-max-queues online script state type`.split(/\s+/),
    );
    const front = `/local/domain/${b.domid}/device/vif/0`;
    expect([...(xs.list(front) ?? [])].sort()).toEqual(
      `backend backend-id event-channel-rx event-channel-tx feature-gso-tcpv4 feature-gso-tcpv6 feature-ipv6-csum-offload
       feature-rx-notify feature-sg handle mac mtu multi-queue-num-queues request-rx-copy rx-ring-ref state trusted
       tx-ring-ref xdp-headroom`.split(/\s+/),
    );
    expect(xs.getPerms(front)).toEqual([`n${b.domid}`, "r0"]);
    expect(xs.getPerms(`${front}/mtu`)).toEqual(["n0", `r${b.domid}`]);
    expect(xs.read(`${front}/state`)).toBe("4");
  });
  it("use a queue for each vCPU, and flows keep theirs", async () => {
    const { xs } = host.machine;
    const front = `/local/domain/${a.domid}/device/vif/0`;
    expect(xs.read(`${front}/multi-queue-num-queues`)).toBe("4");
    expect(xs.list(front)?.filter((n) => n.startsWith("queue-"))).toHaveLength(4);
    expect(await a.sh("ls /sys/class/net/eth0/queues | wc -l")).toMatch(/^8$/m);
    // Twelve connections at once: some on each queue, in both directions, none torn.
    const sum = /[0-9a-f]{32}/.exec(await a.sh("seq 40000 > /tmp/s; md5sum /tmp/s"))?.[0] ?? "";
    const ports = "6001 6002 6003 6004 6005 6006 6007 6008 6009 6010 6011 6012";
    await a.sh(`for p in ${ports}; do nc -l -p $p > /tmp/r$p & done; sleep 1`);
    await b.sh("seq 40000 > /tmp/s");
    await b.sh(`for p in ${ports}; do nc 10.1.0.1 $p < /tmp/s & done; wait`);
    const got = await a.sh("wait; md5sum /tmp/r60*");
    expect(got.split(sum)).toHaveLength(13);
    expect(await a.sh("grep -c -e '-q[0-3]-rx' /proc/interrupts")).toMatch(/^4$/m);
  });
  it("have the address they were given", async () => {
    expect(await a.sh("cat /sys/class/net/eth0/address")).toContain("00:16:3e:00:00:01\n");
  });
  it("ping each other", async () => {
    expect(await a.sh("ping -c 3 -i 0.2 10.1.0.2")).toMatch(
      /3 packets transmitted, 3 packets received, 0% packet loss/,
    );
    expect(await b.sh("ping -c 1 -s 4000 10.1.0.1")).toMatch(/1 packets received, 0% packet loss/);
  });
  it("send a file by nc, unchanged", async () => {
    await b.sh("nc -l -p 5000 > /tmp/got & true");
    const sum = /[0-9a-f]{32}/.exec(
      await a.sh("dd if=/dev/urandom of=/tmp/f bs=64k count=32 2>/dev/null; md5sum /tmp/f"),
    )?.[0];
    await a.sh("nc 10.1.0.2 5000 < /tmp/f");
    expect(await b.sh("wait; md5sum /tmp/got")).toContain(`${sum}  /tmp/got`);
    const vif = b.running.devices.list("vif")[0];
    expect(vif?.metrics.fatal).toBe(0);
    expect((vif?.metrics as { rxGso?: number }).rxGso).toBeGreaterThan(0);
  });
  it("get and lose a second interface while they run", async () => {
    a.running.attachVif({ bridge: "br1" });
    await a.sh("for i in $(seq 50); do [ -e /sys/class/net/eth1 ] && break; sleep 0.1; done");
    expect(await a.sh("cat /sys/class/net/eth1/address")).toMatch(/00:16:3e:[0-7].:..:..\n/);
    expect(await during(host, a.running.detachVif(1))).toBe(true);
    // The driver's last steps come after it has let go.
    await a.sh("for i in $(seq 50); do [ -e /sys/class/net/eth1 ] || break; sleep 0.1; done");
    expect(await a.sh("ls /sys/class/net")).not.toContain("eth1");
    expect(host.machine.xs.exists(`/local/domain/0/backend/vif/${a.domid}/1`)).toBe(false);
    expect(host.machine.bridge("br1").ports).toHaveLength(0);
  });
  it("a front end that breaks its ring loses its own interface and nobody else's", async () => {
    const { machine } = host;
    const ref = Number(machine.xs.read(`/local/domain/${b.domid}/device/vif/0/rx-ring-ref`));
    const ring = mapForHost(b.running.domain, ref, true);
    if (typeof ring === "number") throw new Error("no ring");
    machine.mem.w32(ring.mfn * 4096, machine.mem.r32(ring.mfn * 4096) + 100_000);
    ring.unmap();
    await a.sh("ping -c 1 -W 1 10.1.0.2");
    const [ours, theirs] = [a, b].map((g) => g.running.devices.list("vif")[0]);
    expect([ours?.isConnected, ours?.metrics.fatal, theirs?.metrics.fatal]).toEqual([true, 0, 1]);
    expect(theirs?.lastError).toMatch(/ring index/);
    expect(machine.bridge().ports.map((p) => p.name)).toEqual([`vif${a.domid}.0`]);
    expect(b.ended).toBe(false);
  });
});

describe.skipIf(noDebian !== "")(`a Debian behind the NAT${noDebian}`, { timeout: TEST_LIMIT }, () => {
  const host = new Host({ memoryMiB: 300, sockets: new NodeSockets() });
  const pcap: Uint8Array[] = [];
  let guest: Guest;
  beforeAll(async () => {
    guest = await host.debian("cloud", "quiet", { memoryMiB: 128 });
    await guest.shell();
    guest.running.attachVif({ nat: true }).capture((b) => pcap.push(b));
    await guest.sh(
      "for i in $(seq 50); do [ -e /sys/class/net/eth0 ] && break; sleep 0.1; done; ip link set lo up; ip link set eth0 up",
    );
  }, TEST_LIMIT);
  afterAll(() => {
    host.close();
    host.machine.nat().close();
  });

  it("udhcpc gets an address", async () => {
    await guest.sh(
      `printf '#!/bin/sh\\n[ "$1" = bound ] || exit 0\\nip addr add $ip/$mask dev $interface\\nip route add default via $router\\necho nameserver $dns > /etc/resolv.conf\\n' > /tmp/dhcp; chmod +x /tmp/dhcp`,
    );
    expect(await guest.sh("udhcpc -i eth0 -q -n -s /tmp/dhcp")).toMatch(/lease of 10\.0\.2\.15 obtained/);
    expect(await guest.sh("ip addr show dev eth0")).toMatch(/inet 10\.0\.2\.15\/24/);
    expect(await guest.sh("cat /etc/resolv.conf")).toContain("nameserver 10.0.2.3");
  });
  it("ping reaches the gateway", async () => {
    expect(await guest.sh("ping -c 2 -i 0.2 10.0.2.2")).toMatch(/2 packets received, 0% packet loss/);
  });
  it("nc fetches bytes from a server on the host's loopback", async () => {
    const bytes = new Uint8Array(3_000_000).map((_, i) => (i * 2654435761) >>> 13);
    const server = createServer((s) => s.end(bytes)).listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    expect(await guest.sh(`nc 10.0.2.2 ${port} < /dev/null | md5sum`)).toContain(md5(bytes));
    server.close();
  });
  it("wget, and bytes the other way", async () => {
    let got = "";
    const server = createServer((s) => {
      s.on("data", (d) => {
        got += d.toString("latin1");
        if (got.includes("\r\n\r\n")) s.end("HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nhello\n");
      });
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    expect(await guest.sh(`wget -q -O - http://10.0.2.2:${port}/x`)).toContain("hello\n");
    expect(got).toMatch(/^GET \/x HTTP/);
    server.close();
  });
  it("is told that nobody listens", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    server.close();
    await once(server, "close");
    expect(await guest.sh(`nc -w 20 10.0.2.2 ${port} </dev/null; echo status $?`)).toMatch(/status 1/);
  });
  it("a forwarded port reaches nc -l in the guest", async () => {
    const { port, close } = await host.machine.nat().forward({ proto: "tcp", hostPort: 0, guestPort: 7000 });
    await guest.sh("(echo from the guest | nc -l -p 7000 > /tmp/in) & sleep 0.3");
    const bytes = new Uint8Array(300_000).map((_, i) => i * 7);
    const client = connect(port, "127.0.0.1");
    let back = "";
    client.on("data", (d) => (back += d.toString()));
    client.end(bytes);
    await during(host, once(client, "close"));
    expect(back).toBe("from the guest\n");
    expect(await guest.sh("wait; md5sum < /tmp/in")).toContain(md5(bytes));
    close();
  });
  it("its pcap can be read, with right checksums", () => {
    const frames = readPcap(pcap);
    expect(frames.length).toBeGreaterThan(100);
    let last = 0;
    for (const { time, frame } of frames) {
      expect(time).toBeGreaterThanOrEqual(last);
      last = time;
      const at = parse(frame);
      expect(at).not.toBeNull();
      if (at !== null) expect(checksumOk(frame, at)).toBe(true);
    }
    const kinds = new Set(frames.map(({ frame }) => parse(frame)?.proto));
    expect(kinds.has(6) && kinds.has(17) && kinds.has(1)).toBe(true);
  });
});
