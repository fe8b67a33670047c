/** Starting what the gallery and the course offer. */
import { debianConfig, type DebianOptions, type GalleryItem } from "../content/guests.js";
import { lab } from "./lab.svelte.js";
import { toasts } from "./toasts.svelte.js";

/** Start an exercise and open the view that shows what it is about. */
export async function bootItem(item: GalleryItem): Promise<void> {
  const env = lab.environment;
  if (env === null) return;
  lab.show(item.view);
  // The views that live on the trace must be there before the guest is, or its first moments are not seen.
  if (["trace", "hypercalls", "scheduler", "grants"].includes(item.view)) {
    await lab.inspect.trace({ after: -1, limit: 1 }).catch(() => {});
  }
  await lab.bootAll((next) => item.configs(env, next, (name) => lab.freeName(name)));
}

export const DEBIAN: DebianOptions = { memory: 256, vcpus: 1, cmdline: "console=hvc0", network: true, disk: null };

export async function bootDebian(options: Partial<DebianOptions> = {}): Promise<void> {
  const debian = lab.environment?.debian;
  if (debian === undefined || debian === null) {
    toasts.say("This server has no Debian kernel: drop a vmlinuz and an initramfs on the page.", "error");
    return;
  }
  await lab.boot(debianConfig(debian.kernel, debian.ramdisk, lab.freeName("debian"), { ...DEBIAN, ...options }));
}
