/** XenStore's tree. */
import { formatPerm } from "../xenstore/permissions.js";
import { fromUtf8 } from "../xenstore/text.js";
import { XsError } from "../xenstore/errors.js";
import { InspectError, type StoreNode, type StoreView } from "./api.js";
import type { Source } from "./source.js";

export function storeView({ xenstore }: Source, since: number): StoreView {
  const { store } = xenstore;
  let generation = 0;
  for (const path of store.paths()) generation = Math.max(generation, store.get(path)?.generation ?? 0);
  // A node that goes changes its parent, so that the highest generation tells of removals too.
  if (generation === since) return { generation, count: store.size, nodes: [], unchanged: true };
  const nodes: StoreNode[] = [];
  for (const path of store.paths()) {
    const n = store.get(path);
    if (n === undefined) continue;
    nodes.push({
      path,
      value: fromUtf8(n.value),
      perms: n.perms.map(formatPerm).join(","),
      generation: n.generation,
    });
  }
  nodes.sort((a, b) => (a.path < b.path ? -1 : 1));
  return { generation, count: store.size, nodes, unchanged: false };
}

function act(fn: () => void, path: string): void {
  try {
    fn();
  } catch (e) {
    if (e instanceof XsError) throw new InspectError("invalid", `${path}: XenStore says ${e.code}`);
    throw e;
  }
}

export function writeStore({ xs }: Source, path: string, value: string): void {
  act(() => xs.write(path, value), path);
}

export function removeStore({ xs }: Source, path: string): void {
  act(() => {
    // To remove what is not there is no mistake to XenStore where the parent is.
    if (!xs.exists(path) || !xs.rm(path)) throw new InspectError("not-found", `${path} is not there`);
  }, path);
}
