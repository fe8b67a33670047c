/** A reason to stop one device: becomes its error node and state Closing; never leaves the device. */
import { EINVAL } from "../../abi/errno.js";

export class DeviceError extends Error {
  override readonly name = "DeviceError";
  /** @param errno positive */
  constructor(
    message: string,
    readonly errno: number = EINVAL,
  ) {
    super(message);
  }
}
