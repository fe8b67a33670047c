/**
 * HYPERVISOR_physdev_op as a PV domain without devices of its own meets it: its virtual IOPL and I/O bitmap are its own business,
 * everything that touches real interrupts or PCI devices is refused with the error real Xen 4.17 gives.
 */
import { EBUSY, EFAULT, EINVAL, ENODEV, ENOSPC, ENOSYS, EPERM, ESRCH } from "../../abi/errno.js";
import * as P from "../../abi/physdev.js";
import { DOMID_SELF } from "../../abi/xen.js";
import type { Domain } from "../domain.js";
import { refusedRange } from "../guest-access.js";
import type { Call, Handler } from "./call.js";
import { ArgCall, canonicalVa } from "./reg-call.js";

/** Bytes of an I/O permission bitmap for 65536 ports. */
const IOBITMAP_BYTES = 8192;
/** First PIRQ that is no legacy interrupt, and GSIs of the machine's one I/O APIC. */
const FIRST_PIRQ = 16;
const GSIS = 24;

/** PIRQ numbers given out by get_free_pirq. */
const allocated = new WeakMap<Domain, Set<number>>();
/** Page registered with pirq_eoi_gmfn. */
const eoiPage = new WeakMap<Domain, number>();

/** Copy a structure in; null is −EFAULT. */
function copy(call: Call, size: number): DataView | null {
  const b = call.guest.copyFrom(call.va(1), size);
  return b === null ? null : new DataView(b.buffer);
}
function back(call: Call, d: DataView): boolean {
  return call.guest.copyTo(call.va(1), new Uint8Array(d.buffer));
}

function physdev(call: Call, cmd: number): number {
  const { domain, vcpu } = call;
  const nrPirqs = domain.events.nrPirqs;
  switch (cmd) {
    case P.PHYSDEVOP_eoi:
      // No PIRQ is bound: −EINVAL whatever the number.
      return copy(call, P.physdev_eoi.size) === null ? -EFAULT : -EINVAL;
    case P.PHYSDEVOP_pirq_eoi_gmfn_v1:
    case P.PHYSDEVOP_pirq_eoi_gmfn_v2: {
      const d = copy(call, P.physdev_pirq_eoi_gmfn.size);
      if (d === null) return -EFAULT;
      const page = domain.events.frames.getWritable(d.getUint32(0, true), d.getUint32(4, true));
      if (page < 0) return -EINVAL;
      if (eoiPage.has(domain)) {
        domain.events.frames.putWritable(page);
        return -EBUSY;
      }
      eoiPage.set(domain, page);
      domain.onDestroy(() => domain.events.frames.putWritable(page));
      return 0;
    }
    case P.PHYSDEVOP_IRQ_UNMASK_NOTIFY:
      return 0;
    case P.PHYSDEVOP_irq_status_query: {
      const d = copy(call, P.physdev_irq_status_query.size);
      if (d === null) return -EFAULT;
      if (d.getUint32(0, true) >= nrPirqs) return -EINVAL;
      d.setUint32(P.physdev_irq_status_query.flags, P.XENIRQSTAT_needs_eoi, true);
      return back(call, d) ? 0 : -EFAULT;
    }
    case P.PHYSDEVOP_set_iopl: {
      const d = copy(call, P.physdev_set_iopl.size);
      if (d === null) return -EFAULT;
      const iopl = d.getUint32(0, true);
      if (iopl > 3) return -EINVAL;
      vcpu.traps.iopl = iopl;
      return 0;
    }
    case P.PHYSDEVOP_set_iobitmap: {
      const d = copy(call, P.physdev_set_iobitmap.size);
      if (d === null) return -EFAULT;
      const va = canonicalVa(d.getUint32(0, true), d.getUint32(4, true));
      const ports = d.getUint32(P.physdev_set_iobitmap.nr_ports, true);
      if (Number.isNaN(va) || refusedRange(va, IOBITMAP_BYTES) || ports > 65536) return -EINVAL;
      vcpu.traps.ioBitmap = va;
      vcpu.traps.ioBitmapPorts = ports;
      return 0;
    }
    case P.PHYSDEVOP_apic_read:
    case P.PHYSDEVOP_apic_write:
      return copy(call, P.physdev_apic.size) === null ? -EFAULT : -EPERM;
    case P.PHYSDEVOP_alloc_irq_vector:
      return copy(call, P.physdev_irq.size) === null ? -EFAULT : -EPERM;
    case P.PHYSDEVOP_map_pirq:
    case P.PHYSDEVOP_unmap_pirq: {
      const d = copy(call, cmd === P.PHYSDEVOP_map_pirq ? P.physdev_map_pirq.size : P.physdev_unmap_pirq.size);
      if (d === null) return -EFAULT;
      const domid = d.getUint16(0, true);
      return domid !== DOMID_SELF && !call.xen.domains.has(domid) ? -ESRCH : -EPERM;
    }
    case P.PHYSDEVOP_get_free_pirq: {
      const d = copy(call, P.physdev_get_free_pirq.size);
      if (d === null) return -EFAULT;
      const set = allocated.get(domain) ?? new Set<number>();
      allocated.set(domain, set);
      let pirq = -1;
      if (d.getInt32(0, true) === P.MAP_PIRQ_TYPE_GSI) {
        for (let i = FIRST_PIRQ; i < GSIS && pirq < 0; i++) if (!set.has(i)) pirq = i;
      } else for (let i = nrPirqs - 1; i >= GSIS && pirq < 0; i--) if (!set.has(i)) pirq = i;
      if (pirq < 0) return -ENOSPC;
      set.add(pirq);
      d.setUint32(P.physdev_get_free_pirq.pirq, pirq, true);
      return back(call, d) ? 0 : -EFAULT;
    }
    case P.PHYSDEVOP_setup_gsi: {
      const d = copy(call, P.physdev_setup_gsi.size);
      if (d === null) return -EFAULT;
      const gsi = d.getInt32(0, true);
      return gsi < 0 || gsi >= GSIS ? -EINVAL : -EPERM;
    }
    case P.PHYSDEVOP_restore_msi:
    case P.PHYSDEVOP_restore_msi_ext:
      return copy(call, cmd === P.PHYSDEVOP_restore_msi ? P.physdev_restore_msi.size : P.physdev_pci_device.size) ===
        null
        ? -EFAULT
        : -ENODEV;
    case P.PHYSDEVOP_manage_pci_add:
    case P.PHYSDEVOP_manage_pci_remove:
      return copy(call, P.physdev_manage_pci.size) === null ? -EFAULT : -EPERM;
    case P.PHYSDEVOP_manage_pci_add_ext:
      return copy(call, P.physdev_manage_pci_ext.size) === null ? -EFAULT : -EPERM;
    case P.PHYSDEVOP_pci_device_add:
      return copy(call, P.physdev_pci_device_add.size) === null ? -EFAULT : -EPERM;
    case P.PHYSDEVOP_pci_device_remove:
    case P.PHYSDEVOP_prepare_msix:
    case P.PHYSDEVOP_release_msix:
      return copy(call, P.physdev_pci_device.size) === null ? -EFAULT : -EPERM;
    case P.PHYSDEVOP_pci_mmcfg_reserved:
    case P.PHYSDEVOP_dbgp_op:
      return -EPERM;
    default:
      return -ENOSYS;
  }
}

export const physdevOp: Handler = (call) => physdev(call, call.lo(0) | 0);

/** Legacy: the command is in the structure (struct physdev_op), its arguments follow. */
export const physdevOpCompat: Handler = (call) => {
  const arg = call.va(0);
  const b = call.guest.copyFrom(arg, P.physdev_op.size);
  if (b === null) return -EFAULT;
  const cmd = new DataView(b.buffer).getUint32(P.physdev_op.cmd, true);
  switch (cmd) {
    case P.PHYSDEVOP_IRQ_UNMASK_NOTIFY:
    case P.PHYSDEVOP_irq_status_query:
    case P.PHYSDEVOP_set_iopl:
    case P.PHYSDEVOP_set_iobitmap:
    case P.PHYSDEVOP_apic_read:
    case P.PHYSDEVOP_apic_write:
    case P.PHYSDEVOP_alloc_irq_vector: {
      const sub = new ArgCall(call.xen);
      sub.domain = call.domain;
      sub.vcpu = call.vcpu;
      sub.setArg(0, cmd, 0);
      sub.setVa(1, arg + P.physdev_op.u);
      return physdev(sub, cmd);
    }
    default:
      return -ENOSYS;
  }
};
