import type { Page } from "../data/types";
import { useShown } from "../shown";
import { counted, duration } from "../units";
import { MEANINGS } from "../words";
import { useOpenStep } from "./Breakdown";
import { Figure } from "./Figure";
import { Series, type Line } from "./Series";
import { column, type Column } from "./Table";

interface Point {
  number: number;
  duration: number;
  wait: number;
  window: number | null;
}

/** Every step of the run with its wait, or the waits alone; recorded windows are marked. */
export function StepSeries({ isOfWaits = false }) {
  const { page } = useShown();
  const open = useOpenStep();
  const { stretch, number } = page.steps;
  const isRun = number.length > 0;
  const points = pointsOf(page);
  if (points.length < 2) return null;
  const waits: Line = {
    name: "waiting for data",
    tone: "data_wait",
    values: points.map(({ wait }) => wait),
    filled: true,
  };
  const steps: Line = { name: "step", tone: "step", values: points.map(({ duration }) => duration) };
  const title = isOfWaits ? "Wait over the run" : "Steps over the run";
  return (
    <Figure title={title} meaning={MEANINGS.series} columns={COLUMNS} rows={points} width={isOfWaits ? "" : "wide"}>
      <Series
        label={title}
        x={points.map(({ number }) => number)}
        lines={isOfWaits ? [waits] : [steps, waits]}
        showX={(number) => `step ${number}`}
        showY={duration}
        height={220}
        bands={isRun ? bandsOf(points) : []}
        pick={(index) => points[index].window !== null && open(points[index])}
      />
      <p class="muted">
        {stretch > 1 && `Each point is the longest of ${counted(stretch, "step")}. `}
        {isRun && "Shaded: recorded by a profiler, which slows the step. "}A click on a recorded step opens its
        timeline.
      </p>
    </Figure>
  );
}

/** Of the run; of a trace file alone the steps of its window. */
function pointsOf({ steps, report, windows }: Page): Point[] {
  if (!steps.number.length) {
    const window = windows[0]?.window ?? null;
    return report.window_steps.map(({ number, duration_ns, wait_ns }) => ({
      number,
      duration: duration_ns,
      wait: wait_ns,
      window,
    }));
  }
  return steps.number.map((number, i) => ({
    number,
    duration: steps.duration_ns[i],
    wait: steps.wait_ns[i],
    window: steps.window[i],
  }));
}

/** From the first to the last step of each window. */
function bandsOf(points: Point[]): [number, number][] {
  const bands = new Map<number, [number, number]>();
  for (const { window, number } of points) {
    if (window !== null) bands.set(window, [bands.get(window)?.[0] ?? number, number]);
  }
  return [...bands.values()];
}

const COLUMNS: Column<Point>[] = [
  column("number", "Step", (point) => point.number),
  column("duration", "Time", (point) => point.duration, duration),
  column("wait", "Waiting", (point) => point.wait, duration, { share: (point) => point.wait / point.duration }),
  column(
    "window",
    "Window",
    (point) => point.window ?? -1,
    (window) => (window < 0 ? "" : window),
  ),
];
