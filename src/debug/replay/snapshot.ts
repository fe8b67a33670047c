/**
 * A snapshot of a machine while it stands still, to be put back later: what lets a replay go backwards.
 *
 * The hypervisor's state is objects that refer to each other; a snapshot notes what each of them holds and puts it back into the same objects, so that
 * everything that refers to them stays right. Memory is kept by the page, and pages that did not change since the last snapshot are shared with it.
 * Decoded and translated code is not part of it: it is forgotten when a snapshot is put back, and made again.
 *
 * Invariant (kept by the code this walks): state lives in properties of objects, in maps, sets and arrays, never in variables that only a closure sees;
 * and nothing that belongs to the run waits for the host (`hostBusy` is 0).
 */
import type { Cpu } from "../../machine/cpu/cpu.js";
import { CPU, CPU_CONTEXT_SIZE, FRAMES, FRAMES_END } from "../../machine/layout.js";
import type { PhysMem } from "../../machine/memory.js";

const PAGE = 4096;

type Content =
  | { readonly kind: "object"; readonly keys: readonly PropertyKey[]; readonly values: readonly unknown[] }
  | { readonly kind: "array"; readonly values: readonly unknown[] }
  | { readonly kind: "map"; readonly entries: readonly (readonly [unknown, unknown])[] }
  | { readonly kind: "set"; readonly values: readonly unknown[] }
  | { readonly kind: "weak"; readonly entries: readonly (readonly [object, unknown])[] }
  | { readonly kind: "bytes"; readonly bytes: Uint8Array };

export interface SnapshotParts {
  readonly mem: PhysMem;
  readonly cpu: Cpu;
  /** Where the state hangs. */
  readonly roots: readonly object[];
  /** Objects that are not part of it: the host's, the debugger's. */
  readonly outside: readonly object[];
}

export class Snapshot {
  private constructor(
    private readonly objects: readonly (readonly [object, Content])[],
    private readonly pages: readonly (Uint8Array | null)[],
    private readonly registers: Uint8Array,
    private readonly frames: Uint8Array,
    private readonly retired: number,
  ) {}

  static take(parts: SnapshotParts, before: Snapshot | null = null): Snapshot {
    const { mem, cpu } = parts;
    return new Snapshot(
      walk(parts),
      savePages(mem, before?.pages),
      mem.u8.slice(CPU, CPU + CPU_CONTEXT_SIZE),
      mem.u8.slice(FRAMES, FRAMES_END),
      cpu.retired,
    );
  }

  restore(parts: SnapshotParts): void {
    const { mem, cpu } = parts;
    cpu.forgetCode();
    for (const [o, content] of this.objects) put(o, content);
    const u8 = mem.u8;
    this.pages.forEach((page, i) => {
      const at = (mem.firstFrame + i) * PAGE;
      if (page === null) u8.fill(0, at, at + PAGE);
      else u8.set(page, at);
    });
    u8.set(this.registers, CPU);
    u8.set(this.frames, FRAMES);
    cpu.setRetired(this.retired);
    cpu.flushTlb();
  }

  /** Bytes that this snapshot alone keeps, beside `before`. */
  ownBytes(before: Snapshot | null): number {
    let n = 0;
    this.pages.forEach((p, i) => {
      if (p !== null && before?.pages[i] !== p) n += PAGE;
    });
    return n;
  }
}

/** Frames, and the tables of them that lie behind: pages as they are; `null` for one of zeros, and the page of `before` where it is the same. */
function savePages(mem: PhysMem, before: readonly (Uint8Array | null)[] | undefined): (Uint8Array | null)[] {
  const out: (Uint8Array | null)[] = [];
  const { u32, u8 } = mem;
  for (let f = mem.firstFrame, end = mem.buffer.byteLength / PAGE; f < end; f++) {
    const w = f * 1024;
    const old = before?.[f - mem.firstFrame];
    let same = old !== undefined;
    if (old === undefined || old === null) {
      let zero = true;
      for (let i = w; i < w + 1024; i++)
        if (u32[i] !== 0) {
          zero = false;
          break;
        }
      if (zero) {
        out.push(null);
        continue;
      }
      same = false;
    } else {
      const words = new Uint32Array(old.buffer, old.byteOffset, 1024);
      for (let i = 0; i < 1024; i++)
        if (u32[w + i] !== words[i]) {
          same = false;
          break;
        }
    }
    out.push(same && old !== undefined ? old : u8.slice(f * PAGE, (f + 1) * PAGE));
  }
  return out;
}

function walk({ mem, cpu, roots, outside }: SnapshotParts): (readonly [object, Content])[] {
  const out: (readonly [object, Content])[] = [];
  const seen = new Set<object>([mem, cpu, ...outside]);
  const work: object[] = [];
  const reach = (v: unknown): void => {
    if (typeof v !== "object" || v === null || seen.has(v)) return;
    seen.add(v);
    work.push(v);
  };
  for (const r of roots) reach(r);
  const weak: WeakMap<object, unknown>[] = [];
  const drain = (): void => {
    for (let o = work.pop(); o !== undefined; o = work.pop()) {
      if (ArrayBuffer.isView(o)) {
        // Views of the machine's memory are saved with it.
        if (o.buffer === mem.buffer) continue;
        const bytes = new Uint8Array(o.buffer, o.byteOffset, o.byteLength);
        out.push([o, { kind: "bytes", bytes: bytes.slice() }]);
      } else if (Array.isArray(o)) {
        const values = o.slice() as unknown[];
        out.push([o, { kind: "array", values }]);
        values.forEach(reach);
      } else if (o instanceof Map) {
        const entries = [...(o as Map<unknown, unknown>)];
        out.push([o, { kind: "map", entries }]);
        for (const [k, v] of entries) {
          reach(k);
          reach(v);
        }
      } else if (o instanceof Set) {
        const values = [...(o as Set<unknown>)];
        out.push([o, { kind: "set", values }]);
        values.forEach(reach);
      } else if (o instanceof WeakMap) weak.push(o);
      else if (isPlain(o)) {
        const keys: PropertyKey[] = [];
        const values: unknown[] = [];
        for (const key of Object.keys(o)) {
          const d = Object.getOwnPropertyDescriptor(o, key);
          if (d === undefined || !("value" in d) || d.writable !== true) continue;
          keys.push(key);
          values.push(d.value);
          reach(d.value);
        }
        out.push([o, { kind: "object", keys, values }]);
      }
    }
  };
  drain();
  // What hangs on objects by weak maps: their keys are among the objects seen.
  for (const w of weak) {
    const entries: (readonly [object, unknown])[] = [];
    for (const o of [...seen]) {
      if (!w.has(o)) continue;
      const value = w.get(o);
      entries.push([o, value]);
      reach(value);
    }
    out.push([w, { kind: "weak", entries }]);
    drain();
  }
  return out;
}

/** Objects of our own classes and literals; not promises, weak maps, errors or what the platform made. */
function isPlain(o: object): boolean {
  return Object.prototype.toString.call(o) === "[object Object]";
}

function put(o: object, content: Content): void {
  switch (content.kind) {
    case "bytes":
      const view = o as ArrayBufferView;
      new Uint8Array(view.buffer, view.byteOffset, view.byteLength).set(content.bytes);
      return;
    case "array": {
      const a = o as unknown[];
      a.length = content.values.length;
      content.values.forEach((v, i) => {
        a[i] = v;
      });
      return;
    }
    case "map": {
      const m = o as Map<unknown, unknown>;
      m.clear();
      for (const [k, v] of content.entries) m.set(k, v);
      return;
    }
    case "weak":
      for (const [k, v] of content.entries) (o as WeakMap<object, unknown>).set(k, v);
      return;
    case "set": {
      const s = o as Set<unknown>;
      s.clear();
      for (const v of content.values) s.add(v);
      return;
    }
    case "object": {
      const r = o as Record<PropertyKey, unknown>;
      const keep = new Set(content.keys);
      for (const key of Object.keys(o)) if (!keep.has(key) && isData(o, key)) Reflect.deleteProperty(o, key);
      content.keys.forEach((key, i) => {
        r[key] = content.values[i];
      });
    }
  }
}
function isData(o: object, key: string): boolean {
  const d = Object.getOwnPropertyDescriptor(o, key);
  return d !== undefined && "value" in d && d.writable === true;
}
