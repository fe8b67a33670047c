import { describe, expect, it } from "vitest";
import { diskName, diskNumber, parseDisk, unsupportedDisk } from "./disk.js";

const base = {
  target: "/dev/vg/guest",
  format: "raw",
  devid: 51712,
  readOnly: false,
  cdrom: false,
};

describe("disk specifications", () => {
  // The examples of xl-disk-configuration(5): all the same disk.
  it.each([
    "/dev/vg/guest,,xvda",
    "/dev/vg/guest,raw,xvda,rw",
    "format=raw, vdev=xvda, access=rw, target=/dev/vg/guest",
    "raw:/dev/vg/guest,xvda,w",
    "phy:/dev/vg/guest,xvda,w",
    "file:/dev/vg/guest,xvda",
    "vdev=xvda,format=raw,access=w,/dev/vg/guest",
    "/dev/vg/guest,,xvda:disk,w",
    "/dev/vg/guest, vdev=xvda",
    "/dev/vg/guest,raw,51712,rw",
  ])("%s", (spec) => {
    const d = parseDisk(spec);
    expect(d).toMatchObject(base);
    expect(["xvda", "51712"]).toContain(d.vdev);
  });

  it("CD-ROMs, empty and full", () => {
    expect(parseDisk("/root/image.iso,,hdc,cdrom")).toMatchObject({
      devid: 5632,
      readOnly: true,
      cdrom: true,
      format: "raw",
    });
    expect(parseDisk(",,hdc,,cdrom")).toMatchObject({ target: "", format: "empty", cdrom: true });
    expect(parseDisk("format=raw,vdev=hdc,access=ro,devtype=cdrom,target=/a,b=c")).toMatchObject({ target: "/a,b=c" });
    expect(parseDisk("file:/x.iso,hdc:cdrom,r").warnings).toHaveLength(1);
  });

  it("the other parameters", () => {
    const d = parseDisk("/x,qcow2,sdb1,r,backendtype=qdisk,backend=store,script=block-x,direct-io-safe,no-discard");
    expect(d).toMatchObject({
      format: "qcow2",
      devid: (8 << 8) | 17,
      readOnly: true,
      backend: "store",
      backendType: "qdisk",
      script: "block-x",
      directIoSafe: true,
      discard: false,
    });
    expect(unsupportedDisk(d)).toContain("disk sdb1: backend=store");
    expect(unsupportedDisk(parseDisk("/x,,xvda"))).toBeUndefined();
    expect(parseDisk("nbd:/x,xvda").script).toBe("block-nbd");
    expect(parseDisk("https://h/disk.qcow2,qcow2,xvda,r")).toMatchObject({
      target: "https://h/disk.qcow2",
      format: "qcow2",
    });
    expect(parseDisk("/x,,xvda,untrusted,specification=xen").trusted).toBe(false);
  });

  it.each([
    ["/x,raw", "no vdev specified"],
    ["", "no vdev specified"],
    ["vdev=xvda", "no target specified"],
    ["/x,cow,xvda", "unknown value for format: near `cow'"],
    ["/x,raw,xvda,x", "unknown value for access: near `x'"],
    ["/x,raw,xvda,r,w", "too many positional parameters: near `w'"],
    ["/x,raw,xvda,devtype=tape", "unknown value for type: near `devtype=tape'"],
    ["/x,raw,xvda,backendtype=nfs", "unknown value for backendtype: near `nfs'"],
    ["/x,raw,xvda,speed=9", "unknown parameter: near `speed=9'"],
    ["zip:/x,xvda,w", "unknown deprecated disk prefix: near `zip:'"],
    ["/x,raw,vda", "invalid vdev: near `vda'"],
    ["/x,raw,vdev=xvda,vdev=xvdb", "vdev specified twice: near `xvdb'"],
    ["/x,raw,xvda:tape", "unknown deprecated type: near `tape'"],
  ])("%s is refused", (spec, message) => {
    expect(() => parseDisk(spec, "c.cfg:3")).toThrow(
      `c.cfg:3: config parsing error in disk specification: ${message} in \`${spec}'`,
    );
  });
});

describe("virtual device numbers", () => {
  it.each([
    ["xvda", 51712],
    ["xvdb", 51728],
    ["xvda1", 51713],
    ["xvdp15", 51967],
    ["xvdq", 268439552],
    ["xvda16", 268435472],
    ["xvdaa", 268442112],
    ["d0p0", 51712],
    ["d2p3", 51747],
    ["hda", 768],
    ["hdb", 832],
    ["hdc", 5632],
    ["hdd2", 5698],
    ["sda", 2048],
    ["sdp15", 2303],
    ["51712", 51712],
    ["0xca00", 51712],
    ["hde", -1],
    ["sdq", -1],
    ["xvd", -1],
    ["xvda0", -1],
    ["xvda256", -1],
    ["vda", -1],
    ["", -1],
    ["99999999999", -1],
  ])("%s is %i", (vdev, n) => {
    expect(diskNumber(vdev)).toBe(n);
    if (n >= 0 && /^[xhs][a-z]+\d*$/.test(vdev)) expect(diskName(n)).toBe(vdev);
  });
});
