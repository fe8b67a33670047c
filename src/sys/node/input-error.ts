/** A mistake of the person who gave the input, in one line. */
export class InputError extends Error {
  override readonly name = "InputError";
}
