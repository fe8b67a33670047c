/**
 * Commands whose subject there is not: devices without a back end here, security modules, other machines. A list of what nobody has is
 * empty and ends well; anything else says in one line why it cannot be, and fails.
 */
import type { Command, Xl } from "./command.js";
import { FAILURE, OK, USAGE } from "./exit.js";

interface Plain {
  readonly synopsis?: string;
  readonly brief: string;
  readonly least?: number;
  readonly options?: string;
}

/** Says why in one line. A domain that is named must exist, so that a mistyped name is not taken for a missing feature. */
function refuses(name: string, why: string, plain: Plain, status = FAILURE): Command {
  return {
    name,
    synopsis: plain.synopsis ?? "<Domain>",
    brief: plain.brief,
    options: plain.options,
    modifies: true,
    least: plain.least ?? 1,
    // Options of what there is not are not looked at.
    async run(xl: Xl, words: readonly string[]) {
      const args = words.filter((w) => !w.startsWith("-") || w === "-");
      const [first] = xl.parse(words.length > args.length && words.includes("-h") ? ["-h"] : args).args;
      if (first !== undefined && (plain.synopsis ?? "<Domain>").includes("<Domain>")) await xl.domid(first);
      return xl.fail(`xl ${name}: ${why}`, status);
    },
  };
}

/** A list whose head is known and which has no rows. */
function emptyList(name: string, head: string | undefined, brief: string): Command {
  return {
    name,
    synopsis: "<Domain(s)>",
    brief,
    least: 1,
    async run(xl: Xl, words: readonly string[]) {
      const { args } = xl.parse(words);
      if (head !== undefined) xl.out(head);
      for (const word of args) await xl.domid(word);
      return OK;
    },
  };
}

const noDevice = (what: string): string => `there is no back end for ${what} yet`;

function devices(kind: string, what: string, head: string): Command[] {
  const synopsis = "<Domain> <spec-component(s)>...";
  return [
    refuses(`${kind}-attach`, noDevice(what), { synopsis, brief: `Plug a ${what} into a domain` }),
    emptyList(`${kind}-list`, head, `Show the ${what}s of domains`),
    refuses(`${kind}-detach`, noDevice(what), { synopsis: "<Domain> <DevId>", brief: `Unplug a ${what}`, least: 2 }),
  ];
}

/** Their letters are taken as words too: nothing of them is used. */
const flask = (xl: Xl): number => {
  xl.out("Flask XSM Disabled");
  return 255;
};

const getenforce: Command = {
  name: "getenforce",
  synopsis: "",
  brief: "Show whether the security module enforces its policy (there is none)",
  run: (xl: Xl, words: readonly string[]) => {
    xl.parse(words);
    return flask(xl);
  },
};
const setenforce: Command = {
  name: "setenforce",
  synopsis: "<1|0|Enforcing|Permissive>",
  brief: "Make the security module enforce its policy (there is none)",
  modifies: true,
  least: 1,
  run: (xl: Xl, words: readonly string[]) => {
    xl.parse(words);
    return flask(xl);
  },
};
const loadpolicy: Command = {
  name: "loadpolicy",
  synopsis: "<policy file>",
  brief: "Load a policy into the security module (there is none)",
  modifies: true,
  run: (xl: Xl, words: readonly string[]) => (xl.parse(words).args.length === 0 ? xl.usage(USAGE) : flask(xl)),
};

const assignable: Command = {
  name: "pci-assignable-list",
  synopsis: "[options]",
  brief: "Show devices of the host that may be given to domains (there are none)",
  options: "-n, --show-names        with their names",
  spec: { short: "n", long: { "show-names": "n" } },
  run: (xl: Xl, words: readonly string[]) => {
    xl.parse(words);
    xl.libxlError("Looks like pciback driver not loaded");
    return OK;
  },
};

/** libxl's answer where the processor has none of it. */
const PSR_STATUS = 253;
const psrHwinfo: Command = {
  name: "psr-hwinfo",
  synopsis: "[options]",
  brief: "Show what the processor can do to share its caches (nothing)",
  options: [
    "-m, --cmt       cache monitoring",
    "-a, --cat       cache allocation",
    "-b, --mba       memory bandwidth allocation",
  ].join("\n"),
  spec: { short: "mab", long: { cmt: "m", cat: "a", mba: "b" } },
  run: (xl: Xl, words: readonly string[]) => {
    const p = xl.parse(words);
    const all = !p.has("m") && !p.has("a") && !p.has("b");
    if (all || p.has("m")) {
      xl.out("Cache Monitoring Technology (CMT):");
      xl.out("Enabled         : 0");
    }
    return all || p.has("a") || p.has("b") ? PSR_STATUS : OK;
  },
};

const NO_PCI = "there are no devices of the host to give to a domain";
const NO_PSR = "the processor has no such technology";
const NO_USB = noDevice("USB");

export const absentCommands: readonly Command[] = [
  refuses("pci-attach", NO_PCI, {
    synopsis: "<Domain> <PCI_SPEC_STRING>",
    brief: "Give a PCI device to a domain",
    least: 2,
  }),
  refuses("pci-detach", NO_PCI, {
    synopsis: "<Domain> <PCI_SPEC_STRING>",
    brief: "Take a PCI device from a domain",
    least: 2,
  }),
  emptyList("pci-list", undefined, "Show the PCI devices of a domain"),
  refuses("pci-assignable-add", NO_PCI, {
    synopsis: "[options] <BDF>",
    brief: "Make a PCI device one that may be given away",
  }),
  refuses("pci-assignable-remove", NO_PCI, { synopsis: "[options] <BDF>|NAME", brief: "Take that back" }),
  assignable,
  refuses("vncviewer", "there is no frame buffer to view: `xl console` has the domain's console", {
    synopsis: "[options] <Domain>",
    brief: "View a domain's screen",
  }),
  ...devices(
    "vtpm",
    "virtual TPM",
    "Idx BE Uuid                                 handle state evt-ch ring-ref BE-path   ",
  ),
  ...devices(
    "vkb",
    "virtual keyboard",
    "Idx BE handle state evt-ch    ref ID         BE-type    BE-path                       ",
  ),
  ...devices("vdispl", "virtual display", "Vdisplay Handle          State   evt-ch   ring-ref"),
  ...devices("vsnd", "virtual sound card", "Idx BE handle state evt-ch ring-ref BE-path"),
  refuses("usbctrl-attach", NO_USB, {
    synopsis: "<Domain> [type=pv] [version=<version>] [ports=<number>]",
    brief: "Plug a USB controller into a domain",
  }),
  refuses("usbctrl-detach", NO_USB, { synopsis: "<Domain> <DevId>", brief: "Unplug a USB controller", least: 2 }),
  refuses("usbdev-attach", NO_USB, {
    synopsis: "<Domain> hostbus=<busnum> hostaddr=<devnum> [controller=<DevId> [port=<port>]]",
    brief: "Plug a USB device of the host into a domain",
    least: 2,
  }),
  refuses("usbdev-detach", NO_USB, {
    synopsis: "<Domain> <controller> <port>",
    brief: "Unplug a USB device",
    least: 3,
  }),
  emptyList("usb-list", undefined, "Show the USB controllers and devices of a domain"),
  refuses("qemu-monitor-command", "there is no QEMU behind a PV domain", {
    synopsis: "<Domain> <Command>",
    brief: "Send a command to the device model of a domain",
    least: 2,
  }),
  refuses("devd", "back ends are in the host service: no other domain has any", {
    synopsis: "[options]",
    brief: "Serve back ends from this domain",
    least: 0,
  }),
  refuses("remus", "continuous replication is not there (save and migrate are its parts)", {
    synopsis: "[options] <Domain> [<host>]",
    brief: "Replicate a running domain to another host",
    least: 2,
  }),
  refuses("suspend", "a domain that sleeps in memory is not there (save writes one to a file)", {
    brief: "Put a domain to sleep in memory",
  }),
  refuses("resume", "a domain that sleeps in memory is not there", { brief: "Wake a domain that sleeps in memory" }),
  refuses("dt-overlay", "device trees are for Arm; this is an x86 host", {
    synopsis: "<operation=add|remove|attach> <.dtbo> [<Domain>]",
    brief: "Change the host's device tree",
    least: 0,
  }),
  refuses("xenstore-quota-get", "quotas are the same for every domain and cannot be asked for yet", {
    synopsis: "<Domain>|-g",
    brief: "Show XenStore quotas",
    least: 0,
  }),
  refuses("xenstore-quota-set", "quotas are the same for every domain and cannot be changed yet", {
    synopsis: "<Domain>|-g <quota>=<val>...",
    brief: "Change XenStore quotas",
    least: 0,
  }),
  getenforce,
  setenforce,
  loadpolicy,
  psrHwinfo,
  ...(
    [
      ["psr-cmt-attach", "<Domain>"],
      ["psr-cmt-detach", "<Domain>"],
      ["psr-cmt-show", "<PSR-CMT-Type> <Domain>"],
      ["psr-cat-set", "[options] <Domain> <CBM>"],
      ["psr-cat-show", "[options] <Domain>"],
      ["psr-mba-set", "[options] <Domain> <THRTL>"],
      ["psr-mba-show", "<Domain>"],
    ] as const
  ).map(([name, usage]) => ({
    ...refuses(name, NO_PSR, {
      synopsis: usage.replace("<Domain>", "<domain>"),
      brief: "Share caches and memory bandwidth (not on this processor)",
    }),
    synopsis: usage,
  })),
];

/** Commands of xm that xl never had, and what to do in their place. */
export const XM_ONLY: Readonly<Record<string, string>> = {
  new: "managed domains were xm's: `xl create` makes one from its file",
  delete: "managed domains were xm's: `xl destroy` ends a domain, its file is yours",
  start: "managed domains were xm's: `xl create`",
  shell: "give one command at a time",
  log: "the host service's log is in its state folder (`xenolith info --json`)",
  serve: "the Xen API has a service of its own",
  "dry-run": "`xl -N create`",
  "block-configure": "`xl cd-insert`, or `xl block-detach` and `xl block-attach`",
  "vnet-create": "bridges are made when they are first named",
  "vnet-delete": "bridges go when nobody is on them",
  "vnet-list": "bridges are named in `xl list -l`",
  ...Object.fromEntries(
    [
      "addlabel",
      "rmlabel",
      "getlabel",
      "resources",
      "dumppolicy",
      "setpolicy",
      "resetpolicy",
      "getpolicy",
      "labels",
    ].map((name) => [name, "there is no security module"]),
  ),
};
