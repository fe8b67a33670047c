/** Raw disk images in files and block devices, and copy-on-write overlays in a sparse file. Formats: `open-disk.ts`. */
import { OverlayImage, RawImage, SECTOR, WindowImage, type BlockImage } from "../../devices/block/index.js";
import { ImageFile, type ImageFileOptions } from "./image-file.js";

export type FileImageOptions = Omit<ImageFileOptions, "create">;

export class FileImage extends RawImage {
  private constructor(
    file: ImageFile,
    /** Its real path. */
    readonly path: string,
  ) {
    super(file);
  }
  static async open(path: string, options: FileImageOptions = {}): Promise<FileImage> {
    const file = await ImageFile.open(path, options);
    return new FileImage(file, file.name);
  }
}

/** A copy-on-write disk on `base` that lasts: its own part is one sparse file, made if it is not there (the data, then the bitmap). */
export async function openFileOverlay(base: BlockImage, path: string): Promise<OverlayImage> {
  const map = OverlayImage.mapSectors(base.sectors);
  const size = (base.sectors + map) * SECTOR;
  const file = await FileImage.open(path, { size });
  try {
    if (file.sectors !== base.sectors + map) throw new Error(`${path}: not an overlay of a disk of this size`);
    return await OverlayImage.open(
      base,
      new WindowImage(file, 0, base.sectors, true),
      new WindowImage(file, base.sectors, map),
    );
  } catch (e) {
    await file.close();
    throw e;
  }
}
