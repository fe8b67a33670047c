/** Virtual disks: block-attach, block-list, block-detach, cd-insert, cd-eject. */
import { ConfigError } from "../../toolstack/config/xlu.js";
import { diskNumber, parseDisk, type DiskConfig } from "../../toolstack/config/disk.js";
import { libxlJsonText } from "../../toolstack/config/json-text.js";
import { diskJson } from "../../toolstack/host/libxl-json.js";
import type { Command, Xl } from "./command.js";
import { FAILURE, OK } from "./exit.js";
import { left } from "./format.js";

/** A disk by the words of a command line: one specification in several parts. Ends the command for a wrong one. */
function diskOf(xl: Xl, spec: string): DiskConfig {
  try {
    const disk = parseDisk(spec);
    for (const w of disk.warnings) xl.err(w);
    return disk;
  } catch (e) {
    if (!(e instanceof ConfigError)) throw e;
    return xl.fail(e.message);
  }
}

const attach: Command = {
  name: "block-attach",
  synopsis: "<Domain> <disk-spec-component(s)>...",
  brief: "Plug a virtual disk into a domain",
  modifies: true,
  dryRun: true,
  least: 2,
  async run(xl: Xl, words: readonly string[]) {
    const [word, ...parts] = xl.parse(words).args;
    const domid = await xl.lookup(word);
    if (domid === undefined) xl.fail(`${word} is an invalid domain identifier`);
    const spec = parts.join(",");
    const disk = diskOf(xl, spec);
    if (xl.globals.dryRun) {
      xl.out(`disk: ${libxlJsonText(diskJson(spec))}\n`);
      return OK;
    }
    const failed = (): never => {
      xl.libxlError("unable to add device");
      return xl.fail("libxl_device_disk_add failed.");
    };
    const present = await (await xl.host()).listDevices(domid, "vbd").catch(() => []);
    if (present.some((d) => d.devid === disk.devid)) {
      xl.libxlError("device already exists in xenstore", domid);
      failed();
    }
    const { target } = disk;
    if (target !== "" && !/^https?:/.test(target) && !xl.io.exists(target)) {
      xl.libxlError(`Disk vdev=${disk.vdev} failed to stat: ${target}: No such file or directory`);
      failed();
    }
    await xl.ask(domid, (host) => host.attachDisk(domid, spec, xl.io.cwd), failed);
    return OK;
  },
};

const HEADER = `${left("Vdev", 5)} ${left("BE", 3)} ${left("handle", 6)} ${left("state", 5)} ${left("evt-ch", 6)} ${left("ring-ref", 8)} ${left("BE-path", 30)}`;

const list: Command = {
  name: "block-list",
  synopsis: "<Domain(s)>",
  brief: "Show the virtual disks of domains",
  least: 1,
  async run(xl: Xl, words: readonly string[]) {
    const { args } = xl.parse(words);
    xl.out(HEADER);
    for (const word of args) {
      const domid = await xl.lookup(word);
      if (domid === undefined) {
        xl.err(`${word} is an invalid domain identifier`);
        continue;
      }
      for (const d of await xl.devices(domid, "vbd")) {
        // The column called handle has the front end's domain in it.
        xl.out(
          `${left(d.devid, 5)} ${left(d.backendDomid, 3)} ${left(domid, 6)} ${left(d.state, 5)} ${left(d.evtchn, 6)} ${left(d.ringRef, 8)} ${left(d.backendPath, 30)}`,
        );
      }
    }
    return OK;
  },
};

const detach: Command = {
  name: "block-detach",
  synopsis: "[option] <Domain> <DevId>",
  brief: "Unplug a virtual disk",
  options: "-f, --force        do not wait until the domain lets go of it",
  modifies: true,
  spec: { short: "f", long: { force: "f" } },
  least: 2,
  async run(xl: Xl, words: readonly string[]) {
    const p = xl.parse(words);
    const [word, vdev] = p.args;
    const domid = await xl.domid(word);
    const number = diskNumber(vdev);
    const found = (await xl.devices(domid, "vbd")).some((d) => d.devid === number);
    if (!found) {
      xl.libxlError(`disk /libxl/${domid}/device/vbd/${number} does not exist (no backend path`);
      xl.fail(`Error: Device ${vdev} not connected.`);
    }
    await xl.ask(
      domid,
      (host) => host.detachDisk(domid, vdev, p.has("f")),
      () => xl.fail(`libxl_device_disk_${p.has("f") ? "destroy" : "safe_remove"} failed.`),
    );
    return OK;
  },
};

// --- CD-ROMs ----------------------------------------------------------------------------------------------------------------------

const cdInsert: Command = {
  name: "cd-insert",
  synopsis: "<Domain> <VirtualDevice> <path>",
  brief: "Put an image into a virtual CD drive",
  modifies: true,
  dryRun: true,
  least: 3,
  async run(xl: Xl, words: readonly string[]) {
    const [word, vdev, path] = xl.parse(words).args;
    const domid = await xl.domid(word);
    const disk = diskOf(xl, `vdev=${vdev},access=r,devtype=cdrom,target=${path}`);
    if (disk.target !== "" && !/^https?:/.test(disk.target) && !xl.io.exists(disk.target))
      xl.fail(`Cannot stat file: ${disk.target}`);
    await xl.ask(
      domid,
      (host) => host.insertCd(domid, vdev, path, xl.io.cwd),
      () => xl.exit(FAILURE),
    );
    return OK;
  },
};

const cdEject: Command = {
  name: "cd-eject",
  synopsis: "<Domain> <VirtualDevice>",
  brief: "Take the image out of a virtual CD drive",
  modifies: true,
  dryRun: true,
  least: 2,
  async run(xl: Xl, words: readonly string[]) {
    const [word, vdev] = xl.parse(words).args;
    const domid = await xl.domid(word);
    diskOf(xl, `vdev=${vdev},access=r,devtype=cdrom,target=`);
    await xl.ask(
      domid,
      (host) => host.ejectCd(domid, vdev),
      () => xl.exit(FAILURE),
    );
    return OK;
  },
};

export const blockCommands: readonly Command[] = [cdInsert, cdEject, attach, list, detach];
