/** Network interfaces: network-attach, network-list, network-detach; channels. */
import { ConfigError } from "../../toolstack/config/xlu.js";
import { libxlJsonText } from "../../toolstack/config/json-text.js";
import { parseVif } from "../../toolstack/config/vif.js";
import { nicJson } from "../../toolstack/host/libxl-json.js";
import type { Command, Xl } from "./command.js";
import { OK } from "./exit.js";
import { left, right } from "./format.js";

const attach: Command = {
  name: "network-attach",
  synopsis:
    "<Domain> [type=<type>] [mac=<mac>] [bridge=<bridge>] [ip=<ip>] [script=<script>] [backend=<BackDomain>] [vifname=<name>] [rate=<rate>] [model=<model>] [accel=<accel>] [mtu=<mtu>]",
  brief: "Plug a network interface into a domain",
  modifies: true,
  dryRun: true,
  least: 1,
  async run(xl: Xl, words: readonly string[]) {
    const [word, ...parts] = xl.parse(words).args;
    const domid = await xl.domid(word);
    const spec = parts.join(",");
    try {
      for (const w of parseVif(spec).warnings) xl.err(w);
    } catch (e) {
      if (!(e instanceof ConfigError)) throw e;
      xl.fail(e.message);
    }
    if (xl.globals.dryRun) {
      xl.out(`vif: ${libxlJsonText(nicJson(spec))}\n`);
      return OK;
    }
    await xl.ask(
      domid,
      (host) => host.attachVif(domid, spec),
      () => xl.fail("libxl_device_nic_add failed."),
    );
    return OK;
  },
};

const list: Command = {
  name: "network-list",
  synopsis: "<Domain(s)>",
  brief: "Show the network interfaces of domains",
  least: 1,
  async run(xl: Xl, words: readonly string[]) {
    const { args } = xl.parse(words);
    xl.out(
      `${left("Idx", 3)} ${left("BE", 2)} ${left("Mac Addr.", 17)} ${left("handle", 6)} ${left("state", 5)} ${left("evt-ch", 6)} ${right("tx-", 5)}/${left("rx-ring-ref", 5)} ${left("BE-path", 30)}`,
    );
    for (const word of args) {
      const domid = await xl.domid(word);
      for (const d of await xl.devices(domid, "vif")) {
        xl.out(
          `${left(d.devid, 3)} ${left(d.backendDomid, 2)} ${d.mac ?? "00:00:00:00:00:00"}${right(d.handle, 6)} ${right(d.state, 5)} ${right(d.evtchn, 6)} ${right(d.ringRef, 5)}/${left(d.rxRingRef, 11)} ${left(d.backendPath, 30)}`,
        );
      }
    }
    return OK;
  },
};

const detach: Command = {
  name: "network-detach",
  synopsis: "<Domain> <DevId|mac>",
  brief: "Unplug a network interface",
  modifies: true,
  least: 2,
  async run(xl: Xl, words: readonly string[]) {
    const [word, which] = xl.parse(words).args;
    const domid = await xl.domid(word);
    const vifs = await xl.devices(domid, "vif");
    const number = parseInt(which, 10) || 0;
    const found = which.includes(":")
      ? vifs.find((d) => d.mac?.toLowerCase() === which.toLowerCase())
      : vifs.find((d) => d.devid === number);
    if (found === undefined) {
      if (!which.includes(":"))
        xl.libxlError(`xenstore read failed: \`/libxl/${domid}/device/vif/${number}': No such file or directory`);
      return xl.fail(`Unknown device ${which}.`);
    }
    await xl.ask(
      domid,
      (host) => host.detachVif(domid, String(found.devid)),
      () => xl.fail("libxl_device_nic_del failed."),
    );
    return OK;
  },
};

const channels: Command = {
  name: "channel-list",
  synopsis: "<Domain(s)>",
  brief: "Show the channels of domains (consoles beside the first)",
  least: 1,
  async run(xl: Xl, words: readonly string[]) {
    const { args } = xl.parse(words);
    xl.out(
      `${left("Idx", 3)} ${left("BE", 2)} ${left("state", 5)} ${left("evt-ch", 6)} ${right("ring-ref", 8)} ${left("connection", 10)} ${left("", 30)}`,
    );
    for (const word of args) {
      const domid = await xl.domid(word);
      for (const d of await xl.devices(domid, "console")) {
        // The first console is none of them.
        if (d.devid === 0) continue;
        const connection = d.connection ?? "pty";
        xl.out(
          `${left(d.devid, 3)} ${left(d.backendDomid, 2)} ${left(d.state, 5)} ${left(d.evtchn, 6)} ${left(d.ringRef, 8)} ${left(connection, 10)} ${connection === "pty" ? `${left(d.target ?? "", 30)} ` : ""}`,
        );
      }
    }
    return OK;
  },
};

export const networkCommands: readonly Command[] = [attach, list, detach, channels];
