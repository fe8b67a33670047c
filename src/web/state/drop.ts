/** What a dropped file is: its content says. */
export interface Dropped {
  kernel: File | null;
  ramdisk: File | null;
  disk: File | null;
  saved: File[];
  recordings: File[];
  unknown: File[];
}

const starts = (b: Uint8Array, at: number, ...magic: readonly number[]): boolean =>
  magic.every((m, i) => b[at + i] === m);
const text = (s: string): number[] => [...s].map((c) => c.charCodeAt(0));

/** A compressed or plain cpio archive. */
function isRamdisk(head: Uint8Array, name: string): boolean {
  return (
    starts(head, 0, ...text("07070")) ||
    (/init(rd|ramfs)|\.cpio/i.test(name) &&
      (starts(head, 0, 0x1f, 0x8b) || starts(head, 0, 0x28, 0xb5, 0x2f, 0xfd) || starts(head, 0, 0xfd, 0x37)))
  );
}
function isKernel(head: Uint8Array): boolean {
  return starts(head, 0, 0x7f, ...text("ELF")) || starts(head, 0x202, ...text("HdrS")) || starts(head, 0, 0x1f, 0x8b);
}
/** libxl's save record, or the older one's. */
export function isSaved(head: Uint8Array, name: string): boolean {
  return (
    starts(head, 0, ...text("Xen saved domain")) || starts(head, 0, ...text("LibxlFmt")) || /\.xensave$/i.test(name)
  );
}
/** The first line says so. */
function isRecording(head: Uint8Array): boolean {
  return starts(head, 0, ...text('{"type":"xenolith-recording"'));
}
function isDisk(head: Uint8Array, name: string): boolean {
  return starts(head, 510, 0x55, 0xaa) || starts(head, 1080, 0x53, 0xef) || /\.(img|raw|iso|ext4)$/i.test(name);
}

export async function takeFiles(files: readonly File[]): Promise<Dropped> {
  const out: Dropped = { kernel: null, ramdisk: null, disk: null, saved: [], recordings: [], unknown: [] };
  for (const f of files) {
    const head = new Uint8Array(await f.slice(0, 2048).arrayBuffer());
    if (isSaved(head, f.name)) out.saved.push(f);
    else if (isRecording(head)) out.recordings.push(f);
    else if (isRamdisk(head, f.name)) out.ramdisk = f;
    // A kernel for direct boot may carry a boot sector's mark, so this comes before disks.
    else if (isKernel(head)) out.kernel = f;
    else if (isDisk(head, f.name)) out.disk = f;
    else out.unknown.push(f);
  }
  return out;
}
