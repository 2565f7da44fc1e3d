import type { Overhead, Report } from "../data/types";
import { useShown } from "../shown";
import { counted, duration, fixed, percent, size, sum } from "../units";
import { clean, MEANINGS } from "../words";
import { Kpi, type Measured } from "./Kpi";

/** The numbers one asks for first; each says how much of the step it explains. */
export function Kpis() {
  const { report } = useShown().page;
  const { overhead } = report;
  const memory = memoryOf(report);
  return (
    <div class="kpis">
      <Kpi title="Step time, mean" meaning={MEANINGS.step} tone="step" {...stepOf(report)} />
      <Kpi title="Waiting for data" meaning={MEANINGS.wait} tone="data_wait" {...waitOf(report)} />
      <Kpi title="Compute" meaning={MEANINGS.compute} tone="compute" {...computeOf(report)} />
      <Kpi
        title="Peak memory"
        meaning={memory ? MEANINGS.memory : MEANINGS.resident}
        {...(memory ?? residentOf(report))}
      />
      <Kpi title="Overhead of profkit" meaning={MEANINGS.overhead} tone="host" {...overheadOf(overhead)} />
    </div>
  );
}

function stepOf({ step_time_ns }: Report): Measured {
  const { mean, p50, p95, max } = step_time_ns!;
  return {
    value: duration(mean),
    share: 1,
    note: `p50 ${duration(p50)} · p95 ${duration(p95)} · max ${duration(max)}`,
  };
}

function waitOf({ wait, stall_share, step_time_ns }: Report): Measured {
  if (!wait) return { note: "No wait was recorded." };
  const share = stall_share ?? wait.share;
  const unknown = stall_share === null ? "; whether a device worked meanwhile was not recorded" : "";
  const hidden = wait.hidden_ns ? ` · ${duration(wait.hidden_ns)} more behind other work` : "";
  return {
    value: percent(share),
    share,
    note: `${duration(share * step_time_ns!.mean)} of each step${unknown}${hidden}`,
  };
}

function computeOf({ breakdown_ns, breakdown_steps, recorded }: Report): Measured {
  const whole = sum(Object.values(breakdown_ns));
  if (!recorded || !whole) return { note: "No profiler recorded a window." };
  const time = breakdown_ns.compute ?? 0;
  const steps = counted(breakdown_steps, "recorded step");
  return {
    value: percent(time / whole),
    share: time / whole,
    note: `${duration(time)} of ${duration(whole)}, mean of ${steps}`,
  };
}

function memoryOf({ memory }: Report): Measured | null {
  const [device] = [...memory.devices].sort((a, b) => b.peak_bytes - a.peak_bytes);
  if (!device?.peak_bytes) return null;
  const where = device.reserved_bytes ? `of ${size(device.reserved_bytes)} reserved` : "inside the window";
  return { value: size(device.peak_bytes), note: `on ${clean(device.device)}, ${where}` };
}

function residentOf({ counters: { resident_memory_bytes: resident } }: Report): Measured {
  if (!resident) return { note: "Memory was not recorded." };
  return { value: size(resident.max), note: "of RAM, resident; allocations were not recorded" };
}

function overheadOf({ outside_ns_per_step, outside_share, inside_ratio, inside_spread }: Overhead): Measured {
  const inside =
    inside_ratio !== null &&
    `steps inside the window take ${fixed(inside_ratio, 2)}× (± ${fixed(inside_spread ?? 0, 2)}) as long`;
  if (outside_share === null || outside_ns_per_step === null) return { note: inside || "Not known for a trace file." };
  const outside = `${duration(outside_ns_per_step)} per step`;
  return { value: percent(outside_share), share: outside_share, note: inside ? `${outside} · ${inside}` : outside };
}
