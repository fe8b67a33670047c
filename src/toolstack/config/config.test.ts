import { describe, expect, it } from "vitest";
import { ConfigError, parseDomainConfig, parseXlu, type DomainConfig, type XluValue } from "./index.js";

const plain = (v: XluValue | undefined): unknown =>
  v === undefined ? undefined : v.kind === "atom" ? v.text : v.items.map(plain);
const value = (text: string, key = "a"): unknown => plain(parseXlu(text, "c.cfg").get(key)?.value);
const message = (run: () => unknown): string => {
  try {
    run();
  } catch (e) {
    if (e instanceof ConfigError) return e.message;
    throw e;
  }
  return "no error";
};

describe("the grammar", () => {
  it.each<[string, string, unknown]>([
    ["strings in both quotes", `a="x 'y'"; b='z'`, "x 'y'"],
    ["numbers as they are written", "a=0x1f", "0x1f"],
    ["escapes", String.raw`a="\t\"\\\x41\101\n"`, '\t"\\AA\n'],
    ["comments and blank lines", "# one\n\n  a = 1 # two\n", "1"],
    ["a # inside a string", 'a="#1"', "#1"],
    ["statements divided by semicolons", "b=1;a=2;;", "2"],
    ["CRLF line ends", "a=1\r\nb=2\r\n", "1"],
    ["lists over several lines", "a = [\n 'x',\n 'y'\n]\n", ["x", "y"]],
    ["a trailing comma", "a=['x',]", ["x"]],
    ["empty lists", "a=[]", []],
    ["nested lists", "a=[ ['x', 1], [], 2 ]", [["x", "1"], [], "2"]],
    ["the last of two values", "a=1\na=2", "2"],
    ["+= on lists", "a=['x']\na+=['y']", ["x", "y"]],
    ["+= on strings", "a='x'\na+='y'", "xy"],
    ["+= on nothing", "a+=['y']", ["y"]],
  ])("reads %s", (_, text, expected) => {
    expect(value(text)).toEqual(expected);
  });

  // The first four are what xl itself says (golden transcripts).
  it.each<[string, string, string]>([
    ["an unterminated string", 'name="x\nmemory=64', "c.cfg:1: config parsing error near `\"x': lexical error"],
    [
      "a missing =",
      'name "x"',
      "c.cfg:1: config parsing error near `\"x\"': syntax error, unexpected STRING, expecting += or '='",
    ],
    [
      "an unclosed list",
      'disk=["phy:/dev/loop0,xvda,w"\n',
      "c.cfg:2: config parsing error near `': syntax error, unexpected $end, expecting ']'",
    ],
    ["a strange character", "�", "c.cfg:1: config parsing error near `�': lexical error"],
    [
      "a missing value",
      "a=1\nb=\n",
      "c.cfg:2: config parsing error near `': syntax error, unexpected NEWLINE, expecting STRING or NUMBER or '['",
    ],
    [
      "two values",
      "a=1 2",
      "c.cfg:1: config parsing error near `2': syntax error, unexpected NUMBER, expecting NEWLINE or ';'",
    ],
    [
      "a value in place of a name",
      "\n\n5=a",
      "c.cfg:3: config parsing error near `5': syntax error, unexpected NUMBER",
    ],
    ["a Python call", "a=str(1)", "c.cfg:1: config parsing error near `(': lexical error"],
    ["two commas", "a=['x',,]", "c.cfg:1: config parsing error near `,': syntax error, unexpected ',', expecting ']'"],
    ["a list added to a string", "a='x'\na+=['y']", "c.cfg:2: can't add [list] to [string] in parameter `a'"],
  ])("refuses %s with file and line", (_, text, expected) => {
    expect(message(() => parseXlu(text, "c.cfg"))).toBe(expected);
  });
});

const MINIMAL = 'name="x"\nkernel="/k"\n';
const domain = (text: string, overrides: string[] = []): DomainConfig =>
  parseDomainConfig(MINIMAL + text, "c.cfg", { overrides });

const XL_CFG_KEYS = `name type builder pool vcpus maxvcpus cpus cpus_soft cpu_weight cap memory maxmem vnuma on_poweroff on_reboot
  on_watchdog on_crash on_soft_reset kernel ramdisk cmdline root extra firmware pvshim pvshim_path pvshim_cmdline pvshim_extra uuid
  seclabel init_seclabel max_grant_frames max_maptrack_frames max_grant_version nomigrate driver_domain device_tree passthrough
  xend_suspend_evtchn_compat vmtrace_buf_kb vpmu xenstore_feature_mask xenstore_quota disk vif vtpm p9 pvcalls vfb channel rdm usbctrl
  usbdev pci pci_permissive pci_msitranslate pci_seize pci_power_mgmt gfx_passthru rdm_mem_boundary dtdev ioports iomem irqs
  max_event_channels vdispl dm_restrict device_model_user vsnd vkb virtio tee bootloader bootloader_args bootloader_restrict
  bootloader_user e820_host boot hdtype hap oos shadow_memory bios bios_path_override pae acpi acpi_s3 acpi_s4 acpi_laptop_slate apic nx
  hpet altp2m altp2mhvm altp2m_count nestedhvm cpuid acpi_firmware smbios_firmware smbios ms_vm_genid tsc_mode localtime rtc_timeoffset
  vpt_align timer_mode mmio_hole xen_platform_pci xen_platform_pci_bar_uc viridian hvm_pirq videoram stdvga vga vnc vnclisten vncdisplay
  vncunused vncpasswd keymap sdl nographic spice spicehost spiceport spicetls_port spicedisable_ticketing spicepasswd spiceagent_mouse
  spicevdagent spice_clipboard_sharing spiceusbredirection spice_image_compression spice_streaming_video serial soundhw vkb_device usb
  usbversion usbdevice vendor_device device_model_version device_model_override stubdomain_kernel stubdomain_cmdline stubdomain_ramdisk
  stubdomain_memory device_model_stubdomain_override device_model_stubdomain_seclabel device_model_args device_model_args_pv
  device_model_args_hvm gic_version vuart sve llc_colors nr_spis trap_unmapped_accesses arm_sci mca_caps msr_relaxed`;
const LISTS = new Set(["disk", "vif", "channel", "bootloader_args"]);
const VALUES: Readonly<Record<string, string>> = {
  type: "'pv'",
  builder: "'generic'",
  uuid: "'11111111-2222-3333-4444-555555555555'",
  on_poweroff: "'destroy'",
  on_reboot: "'destroy'",
  on_watchdog: "'destroy'",
  on_crash: "'destroy'",
  on_soft_reset: "'destroy'",
};

describe("a domain's configuration", () => {
  it("reads a whole file", () => {
    const c = parseDomainConfig(
      `name="golden1"
type="pv"
kernel="/lab/vmlinuz-cloud"
ramdisk="/lab/initrd2.gz"
extra="console=hvc0 demo.tick"
root="/dev/xvda"
memory=256
maxmem=320
vcpus=2
maxvcpus=4
uuid="11111111-2222-3333-4444-55555555555A"
disk=["phy:/dev/loop0,xvda,w"]
vif=["mac=00:16:3e:aa:bb:01,bridge=xenbr0"]
on_crash="preserve"
vfb=['vnc=1']
`,
      "golden1.cfg",
    );
    expect(c).toMatchObject({
      name: "golden1",
      type: "pv",
      kernel: "/lab/vmlinuz-cloud",
      ramdisk: "/lab/initrd2.gz",
      cmdline: "root=/dev/xvda console=hvc0 demo.tick",
      memory: 256,
      maxmem: 320,
      vcpus: 2,
      maxvcpus: 4,
      uuid: "11111111-2222-3333-4444-55555555555a",
      disk: ["phy:/dev/loop0,xvda,w"],
      vif: ["mac=00:16:3e:aa:bb:01,bridge=xenbr0"],
      onCrash: "preserve",
      warnings: ["golden1.cfg:15: warning: `vfb' is kept but has no effect: there is no frame buffer"],
    });
    expect(plain(c.recorded.get("vfb"))).toEqual(["vnc=1"]);
  });

  it("has xl's defaults", () => {
    expect(domain("")).toMatchObject({
      type: "pv",
      memory: 32,
      maxmem: 32,
      vcpus: 1,
      maxvcpus: 1,
      cmdline: "",
      uuid: undefined,
      onPoweroff: "destroy",
      onReboot: "restart",
      onCrash: "destroy",
      onWatchdog: "destroy",
      onSoftReset: "soft-reset",
    });
    expect(domain("maxvcpus=3").vcpus).toBe(3);
  });

  it("takes numbers as strings and in C notation", () => {
    expect(domain('memory="128"').memory).toBe(128);
    expect(domain("memory=0x80").memory).toBe(128);
  });

  it("lets the command line override the file", () => {
    const c = domain("memory=64", ["memory=128", 'extra="single"']);
    expect(c).toMatchObject({ memory: 128, cmdline: "single" });
    expect(message(() => domain("", ["memory=many"]))).toContain("command line:1: config parsing error");
  });

  it("prefers cmdline to root and extra, and says so", () => {
    const c = domain('cmdline="a"\nextra="b"');
    expect(c.cmdline).toBe("a");
    expect(c.warnings).toEqual(["c.cfg:3: warning: ignoring root= and extra= in favour of cmdline="]);
  });

  it("knows the old builder key", () => {
    expect(domain('builder="hvm"').type).toBe("hvm");
    expect(domain('builder="generic"').type).toBe("pv");
    expect(domain('type="pvh"\nbuilder="hvm"')).toMatchObject({
      type: "pvh",
      warnings: [expect.stringContaining("`builder' is ignored")],
    });
  });

  it("warns of unknown keys and guesses what was meant", () => {
    expect(domain("frobnicate=1\nmemroy=64").warnings).toEqual([
      "c.cfg:3: warning: unknown parameter `frobnicate' is ignored",
      "c.cfg:4: warning: unknown parameter `memroy' is ignored (did you mean `memory'?)",
    ]);
  });

  it.each<[string, string]>([
    ["gic_version='v3'", "c.cfg:3: `gic_version' is for Arm guests only; this is an x86 host"],
    ["vcpus=4\nmaxvcpus=2", "c.cfg:4: xl: maxvcpus < vcpus"],
    ["cpu_weight=70000", "c.cfg:3: parameter `cpu_weight' is 70000, must be at most 65535"],
    ["type='bogus'", "c.cfg:3: Invalid domain type bogus."],
    ["on_crash='explode'", 'c.cfg:3: Unknown on_crash action "explode" specified'],
    ["uuid='1234'", "c.cfg:3: Failed to parse UUID: 1234"],
    ["vif=['a',\n['b']]", "c.cfg:4: parameter `vif' holds a list where a string should be"],
    ["name='a/b'", "c.cfg:3: a domain name holds no spaces and no slashes"],
  ])("refuses %s with file and line", (text, expected) => {
    expect(message(() => domain(text))).toContain(expected);
  });

  // As xl has it: the setting counts as not given, and the domain is made (golden transcripts).
  it.each<[string, Partial<DomainConfig>, string]>([
    ["memory='lots'", { memory: 32 }, "c.cfg:3: warning: parameter `memory' is not a valid number"],
    ["memory=[1]", { memory: 32 }, "c.cfg:3: warning: parameter `memory' is a list but should be a single value"],
    ["disk='phy:x,xvda,w'", { disk: [] }, "c.cfg:3: warning: parameter `disk' is a single value but should be a list"],
    ["memory=128\nmaxmem=64", { maxmem: 128 }, "c.cfg:4: warning: maxmem (64) is less than memory (128): taken as 128"],
    ["vcpus=0", { vcpus: 1, maxvcpus: 1 }, "c.cfg:3: warning: a domain has at least 1 vCPU: taken as 1"],
  ])("takes %s with a warning", (text, expected, warning) => {
    expect(domain(text)).toMatchObject({ ...expected, warnings: [warning] });
  });

  it("says of a known key that nothing acts upon why that is so", () => {
    expect(domain("pci=['01:00.0']\nhap=1\nnomigrate=1").warnings).toEqual([
      "c.cfg:3: warning: `pci' is kept but has no effect: there are no devices of the host to give away",
      "c.cfg:4: warning: `hap' is kept but has no effect: it is for HVM and PVH guests",
    ]);
  });

  it("knows every key of xl.cfg(5): acted upon, kept with a reason, or refused with one", () => {
    for (const key of XL_CFG_KEYS.split(/\s+/)) {
      const value = LISTS.has(key) ? "[]" : (VALUES[key] ?? "1");
      let warnings: readonly string[] = [];
      try {
        warnings = parseDomainConfig(`${MINIMAL}${key}=${value}`, "c.cfg").warnings;
      } catch (e) {
        expect(String(e)).toContain("for Arm guests only");
      }
      expect(
        warnings.filter((w) => w.includes("unknown parameter")),
        key,
      ).toEqual([]);
    }
  });

  it("takes actions with dashes and with underscores", () => {
    expect(domain("on_crash='coredump-restart'\non_reboot='rename_restart'")).toMatchObject({
      onCrash: "coredump-restart",
      onReboot: "rename-restart",
    });
  });

  it("needs a name and a kernel", () => {
    expect(message(() => parseDomainConfig("", "c.cfg"))).toBe("Domain name must be specified.");
    expect(message(() => parseDomainConfig('name="x"', "c.cfg"))).toBe("Neither kernel nor bootloader specified");
  });
});
