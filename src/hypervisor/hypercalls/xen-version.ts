/**
 * HYPERVISOR_xen_version (public/version.h). Anyone may ask most of it; the command line is denied and the build ID refused to
 * unprivileged domains.
 */
import { EFAULT, EINVAL, ENODATA, ENOSYS, EPERM } from "../../abi/errno.js";
import * as F from "../../abi/features.js";
import {
  XEN_CAPABILITIES_INFO_LEN,
  XEN_CHANGESET_INFO_LEN,
  XEN_EXTRAVERSION_LEN,
  xen_build_id,
  xen_compile_info,
  xen_feature_info,
  XENVER_build_id,
  XENVER_capabilities,
  XENVER_changeset,
  XENVER_commandline,
  XENVER_compile_info,
  XENVER_extraversion,
  XENVER_get_features,
  XENVER_guest_handle,
  XENVER_pagesize,
  XENVER_platform_parameters,
  XENVER_version,
} from "../../abi/version.js";
import { VMASST_TYPE_pae_extended_cr3 } from "../../abi/xen.js";
import { HYPERVISOR_VIRT_START } from "../../abi/arch_x86_xen.js";
import { XEN_MAJOR, XEN_MINOR } from "../traps/cpuid-policy.js";
import type { Call, Handler } from "./call.js";

export const XEN_EXTRAVERSION = ".7";
export const XEN_CAPABILITIES = "xen-3.0-x86_64 ";
export const XEN_CHANGESET = "";
export const XEN_COMPILER = "TypeScript (xenolith)";
export const XEN_COMPILE_BY = "xenolith";
export const XEN_COMPILE_DOMAIN = "localdomain";
export const XEN_COMPILE_DATE = "";
const DENIED = "<denied>";
/** xen_commandline_t. */
const COMMANDLINE_LEN = 1024;

/** `size` bytes, zero-filled, always terminated. */
function text(s: string, size: number): Uint8Array {
  const out = new Uint8Array(size);
  for (let i = 0; i < s.length && i < size - 1; i++) out[i] = s.charCodeAt(i) & 0x7f;
  return out;
}

function copyOut(call: Call, bytes: Uint8Array): number {
  return call.guest.copyTo(call.va(1), bytes) ? 0 : -EFAULT;
}

function features(call: Call): number {
  const b = call.guest.copyFrom(call.va(1), xen_feature_info.size);
  if (b === null) return -EFAULT;
  const d = new DataView(b.buffer);
  if (d.getUint32(xen_feature_info.submap_idx, true) !== 0) return -EINVAL;
  let submap =
    (1 << F.XENFEAT_memory_op_vnode_supported) |
    (1 << F.XENFEAT_mmu_pt_update_preserve_ad) |
    (1 << F.XENFEAT_highmem_assist) |
    (1 << F.XENFEAT_gnttab_map_avail_bits) |
    (1 << F.XENFEAT_direct_mapped);
  if ((call.domain.vmAssist & (1 << VMASST_TYPE_pae_extended_cr3)) !== 0) submap |= 1 << F.XENFEAT_pae_pgdir_above_4gb;
  if (call.domain.domid === 0) submap |= 1 << F.XENFEAT_dom0;
  d.setUint32(xen_feature_info.submap, submap, true);
  return copyOut(call, b);
}

function buildId(call: Call): number {
  if (!call.domain.privileged) return -EPERM;
  if (call.lo(1) !== 0 || call.hi(1) !== 0) {
    const b = call.guest.copyFrom(call.va(1), xen_build_id.size);
    if (b === null) return -EFAULT;
    if (new DataView(b.buffer).getUint32(0, true) === 0) return -EINVAL;
  }
  return -ENODATA;
}

export const xenVersion: Handler = (call) => {
  switch (call.lo(0) | 0) {
    case XENVER_version:
      return (XEN_MAJOR << 16) | XEN_MINOR;
    case XENVER_extraversion:
      return copyOut(call, text(XEN_EXTRAVERSION, XEN_EXTRAVERSION_LEN));
    case XENVER_compile_info: {
      const info = new Uint8Array(xen_compile_info.size);
      info.set(text(XEN_COMPILER, 64), xen_compile_info.compiler);
      info.set(text(XEN_COMPILE_BY, 16), xen_compile_info.compile_by);
      info.set(text(XEN_COMPILE_DOMAIN, 32), xen_compile_info.compile_domain);
      info.set(text(XEN_COMPILE_DATE, 32), xen_compile_info.compile_date);
      return copyOut(call, info);
    }
    case XENVER_capabilities:
      return copyOut(call, text(XEN_CAPABILITIES, XEN_CAPABILITIES_INFO_LEN));
    case XENVER_changeset:
      return copyOut(call, text(XEN_CHANGESET, XEN_CHANGESET_INFO_LEN));
    case XENVER_platform_parameters: {
      const out = new Uint8Array(8);
      const d = new DataView(out.buffer);
      d.setUint32(0, HYPERVISOR_VIRT_START >>> 0, true);
      d.setUint32(4, Math.floor(HYPERVISOR_VIRT_START / 4294967296) >>> 0, true);
      return copyOut(call, out);
    }
    case XENVER_get_features:
      return features(call);
    case XENVER_pagesize:
      return call.lo(1) !== 0 || call.hi(1) !== 0 ? -EINVAL : 4096;
    case XENVER_guest_handle:
      return copyOut(call, call.domain.handle);
    case XENVER_commandline:
      return call.domain.privileged
        ? copyOut(call, text(call.xen.commandLine, COMMANDLINE_LEN))
        : copyOut(call, text(DENIED, DENIED.length + 1));
    case XENVER_build_id:
      return buildId(call);
    default:
      return -ENOSYS;
  }
};
