import { useShown } from "../shown";
import { MEANINGS } from "../words";
import { Distribution } from "./Distribution";

/** How long steps take, one by one. */
export function StepTimes() {
  const { step_histogram, step_time_ns, window_steps } = useShown().page.report;
  if (!step_histogram || !step_time_ns || step_time_ns.max === step_time_ns.mean) return null; // one step
  const { p50, p95, max } = step_time_ns;
  return (
    <Distribution
      title="Step times"
      meaning={MEANINGS.distribution}
      histogram={step_histogram}
      tone="step"
      marks={[
        ["p50", p50],
        ["p95", p95],
      ]}
      max_ns={max}
      width={window_steps.length > 1 ? "short" : ""}
    />
  );
}
