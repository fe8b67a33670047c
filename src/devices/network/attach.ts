/** Plugging a network interface in to a domain: the nodes libxl writes for a vif, in its order, and the back end that serves it. */
import type { Domain } from "../../hypervisor/domain.js";
import type { BackendHost } from "../xenbus/device.js";
import type { Nodes } from "../xenbus/device-nodes.js";
import type { DomainDevices } from "../xenbus/domain-devices.js";
import { type Network, VifBackend } from "./backend.js";
import { formatMac, parseMac } from "./packet.js";

/** LIBXL_DEVICE_NIC_MTU_DEFAULT. */
const DEFAULT_MTU = 1500;

export interface VifNodes {
  readonly mac: string;
  /** The network's name, as `bridge`. */
  readonly bridge: string;
  readonly script: string;
  readonly mtu?: number | undefined;
  readonly ip?: string | undefined;
  readonly vifname?: string | undefined;
  readonly gatewaydev?: string | undefined;
  readonly vlan?: string | undefined;
  readonly trusted?: boolean | undefined;
  readonly rate?: { readonly bytesPerInterval: number; readonly intervalUsecs: number } | undefined;
  /** Only frames with this vif's own address may leave it. */
  readonly filter?: boolean | undefined;
  readonly devid?: number | undefined;
}

/** What libxl__set_xenstore_nic and the common part write. */
export function vifNodes(domid: number, devid: number, v: VifNodes): { front: Nodes; back: Nodes } {
  const mtu = v.mtu ?? DEFAULT_MTU;
  const optional = (name: string, value: string | number | undefined): Nodes =>
    value === undefined ? [] : [[name, value]];
  return {
    front: [
      ["state", 1],
      ["handle", devid],
      ["mac", v.mac],
      ["trusted", (v.trusted ?? true) ? 1 : 0],
      ["mtu", mtu],
    ],
    back: [
      ["frontend-id", domid],
      ["online", 1],
      ["state", 1],
      ["script", v.script],
      ...optional("vifname", v.vifname),
      ["mac", v.mac],
      ...optional("ip", v.ip),
      ...optional("gatewaydev", v.gatewaydev),
      ...optional("rate", v.rate === undefined ? undefined : `${v.rate.bytesPerInterval},${v.rate.intervalUsecs}`),
      ...optional("mtu", mtu === DEFAULT_MTU ? undefined : mtu),
      ...optional("vlan", v.vlan),
      ["bridge", v.bridge],
      ["handle", devid],
      ["type", "vif"],
      ["hotplug-status", ""],
    ],
  };
}

/** libxl__device_nextid: one above the highest in use. */
function nextDevid(devices: DomainDevices): number {
  return Math.max(-1, ...devices.list("vif").map((d) => d.devid)) + 1;
}

export function attachVif(
  host: BackendHost,
  devices: DomainDevices,
  guest: Domain,
  network: Network,
  spec: VifNodes,
): VifBackend {
  const devid = spec.devid ?? nextDevid(devices);
  const mac = formatMac(parseMac(spec.mac));
  const vlan = spec.vlan === undefined ? undefined : Number(spec.vlan);
  if (vlan !== undefined && !(vlan >= 1 && vlan <= 4094))
    throw new Error(`vif: vlan ${spec.vlan} is not a number within 1 and 4094`);
  const rate = spec.rate;
  const vif = new VifBackend(host, guest, devid, {
    network,
    ...(spec.mtu === undefined ? {} : { mtu: spec.mtu }),
    ...(rate === undefined || rate.bytesPerInterval === 0
      ? {}
      : { rate: { bytes: rate.bytesPerInterval, intervalNs: rate.intervalUsecs * 1000 } }),
    port: {
      name: spec.vifname ?? `vif${guest.domid}.${devid}`,
      ...(spec.filter === true ? { macs: [parseMac(mac)] } : {}),
      ...(vlan === undefined ? {} : { vlan }),
    },
  });
  devices.attach(vif, vifNodes(guest.domid, devid, { ...spec, mac }));
  // The guest may read its MTU, not set it.
  host.xs.setPerms(`${vif.frontPath}/mtu`, [`n${host.dom0.domid}`, `r${guest.domid}`]);
  return vif;
}
