// The one error of the domain builder: a single clear line for the person who wrote the configuration.

/** Says in one line why an image cannot be loaded or a domain cannot be built. */
export class BuildError extends Error {
  override readonly name = "BuildError";
}
