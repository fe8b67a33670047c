// The keys of xl.cfg(5): those that are known, and those that only make sense on another architecture.

/** Keys that the domain configuration acts upon (domain-config.ts). */
const USED = `name type builder kernel ramdisk cmdline root extra memory maxmem vcpus maxvcpus uuid
  on_poweroff on_reboot on_crash on_watchdog on_soft_reset disk vif cpus cpus_soft cpu_weight cap pool
  max_grant_frames max_maptrack_frames max_grant_version max_event_channels bootloader bootloader_args`;

/** Keys that are known and kept (`DomainConfig.recorded`) for whoever comes to use them. */
const RECORDED = `acpi acpi_firmware acpi_laptop_slate acpi_s3 acpi_s4 altp2m altp2m_count altp2mhvm apic
  argo bios bios_path_override blkdev_start boot bootloader_restrict bootloader_user channel claim_mode console cpuid
  cpupool device_model_args device_model_args_hvm device_model_args_pv device_model_override device_model_stubdomain_override
  device_model_stubdomain_seclabel device_model_user device_model_version disable_migrate dm_restrict driver_domain
  e820_host firmware firmware_override gfx_passthru gfx_passthru_kind hap hdtype hpet hvm_pirq init_seclabel iomem
  ioports irqs keymap latency loader localtime mca_caps mmio_hole ms_vm_genid msr_relaxed nestedhvm nographic
  nomigrate numa_placement nx oos opengl p9 pae passthrough pci pci_msitranslate pci_permissive pci_power_mgmt
  pci_seize pvcalls pvh pvshim pvshim_cmdline pvshim_extra pvshim_path rdm rdm_mem_boundary reserved rtc_timeoffset
  sdl sdl_opengl seclabel serial shadow_memory smbios smbios_firmware soundhw spice spice_clipboard_sharing
  spice_image_compression spice_streaming_video spiceagent_mouse spicedisable_ticketing spicehost spicepasswd spiceport
  spicetls_port spiceusbredirection spicevdagent stdvga stubdomain_cmdline stubdomain_kernel stubdomain_memory
  stubdomain_ramdisk timer_mode tsc_mode usb usbctrl usbdev usbdevice usbversion vdispl vendor_device vfb vga videoram
  viridian virtio vkb vkb_device vmtrace_buf_kb vnc vncdisplay vnclisten vncpasswd vncunused vncviewer vnuma
  vpmu vpt_align vsnd vtpm vuartsize xend_suspend_evtchn_compat xen_platform_pci xen_platform_pci_bar_uc
  xenstore_feature_mask xenstore_quota`;

const words = (text: string): Set<string> => new Set(text.split(/\s+/));

export const USED_KEYS: ReadonlySet<string> = words(USED);
export const RECORDED_KEYS: ReadonlySet<string> = words(RECORDED);

/** Keys for Arm guests: refused, for a guest that needs one cannot run here. */
export const ARM_KEYS: ReadonlySet<string> = words(
  "gic_version vuart sve llc_colors nr_spis tee arm_sci dtdev device_tree trap_unmapped_accesses",
);

/** The known key nearest to a mistyped one, or undefined when none is near. */
export function nearestKey(name: string): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.min(2, Math.floor(name.length / 3)) + 1;
  for (const set of [USED_KEYS, RECORDED_KEYS]) {
    for (const key of set) {
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
