/** A disk whose requests are carried out one after the other, so that they end in the order in which they began, every time. */
import type { BlockImage } from "../../devices/block/index.js";

export function serialImage(image: BlockImage): BlockImage {
  let last: Promise<void> = Promise.resolve();
  const next = (work: () => Promise<void> | void): Promise<void> => {
    const done = last.then(work);
    last = done.catch(() => {});
    return done;
  };
  return {
    readOnly: image.readOnly,
    sectors: image.sectors,
    sectorSize: image.sectorSize,
    read: (sector, into) => next(() => image.read(sector, into)),
    write: (sector, data) => next(() => image.write(sector, data)),
    discard: (sector, count) => next(() => image.discard(sector, count)),
    flush: () => next(() => image.flush()),
    close: () => next(() => image.close()),
  };
}
