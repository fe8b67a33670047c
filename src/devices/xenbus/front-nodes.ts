/** What a front end says of itself in XenStore: its own nodes, so that nothing there is believed. */
import { EINVAL, ENOENT } from "../../abi/errno.js";
import type { StoreAccess } from "../../xenstore/client.js";
import { DeviceError } from "./errors.js";

export class FrontNodes {
  constructor(
    private readonly xs: StoreAccess,
    readonly path: string,
  ) {}

  text(name: string): string | undefined {
    return this.xs.read(`${this.path}/${name}`) ?? undefined;
  }
  /** A whole number within bounds; without `fallback` the node must be there. Throws a DeviceError. */
  number(name: string, max = 0xffff_ffff, fallback?: number): number {
    const text = this.text(name);
    if (text === undefined) {
      if (fallback !== undefined) return fallback;
      throw new DeviceError(`reading ${this.path}/${name}`, ENOENT);
    }
    const n = /^[0-9]{1,10}$/.test(text) ? Number(text) : NaN;
    if (!(n <= max))
      throw new DeviceError(`${this.path}/${name}: "${text.slice(0, 40)}" is not a number up to ${max}`, EINVAL);
    return n;
  }
  /** A feature flag: absent or 0 is off. */
  flag(name: string): boolean {
    const text = this.text(name);
    return text !== undefined && /^[0-9]{1,10}$/.test(text) && Number(text) !== 0;
  }
}
