import type { Wait } from "../data/types";
import { counted, duration, Kpi, MEANINGS, percent } from "../given";
import type { Measured } from "../parts/Kpi";

/** How the steps wait for their data. */
export function WaitKpis({ wait }: { wait: Wait }) {
  const { mean_ns, p50_ns, p95_ns, p99_ns, max_ns, share, startup_ns, batches, period } = wait;
  const spread = [
    ["p50", p50_ns],
    ["p95", p95_ns],
    ["p99", p99_ns],
    ["max", max_ns],
  ] as const;
  const words = spread.map(([name, ns]) => `${name} ${duration(ns)}`).join(" · ");
  const received = batches ? `, which received ${counted(batches, "batch")}` : "";
  return (
    <div class="kpis">
      <Kpi
        title="Wait per step, mean"
        meaning={MEANINGS.wait}
        tone="data_wait"
        value={duration(mean_ns)}
        share={share}
        note={`${percent(share)} of the step · ${words}`}
      />
      <Kpi title="Exposed wait, mean" meaning={MEANINGS.hidden} tone="data_wait" {...exposedOf(wait)} />
      <Kpi
        title="Start-up"
        meaning={MEANINGS.startup}
        value={duration(startup_ns)}
        note={`of the whole run${received}`}
      />
      {period && (
        <Kpi
          title="Long waits come every"
          meaning={MEANINGS.period}
          tone="data_wait"
          value={counted(period.steps, "step")}
          note={`${duration(period.long_ns)} each, the others ${duration(period.others_ns)}`}
        />
      )}
    </div>
  );
}

function exposedOf({ mean_ns, share, exposed_ns, hidden_ns }: Wait): Measured {
  if (exposed_ns === null || hidden_ns === null) return { note: "Not known: the device's work was not recorded." };
  const part = mean_ns ? (exposed_ns / mean_ns) * share : 0;
  return { value: duration(exposed_ns), share: part, note: `${duration(hidden_ns)} more are hidden behind other work` };
}
