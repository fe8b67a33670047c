/** What the hypervisor counts, by subsystem; plain numbers, read by tools and tests. */
export class Counters {
  runs = 0;
  instructions = 0;
  contextSwitches = 0;
  hypercalls = 0;
  multicalls = 0;
  readonly byHypercall = new Float64Array(64);
  syscalls = 0;
  irets = 0;
  upcalls = 0;
  nmis = 0;
  exceptions = 0;
  readonly byVector = new Float64Array(256);
  pageFaults = 0;
  ptwr = 0;
  privops = 0;
  forcedCpuid = 0;
  softInts = 0;
  segmentLoads = 0;
  crashes = 0;
  timersFired = 0;
}
