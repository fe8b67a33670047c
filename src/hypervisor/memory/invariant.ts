/**
 * A broken invariant of the hypervisor itself. Never a guest's fault: a guest's mistakes are refused with an errno. It stops the machine.
 */
export class InvariantError extends Error {
  override readonly name = "InvariantError";
}

export function bug(what: string): never {
  throw new InvariantError(what);
}
