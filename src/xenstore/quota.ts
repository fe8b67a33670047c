/**
 * What one unprivileged domain may take of XenStore. The numbers are those of Xen's own daemon; dom0 is not bound by them.
 */
export interface Quota {
  /** Nodes owned. */
  nodes: number;
  /** Bytes of one node with its permissions and the names of its children. */
  nodeSize: number;
  watches: number;
  /** Open at a time. */
  transactions: number;
  /** Nodes one transaction may touch. */
  transactionNodes: number;
  /** Entries of one node's permissions. */
  permissions: number;
  /** Bytes of a path below the domain's own directory. */
  pathMax: number;
  /** Answers and events that wait to be taken; further requests are left in the ring meanwhile. */
  outstanding: number;
  /** Bytes that wait to be taken: a domain that lets events pile up beyond this loses its connection. */
  pendingBytes: number;
}

export const DEFAULT_QUOTA: Readonly<Quota> = {
  nodes: 1000,
  nodeSize: 2048,
  watches: 128,
  transactions: 10,
  transactionNodes: 1024,
  permissions: 5,
  pathMax: 2048,
  outstanding: 20,
  pendingBytes: 2 << 20,
};

/** Bytes counted for a node beside value and names (header, and each permission). */
export const NODE_OVERHEAD = 24;
export const PERM_SIZE = 8;
