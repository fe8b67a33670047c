/**
 * Files of a page: what was dropped on it or saved by it, by name, and what the page's own server has (fetched when it is first read).
 * They live as long as the page.
 */
import { HostError } from "../../toolstack/host/api.js";

export class VirtualFiles {
  private readonly files = new Map<string, Blob>();

  /** @param urlOf the address of a file that the page's server has, `undefined` where it has none by that name. */
  constructor(private readonly urlOf: (name: string) => string | undefined = () => undefined) {}

  put(name: string, content: Blob): void {
    this.files.set(name, content);
  }
  remove(name: string): void {
    this.files.delete(name);
  }
  names(): string[] {
    return [...this.files.keys()];
  }
  has(name: string): boolean {
    return this.files.has(name) || this.urlOf(name) !== undefined;
  }

  async get(name: string): Promise<Blob> {
    const known = this.files.get(name);
    if (known !== undefined) return known;
    const url = this.urlOf(name);
    if (url === undefined) throw new HostError("invalid", `${name}: no such file: drop it on the page first`);
    let answer: Response;
    try {
      answer = await fetch(url);
    } catch {
      throw new HostError("io", `${name}: the page's server does not answer`);
    }
    if (!answer.ok) throw new HostError("io", `${name}: the page's server says ${answer.status}`);
    const blob = await answer.blob();
    this.files.set(name, blob);
    return blob;
  }
  async bytes(name: string): Promise<Uint8Array> {
    const blob = await this.get(name);
    try {
      return new Uint8Array(await blob.arrayBuffer());
    } catch {
      throw new HostError("io", `${name}: the file cannot be read any more (was it changed since it was dropped?)`);
    }
  }
}
