// System control operations (numbers only).
// Source: <xen/sysctl.h>. Layout: 64-bit x86. abi.test.ts compares every line with the headers.

export const XEN_SYSCTL_INTERFACE_VERSION = 0x15;
export const XEN_SYSCTL_TBUFOP_get_info = 0;
export const XEN_SYSCTL_TBUFOP_set_cpu_mask = 1;
export const XEN_SYSCTL_TBUFOP_set_evt_mask = 2;
export const XEN_SYSCTL_TBUFOP_set_size = 3;
export const XEN_SYSCTL_TBUFOP_enable = 4;
export const XEN_SYSCTL_TBUFOP_disable = 5;
export const _XEN_SYSCTL_PHYSCAP_hvm = 0;
export const XEN_SYSCTL_PHYSCAP_hvm = 1;
export const _XEN_SYSCTL_PHYSCAP_pv = 1;
export const XEN_SYSCTL_PHYSCAP_pv = 2;
export const _XEN_SYSCTL_PHYSCAP_directio = 2;
export const XEN_SYSCTL_PHYSCAP_directio = 4;
export const _XEN_SYSCTL_PHYSCAP_hap = 3;
export const XEN_SYSCTL_PHYSCAP_hap = 8;
export const _XEN_SYSCTL_PHYSCAP_shadow = 4;
export const XEN_SYSCTL_PHYSCAP_shadow = 0x10;
export const _XEN_SYSCTL_PHYSCAP_iommu_hap_pt_share = 5;
export const XEN_SYSCTL_PHYSCAP_iommu_hap_pt_share = 32;
export const XEN_SYSCTL_PHYSCAP_vmtrace = 0x40;
export const XEN_SYSCTL_PHYSCAP_vpmu = 0x80;
export const XEN_SYSCTL_PHYSCAP_gnttab_v1 = 0x100;
export const XEN_SYSCTL_PHYSCAP_gnttab_v2 = 0x200;
export const XEN_SYSCTL_PHYSCAP_MAX = 512;
export const XEN_SYSCTL_PERFCOP_reset = 1;
export const XEN_SYSCTL_PERFCOP_query = 2;

export const PMSTAT_CATEGORY_MASK = 0xf0;
export const PMSTAT_PX = 0x10;
export const PMSTAT_CX = 0x20;
export const PMSTAT_get_max_px = 0x11;
export const PMSTAT_get_pxstat = 0x12;
export const PMSTAT_reset_pxstat = 0x13;
export const PMSTAT_get_max_cx = 0x21;
export const PMSTAT_get_cxstat = 0x22;
export const PMSTAT_reset_cxstat = 0x23;

export const XEN_SYSCTL_CPU_HOTPLUG_ONLINE = 0;
export const XEN_SYSCTL_CPU_HOTPLUG_OFFLINE = 1;
export const XEN_SYSCTL_CPU_HOTPLUG_SMT_ENABLE = 2;
export const XEN_SYSCTL_CPU_HOTPLUG_SMT_DISABLE = 3;

export const CPUFREQ_NAME_LEN = 16;

export const SCALING_MAX_FREQ = 1;
export const SCALING_MIN_FREQ = 2;
export const SCALING_SETSPEED = 3;
export const SAMPLING_RATE = 4;
export const UP_THRESHOLD = 5;

export const PM_PARA_CATEGORY_MASK = 0xf0;
export const CPUFREQ_PARA = 0x10;

export const GET_CPUFREQ_PARA = 0x11;
export const SET_CPUFREQ_GOV = 0x12;
export const SET_CPUFREQ_PARA = 0x13;
export const GET_CPUFREQ_AVGFREQ = 0x14;

export const XEN_SYSCTL_pm_op_set_sched_opt_smt = 0x21;
export const XEN_SYSCTL_pm_op_get_max_cstate = 0x22;
export const XEN_SYSCTL_pm_op_set_max_cstate = 0x23;
export const XEN_SYSCTL_pm_op_set_vcpu_migration_delay = 0x24;
export const XEN_SYSCTL_pm_op_get_vcpu_migration_delay = 0x25;
export const XEN_SYSCTL_pm_op_enable_turbo = 0x26;
export const XEN_SYSCTL_pm_op_disable_turbo = 0x27;
export const XEN_SYSCTL_CX_UNLIMITED = 0xffffffff;

export const sysctl_page_offline = 1;
export const sysctl_page_online = 2;
export const sysctl_query_page_offline = 3;

export const PG_OFFLINE_STATUS_MASK = 0xff;
export const PG_OFFLINE_INVALID = 1;
export const PG_OFFLINE_OFFLINED = 2;
export const PG_OFFLINE_PENDING = 4;
export const PG_OFFLINE_FAILED = 8;
export const PG_OFFLINE_AGAIN = 0x10;
export const PG_ONLINE_FAILED = 8;
export const PG_ONLINE_ONLINED = 2;
export const PG_OFFLINE_STATUS_OFFLINED = 2;
export const PG_OFFLINE_STATUS_ONLINE = 4;
export const PG_OFFLINE_STATUS_OFFLINE_PENDING = 8;
export const PG_OFFLINE_STATUS_BROKEN = 0x10;
export const PG_OFFLINE_MISC_MASK = 0xff0;
export const PG_OFFLINE_XENPAGE = 0x100;
export const PG_OFFLINE_DOM0PAGE = 0x200;
export const PG_OFFLINE_ANONYMOUS = 0x400;
export const PG_OFFLINE_NOT_CONV_RAM = 0x800;
export const PG_OFFLINE_OWNED = 0x1000;
export const PG_OFFLINE_BROKEN = 0x2000;
export const PG_ONLINE_BROKEN = 8192;
export const PG_OFFLINE_OWNER_SHIFT = 16;

export const XEN_SYSCTL_LOCKPROF_reset = 1;
export const XEN_SYSCTL_LOCKPROF_query = 2;

export const LOCKPROF_TYPE_GLOBAL = 0;
export const LOCKPROF_TYPE_PERDOM = 1;
export const LOCKPROF_TYPE_N = 2;

export const XEN_INVALID_CORE_ID = 4294967295;
export const XEN_INVALID_SOCKET_ID = 4294967295;
export const XEN_INVALID_NODE_ID = 4294967295;
export const XEN_INVALID_MEM_SZ = 4294967295;
export const XEN_INVALID_NODE_DIST = 4294967295;
export const XEN_SYSCTL_CPUPOOL_OP_CREATE = 1;
export const XEN_SYSCTL_CPUPOOL_OP_DESTROY = 2;
export const XEN_SYSCTL_CPUPOOL_OP_INFO = 3;
export const XEN_SYSCTL_CPUPOOL_OP_ADDCPU = 4;
export const XEN_SYSCTL_CPUPOOL_OP_RMCPU = 5;
export const XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN = 6;
export const XEN_SYSCTL_CPUPOOL_OP_FREEINFO = 7;
export const XEN_SYSCTL_CPUPOOL_PAR_ANY = 0xffffffff;

export const ARINC653_MAX_DOMAINS_PER_SCHEDULE = 64;

export const XEN_SYSCTL_SCHED_RATELIMIT_MAX = 500000;
export const XEN_SYSCTL_SCHED_RATELIMIT_MIN = 100;
export const XEN_SYSCTL_CSCHED_TSLICE_MAX = 1000;
export const XEN_SYSCTL_CSCHED_TSLICE_MIN = 1;
export const XEN_SYSCTL_CSCHED_MGR_DLY_MAX_US = 100000;
export const XEN_SYSCTL_SCHEDOP_putinfo = 0;
export const XEN_SYSCTL_SCHEDOP_getinfo = 1;
export const XEN_GCOV_FORMAT_MAGIC = 0x58434f56;
export const XEN_SYSCTL_COVERAGE_get_size = 0;
export const XEN_SYSCTL_COVERAGE_read = 1;
export const XEN_SYSCTL_COVERAGE_reset = 2;
export const XEN_SYSCTL_PSR_CMT_get_total_rmid = 0;
export const XEN_SYSCTL_PSR_CMT_get_l3_upscaling_factor = 1;
export const XEN_SYSCTL_PSR_CMT_get_l3_cache_size = 2;
export const XEN_SYSCTL_PSR_CMT_enabled = 3;
export const XEN_SYSCTL_PSR_CMT_get_l3_event_mask = 4;
export const XEN_INVALID_DEV = 4294967294;
export const XEN_SYSCTL_PSR_get_l3_info = 0;
export const XEN_SYSCTL_PSR_get_l2_info = 1;
export const XEN_SYSCTL_PSR_get_mba_info = 2;
export const XEN_SYSCTL_PSR_CAT_L3_CDP = 1;
export const XEN_SYSCTL_PSR_MBA_LINEAR = 1;
export const XEN_SYSCTL_CPU_LEVELCAP_faulting = 1;
export const XEN_SYSCTL_CPU_LEVELCAP_ecx = 2;
export const XEN_SYSCTL_CPU_LEVELCAP_edx = 4;
export const XEN_SYSCTL_CPU_LEVELCAP_extd_ecx = 8;
export const XEN_SYSCTL_CPU_LEVELCAP_extd_edx = 0x10;
export const XEN_SYSCTL_CPU_LEVELCAP_xsave_eax = 0x20;
export const XEN_SYSCTL_CPU_LEVELCAP_thermal_ecx = 0x40;
export const XEN_SYSCTL_CPU_LEVELCAP_l7s0_eax = 0x80;
export const XEN_SYSCTL_CPU_LEVELCAP_l7s0_ebx = 0x100;
export const XEN_SYSCTL_cpu_featureset_raw = 0;
export const XEN_SYSCTL_cpu_featureset_host = 1;
export const XEN_SYSCTL_cpu_featureset_pv = 2;
export const XEN_SYSCTL_cpu_featureset_hvm = 3;
export const XEN_SYSCTL_cpu_featureset_pv_max = 4;
export const XEN_SYSCTL_cpu_featureset_hvm_max = 5;

export const LIVEPATCH_PAYLOAD_VERSION = 2;

export const XEN_LIVEPATCH_NAME_SIZE = 128;
export const XEN_SYSCTL_LIVEPATCH_UPLOAD = 0;
export const XEN_SYSCTL_LIVEPATCH_GET = 1;

export const LIVEPATCH_STATE_CHECKED = 1;
export const LIVEPATCH_STATE_APPLIED = 2;

export const XEN_SYSCTL_LIVEPATCH_LIST = 2;
export const XEN_SYSCTL_LIVEPATCH_ACTION = 3;

export const LIVEPATCH_ACTION_UNLOAD = 1;
export const LIVEPATCH_ACTION_REVERT = 2;
export const LIVEPATCH_ACTION_APPLY = 3;
export const LIVEPATCH_ACTION_REPLACE = 4;
export const LIVEPATCH_ACTION_APPLY_NODEPS = 1;

export const XEN_SYSCTL_cpu_policy_raw = 0;
export const XEN_SYSCTL_cpu_policy_host = 1;
export const XEN_SYSCTL_cpu_policy_pv_max = 2;
export const XEN_SYSCTL_cpu_policy_hvm_max = 3;
export const XEN_SYSCTL_cpu_policy_pv_default = 4;
export const XEN_SYSCTL_cpu_policy_hvm_default = 5;
export const XEN_SYSCTL_readconsole = 1;
export const XEN_SYSCTL_tbuf_op = 2;
export const XEN_SYSCTL_physinfo = 3;
export const XEN_SYSCTL_sched_id = 4;
export const XEN_SYSCTL_perfc_op = 5;
export const XEN_SYSCTL_getdomaininfolist = 6;
export const XEN_SYSCTL_debug_keys = 7;
export const XEN_SYSCTL_getcpuinfo = 8;
export const XEN_SYSCTL_availheap = 9;
export const XEN_SYSCTL_get_pmstat = 10;
export const XEN_SYSCTL_cpu_hotplug = 11;
export const XEN_SYSCTL_pm_op = 12;
export const XEN_SYSCTL_page_offline_op = 14;
export const XEN_SYSCTL_lockprof_op = 15;
export const XEN_SYSCTL_cputopoinfo = 16;
export const XEN_SYSCTL_numainfo = 17;
export const XEN_SYSCTL_cpupool_op = 18;
export const XEN_SYSCTL_scheduler_op = 19;
export const XEN_SYSCTL_coverage_op = 20;
export const XEN_SYSCTL_psr_cmt_op = 21;
export const XEN_SYSCTL_pcitopoinfo = 22;
export const XEN_SYSCTL_psr_alloc = 23;
export const XEN_SYSCTL_get_cpu_levelling_caps = 25;
export const XEN_SYSCTL_get_cpu_featureset = 26;
export const XEN_SYSCTL_livepatch_op = 27;
export const XEN_SYSCTL_get_cpu_policy = 29;
