import { describe, expect, it } from "vitest";
import { parseVif, parseVifRate, randomMac, scriptPath } from "./vif.js";
import { ConfigError } from "./xlu.js";

const message = (text: string): string => {
  try {
    parseVif(text);
  } catch (e) {
    if (e instanceof ConfigError) return e.message;
    throw e;
  }
  return "no error";
};

describe("a vif", () => {
  it("has xl's defaults", () => {
    expect(parseVif("")).toEqual({
      mac: undefined,
      bridge: "xenbr0",
      type: undefined,
      model: undefined,
      script: undefined,
      ip: undefined,
      vifname: undefined,
      gatewaydev: undefined,
      backend: undefined,
      rate: undefined,
      mtu: 1500,
      devid: undefined,
      vlan: undefined,
      trusted: true,
      warnings: [],
    });
  });
  it("takes every key", () => {
    expect(
      parseVif(
        "mac=00:16:3E:a:bb:1, bridge=br1,type=vif,model=e1000,script=vif-nat,ip=10.0.0.2 10.0.0.3,vifname=web0,gatewaydev=eth0,backend=net,rate=10Mb/s,mtu=9000,devid=3,vlan=5,untrusted",
      ),
    ).toEqual({
      mac: "00:16:3e:0a:bb:01",
      bridge: "br1",
      type: "vif",
      model: "e1000",
      script: "vif-nat",
      ip: "10.0.0.2 10.0.0.3",
      vifname: "web0",
      gatewaydev: "eth0",
      backend: "net",
      rate: { bytesPerInterval: 62500, intervalUsecs: 50000 },
      mtu: 9000,
      devid: 3,
      vlan: "5",
      trusted: false,
      warnings: ["vif script=vif-nat: kept, but hotplug scripts are not run here"],
    });
  });
  it("knows what is deprecated", () => {
    expect(parseVif("netdev=eth1,accel=x")).toMatchObject({
      gatewaydev: "eth1",
      warnings: [
        "the netdev parameter is deprecated, please use gatewaydev instead",
        "the accel parameter for vifs is currently not supported",
      ],
    });
  });
  // The first three are what xl itself says (golden transcripts, xl_parse.c).
  it.each<[string, string]>([
    ["mac=zz:zz", "Invalid parameter `mac'."],
    ["foo=bar", "unrecognized argument `foo=bar'"],
    ["type=tap", "Invalid parameter `type'."],
    ["bridge", "unrecognized argument `bridge'"],
    ["mac=00:16:3e:1:2", "Invalid parameter `mac'."],
    ["mac=00:16:3e:1:2:100", "Invalid parameter `mac'."],
    ["mac=0:0:0:0:0:0", "Invalid parameter `mac'."],
    ["mac=01:16:3e:00:00:01", "Invalid parameter `mac': 01:16:3e:00:00:01 is a group address"],
    ["mtu=big", "Invalid parameter `mtu': not a number: big"],
    ["mtu=1", "Invalid parameter `mtu': 1 is not within 68 and 65535"],
    ["rate=", "config parsing error in vif: no rate specified in `'"],
    ["rate=10", "config parsing error in vif: invalid rate in `10'"],
    ["rate=10Xb/s", "config parsing error in vif: invalid rate in `10Xb/s'"],
    ["rate=0B/s", "config parsing error in vif: rate overflow in `0B/s'"],
    ["rate=1MB/s@fast", "config parsing error in vif: invalid replenishment interval in `fast'"],
    ["rate=1MB/s@0s", "config parsing error in vif: replenishment interval overflow in `0s'"],
    ["rate=1MB/s@5000s", "config parsing error in vif: replenishment interval overflow in `5000s'"],
  ])("refuses %s", (text, expected) => {
    expect(message(text)).toBe(expected);
  });
  it.each<[string, number, number]>([
    ["1B/s", 0, 50_000],
    ["250KB/s", 12_500, 50_000],
    ["1MB/s@20ms", 20_000, 20_000],
    ["1MB/s@100us", 100, 100],
    ["1Gb/s@1s", 125_000_000, 1_000_000],
    ["8b/s@2", 2, 2_000_000],
  ])("reads the rate %s", (text, bytesPerInterval, intervalUsecs) => {
    expect(parseVifRate(text)).toEqual({ bytesPerInterval, intervalUsecs });
  });
  it("finds the script", () => {
    expect([scriptPath(), scriptPath("vif-nat"), scriptPath("/bin/true")]).toEqual([
      "/etc/xen/scripts/vif-bridge",
      "/etc/xen/scripts/vif-nat",
      "/bin/true",
    ]);
  });
  it("makes addresses with Xen's prefix", () => {
    expect(randomMac(() => 0.999)).toBe("00:16:3e:7f:ff:ff");
    expect(randomMac(() => 0)).toBe("00:16:3e:00:00:00");
  });
});
