/** Network interfaces and what they are plugged in to. */
export { attachVif, vifNodes, type VifNodes } from "./attach.js";
export { VifBackend, type Network, type NetworkPort, type Tap, type VifOptions } from "./backend.js";
export {
  Bridge,
  BridgePort,
  type BridgeOptions,
  type FrameSink,
  type PortCounters,
  type PortOptions,
} from "./bridge.js";
export { BridgeLink, parseLinkAddress, type LinkAddress, type LinkHost } from "./link.js";
export { newVifMetrics, type VifMetrics } from "./metrics.js";
export { Nat, type Forward, type NatOptions } from "./nat/nat.js";
export type {
  ListenHandlers,
  Listener,
  SocketProvider,
  TcpHandlers,
  TcpSocket,
  UdpHandlers,
  UdpSocket,
} from "./nat/sockets.js";
export { formatMac, parseMac, type Packet } from "./packet.js";
export { PcapWriter } from "./pcap.js";
