import type { StepRow } from "../data/types";
import { useShown } from "../shown";
import { counted, duration, sum } from "../units";
import { CLASSES, MEANINGS, PHASES } from "../words";
import { Figure } from "./Figure";
import { StackedBar } from "./StackedBar";
import { StepBars } from "./StepBars";
import { column, type Column } from "./Table";
import { Absent } from "./Waiting";

/** Where the time of a recorded step goes. */
export function Breakdown() {
  const { page } = useShown();
  const { breakdown_ns, breakdown_steps, window_steps, recorded, state } = page.report;
  const whole = sum(Object.values(breakdown_ns));
  if (!whole) return <Absent title="Where a step goes">{adviceWithoutWindow(state)}</Absent>;
  return (
    <Figure
      title={window_steps.length ? "Where a step goes" : "Where the time goes"}
      meaning={MEANINGS.breakdown}
      width="wide"
    >
      <p class="muted">
        {window_steps.length
          ? `Mean of ${counted(breakdown_steps, "recorded step")}`
          : "The whole trace, as it has no steps"}
        : {duration(whole)}.{!recorded && " No profiler recorded a window, so that steps and waits are all there is."}
      </p>
      <StackedBar parts={CLASSES} time_ns={breakdown_ns} whole_ns={whole} />
    </Figure>
  );
}

const adviceWithoutWindow = (state: string): string =>
  state === "running"
    ? "No window has been recorded yet. The breakdown appears with the first one."
    : "No window was recorded. Give profkit.profile a schedule whose window lies within the run's steps.";

/** Shows a step in the timeline of the window that recorded it. */
export function useOpenStep(): (step: { number: number }) => void {
  const { page, go } = useShown();
  return ({ number }) => {
    const holds = page.windows.find((w) => w.first_step !== null && w.first_step <= number && number <= w.last_step!);
    const window = holds && `${holds.window}`;
    go({ view: "timeline", step: `${number}`, start: undefined, end: undefined, ...(window && { window }) }, true);
  };
}

/** The recorded steps one by one. */
export function RecordedSteps() {
  const { window_steps } = useShown().page.report;
  const open = useOpenStep();
  if (window_steps.length < 2) return null;
  return (
    <Figure title="Recorded steps" meaning={MEANINGS.breakdown} columns={COLUMNS} rows={window_steps} width="long">
      <StepBars steps={window_steps} open={open} />
    </Figure>
  );
}

/** The same step told apart by what it is for. */
export function Phases() {
  const { phases_ns, breakdown_ns } = useShown().page.report;
  const { data, ...phases } = phases_ns;
  const whole_ns = sum(Object.values(breakdown_ns));
  const known = sum(Object.values(phases_ns));
  if (!known) return null;
  const times = { ...phases, data_wait: data ?? 0, unattributed: Math.max(0, whole_ns - known) };
  return (
    <Figure title="Phases on the host" meaning={MEANINGS.phases} width="wide">
      <StackedBar parts={PHASES} time_ns={times} whole_ns={Math.max(whole_ns, known)} />
    </Figure>
  );
}

const COLUMNS: Column<StepRow>[] = [
  column("number", "Step", (step) => step.number),
  column("duration", "Time", (step) => step.duration_ns, duration),
  ...CLASSES.map(([tone, title, meaning]) =>
    column(tone, title, (step: StepRow) => step.breakdown_ns[tone] ?? 0, duration, {
      meaning,
      share: (step) => (step.breakdown_ns[tone] ?? 0) / step.duration_ns,
    }),
  ),
];
