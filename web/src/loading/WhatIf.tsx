import type { Loading, Prediction } from "../data/types";
import {
  clean,
  column,
  Copyable,
  counted,
  duration,
  Figure,
  ratio,
  Table,
  ticksOf,
  useState,
  useWidth,
} from "../given";
import { bestOf, curveOf, pasted, type Choice } from "./curve";

const LEFT = 66; // CSS pixels, as all lengths here
const RIGHT = 40;
const TOP = 24;
const HEIGHT = 190;
const BOTTOM = 40;
const WORTH_TRYING = 1.05; // predicted speed-up, as WORTH_A_CHANGE in profkit.analysis.report

/** What the simulator says of other settings. */
export function WhatIf({ loading }: { loading: Loading }) {
  const { predictions, num_workers } = loading;
  const curve = curveOf(loading);
  const best = bestOf(curve);
  const isWorthTrying = best !== undefined && best.prediction.speedup >= WORTH_TRYING;
  const others = predictions.filter(({ kind }) => kind !== "workers");
  if (!predictions.length) return null;
  return (
    <Figure title="What if" meaning={MEANING} id="whatif" width="wide" columns={COLUMNS} rows={predictions}>
      {isWorthTrying && (
        <>
          <p>
            With {counted(best.workers, "worker")} a step is predicted to take {duration(best.prediction.step_ns)}, of
            which {duration(best.prediction.wait_ns)} waiting:{" "}
            <strong>{ratio(best.prediction.speedup)} as fast as now</strong>, confidence {best.prediction.confidence}.
          </p>
          <Copyable text={pasted(best.prediction.settings)} />
        </>
      )}
      {best && !isWorthTrying && <p>No other number of workers is predicted to be 5 % faster or more.</p>}
      {curve.length > 1 && <Chart curve={curve} present={num_workers} best={best} />}
      {others.length > 0 && <Table caption="Other settings" columns={COLUMNS} rows={others} />}
    </Figure>
  );
}

const MEANING =
  "A simulation fed with the batches of this run: their order, their fetch times, and the time between requests. Best: " +
  "the fewest workers within 3 % of the shortest step. Speed-ups are in samples per second. profkit tune tries them out.";

const KINDS: Record<string, string> = {
  workers: "Workers",
  prefetch: "Prefetching",
  batch: "Batch size",
  without: "Without a stage",
};

const settingsOf = ({ settings }: Prediction): string =>
  Object.entries(settings)
    .map(([name, value]) => clean(`${name}=${value}`))
    .join(", ");

const COLUMNS = [
  column("kind", "Change", (one: Prediction) => clean(KINDS[one.kind] ?? one.kind)),
  column("settings", "To", settingsOf),
  column("step", "Step", (one: Prediction) => one.step_ns, duration, { share: (one) => one.step_ns }),
  column("wait", "Wait", (one: Prediction) => one.wait_ns, duration),
  column("speedup", "Faster", (one: Prediction) => one.speedup, ratio),
  column("confidence", "Confidence", (one: Prediction) => one.confidence),
];

interface ChartProps {
  curve: Choice[];
  present: number;
  best: Choice | undefined;
}

function Chart({ curve, present, best }: ChartProps) {
  const [box, width] = useWidth();
  const [at, point] = useState<number | null>(null);
  const most = 1.06 * Math.max(...curve.map(({ prediction }) => prediction.step_ns));
  const [first, last] = [curve[0].workers, curve.at(-1)!.workers];
  const room = Math.max(width - LEFT - RIGHT, 1);
  const x = (workers: number): number => LEFT + ((workers - first) / (last - first || 1)) * room;
  const y = (time: number): number => TOP + HEIGHT * (1 - time / most);
  const line = (of: (one: Prediction) => number): string =>
    `M${curve.map(({ workers, prediction }) => `${x(workers).toFixed(1)} ${y(of(prediction)).toFixed(1)}`).join("L")}`;
  const words = at === null ? "" : wordsOf(curve[at], present, best);
  const move = ({ offsetX }: MouseEvent): void => {
    const apart = curve.map(({ workers }) => Math.abs(x(workers) - offsetX));
    point(apart.indexOf(Math.min(...apart)));
  };
  const press = (event: KeyboardEvent): void => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    point(Math.min(Math.max((at ?? -by) + by, 0), curve.length - 1));
    event.preventDefault();
  };
  return (
    <div
      class="series"
      tabIndex={0}
      role="application"
      aria-label={`Step time over the number of workers. Arrow keys move. ${words}`}
      onKeyDown={press}
    >
      <p class="readout">
        {words || (
          <>
            <span class="key">
              <i class="area step" /> step
            </span>
            <span class="key">
              <i class="area data_wait" /> of it, waiting
            </span>
          </>
        )}
      </p>
      <div ref={box}>
        <svg
          width={width}
          height={TOP + HEIGHT + BOTTOM}
          aria-hidden="true"
          onMouseMove={move}
          onMouseLeave={() => point(null)}
        >
          {ticksOf(0, most, HEIGHT / 40).map((value) => (
            <g key={value}>
              <line class="grid" x1={LEFT} x2={LEFT + room} y1={y(value)} y2={y(value)} />
              <text class="left" x={LEFT - 8} y={y(value) + 4}>
                {duration(value)}
              </text>
            </g>
          ))}
          <g stroke="var(--data_wait)" fill="var(--data_wait)">
            <path class="fill" d={`${line((one) => one.wait_ns)}V${y(0)}H${x(first)}Z`} />
            <path class="line" d={line((one) => one.wait_ns)} />
          </g>
          <g stroke="var(--step)" fill="var(--step)">
            <path class="line" d={line((one) => one.step_ns)} />
            {curve.map(({ workers, prediction }, i) => (
              <circle key={workers} r={i === at ? 6 : 4} cx={x(workers)} cy={y(prediction.step_ns)} />
            ))}
          </g>
          {curve.map(({ workers }) => (
            <text key={workers} x={x(workers)} y={TOP + HEIGHT + 16}>
              {workers}
            </text>
          ))}
          <text x={LEFT + room / 2} y={TOP + HEIGHT + 34}>
            number of workers
          </text>
          {first <= present && present <= last && (
            <Mark x={x(present)} name={best?.workers === present ? "now, and best" : "now"} />
          )}
          {best && best.workers !== present && <Mark x={x(best.workers)} name="best" />}
        </svg>
      </div>
    </div>
  );
}

function Mark({ x, name }: { x: number; name: string }) {
  return (
    <>
      <line class="at" x1={x} x2={x} y1={TOP - 6} y2={TOP + HEIGHT} />
      <text class="marked" x={x} y={TOP - 11}>
        {name}
      </text>
    </>
  );
}

function wordsOf({ workers, prediction }: Choice, present: number, best: Choice | undefined): string {
  const { step_ns, wait_ns, speedup, confidence } = prediction;
  const which = [workers === present && "now", workers === best?.workers && "best"].filter(Boolean).join(", ");
  return (
    `${counted(workers, "worker")}${which && ` (${which})`}: step ${duration(step_ns)}, wait ${duration(wait_ns)}, ` +
    `${ratio(speedup)}, confidence ${confidence}`
  );
}
