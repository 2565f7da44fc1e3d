import { useShown } from "../shown";
import { Kpis } from "../parts/Kpis";
import { Breakdown, Phases, RecordedSteps } from "../parts/Breakdown";
import { StepSeries } from "../parts/StepSeries";
import { StepTimes } from "../parts/StepTimes";
import { System } from "../parts/System";
import { Verdict } from "../parts/Verdict";

/** Why the step is slow, what to change, and what that rests on. */
export function Overview() {
  const { page } = useShown();
  return (
    <>
      <Verdict />
      {page.report.step_time_ns && <Kpis />}
      <Breakdown />
      <RecordedSteps />
      <StepTimes />
      <Phases />
      {page.steps.number.length > 0 && <StepSeries />}
      <System />
    </>
  );
}
