// The keys of xl.cfg(5): those that are known, and those that only make sense on another architecture.

const words = (text: string): Set<string> => new Set(text.split(/\s+/));

/** Keys that the domain configuration acts upon (domain-config.ts). */
const USED = `name type builder kernel ramdisk cmdline root extra memory maxmem vcpus maxvcpus uuid
  on_poweroff on_reboot on_crash on_watchdog on_soft_reset disk vif cpus cpus_soft cpu_weight cap pool
  max_grant_frames max_maptrack_frames max_grant_version max_event_channels bootloader bootloader_args channel
  period slice latency extratime`;

/**
 * Keys that are known and kept (`DomainConfig.recorded`) though nothing acts upon them, by the reason that people are told.
 * "" is told to nobody: the key describes how things are here anyway, or is a hint.
 */
const RECORDED: readonly (readonly [why: string, keys: string])[] = [
  [
    "it is for HVM and PVH guests",
    `acpi acpi_firmware acpi_laptop_slate acpi_s3 acpi_s4 altp2m altp2m_count altp2mhvm apic bios bios_path_override boot firmware
  firmware_override hap hdtype hpet hvm_pirq loader mmio_hole ms_vm_genid nestedhvm nx oos pae pvh pvshim pvshim_cmdline pvshim_extra
  pvshim_path rdm rdm_mem_boundary reserved serial shadow_memory smbios smbios_firmware timer_mode usb usbdevice usbversion
  vendor_device viridian vkb_device vpt_align xen_platform_pci xen_platform_pci_bar_uc xend_suspend_evtchn_compat`,
  ],
  [
    "there is no device model",
    `device_model_args device_model_args_hvm device_model_args_pv device_model_override device_model_stubdomain_override
  device_model_stubdomain_seclabel device_model_user device_model_version dm_restrict stubdomain_cmdline stubdomain_kernel
  stubdomain_memory stubdomain_ramdisk`,
  ],
  [
    "there is no frame buffer",
    `keymap nographic opengl sdl sdl_opengl spice spice_clipboard_sharing spice_image_compression spice_streaming_video
  spiceagent_mouse spicedisable_ticketing spicehost spicepasswd spiceport spicetls_port spiceusbredirection spicevdagent stdvga vfb vga
  videoram vkb vnc vncdisplay vnclisten vncpasswd vncunused vncviewer`,
  ],
  ["there is no such device", `p9 pvcalls soundhw usbctrl usbdev vdispl virtio vsnd vtpm vuartsize`],
  [
    "there are no devices of the host to give away",
    `gfx_passthru gfx_passthru_kind iomem ioports irqs passthrough pci pci_msitranslate pci_permissive pci_power_mgmt pci_seize`,
  ],
  ["there is no security module", "init_seclabel seclabel"],
  ["boot loaders are not run", "bootloader_restrict bootloader_user"],
  ["there is one NUMA node", "numa_placement vnuma"],
  ["the processor is what it is", "cpuid mca_caps msr_relaxed tsc_mode vpmu vmtrace_buf_kb"],
  ["the wall clock is UTC", "localtime rtc_timeoffset"],
  ["a PV guest's memory map is the builder's", "e820_host"],
  ["back ends are in domain 0", "driver_domain"],
  ["every domain has the same", "xenstore_feature_mask xenstore_quota"],
  ["", "argo blkdev_start claim_mode console cpupool disable_migrate nomigrate"],
];

export const USED_KEYS: ReadonlySet<string> = words(USED);
const WHY: ReadonlyMap<string, string> = new Map(
  RECORDED.flatMap(([why, keys]) => [...words(keys)].map((k) => [k, why])),
);

/** Why a known key is only kept: "" without a need to say so; undefined: it is not one of those. */
export function recordedWhy(name: string): string | undefined {
  return WHY.get(name);
}

/** Keys for Arm guests: refused, for a guest that needs one cannot run here. */
export const ARM_KEYS: ReadonlySet<string> = words(
  "gic_version vuart sve llc_colors nr_spis tee arm_sci dtdev device_tree trap_unmapped_accesses",
);

/** The known key nearest to a mistyped one, or undefined when none is near. */
export function nearestKey(name: string): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.min(2, Math.floor(name.length / 3)) + 1;
  for (const set of [USED_KEYS, WHY]) {
    for (const key of set.keys()) {
      const d = distance(name, key);
      if (d < bestDistance) {
        best = key;
        bestDistance = d;
      }
    }
  }
  return best;
}

/** Edits (insert, delete, replace, swap of neighbours) from one word to another. */
function distance(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      let d = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) d = Math.min(d, before[j - 2] + 1);
      next.push(d);
    }
    before = row;
    row = next;
  }
  return row[b.length];
}
