import type { BatchSeries, WindowEntry } from "../data/types";
import {
  column,
  count,
  counted,
  duration,
  Figure,
  ticksOf,
  useMemo,
  useOpenStep,
  useShown,
  useState,
  useWidth,
} from "../given";
import { byKind, KINDS, stageOf, type Kind } from "./kinds";

const LEFT = 66; // CSS pixels, as all lengths here
const RIGHT = 8;
const TOP = 6;
const HEIGHT = 200; // of the bars
const GAP = 22; // for the words between the bars and the queue
const DEPTH = 44; // of the queue
const BOTTOM = 20;

/** Every batch of the run, or of long runs the longest wait of each stretch: what it waited for, and the queue. */
export function Batches({ batches }: { batches: BatchSeries }) {
  const { windows } = useShown().page;
  const openStep = useOpenStep();
  const { step, stretch, wait_ns } = batches;
  const height = heightOf(wait_ns);
  const cut = wait_ns.filter((wait) => wait > height).length;
  const open = (at: number): void => void (isRecorded(windows, step[at]) && openStep({ number: step[at]! }));
  const rows = useMemo(() => step.map((_, at) => at), [batches]);
  const columns = useMemo(() => columnsOf(batches), [batches]);
  return (
    <Figure title="Wait per batch" meaning={MEANING} id="batches" columns={columns} rows={rows} width="wide">
      <Chart batches={batches} open={open} />
      <p class="muted">
        {cut > 0 && `Cut off above: ${counted(cut, "longer wait")}, up to ${duration(Math.max(...wait_ns))}. `}
        {stretch > 1 && `Each bar is the longest wait of ${counted(stretch, "batch")}. `}
        Below: batches that were ready when this one was asked for.
        {windows.length > 0 && " A click on a batch of a recorded step opens it in the timeline."}
      </p>
    </Figure>
  );
}

const MEANING = "The time between asking for a batch and having it, by the stage the batch was in meanwhile.";

export const isRecorded = (windows: WindowEntry[], step: number | null): boolean =>
  step !== null && windows.some((w) => w.first_step !== null && w.first_step <= step && step <= w.last_step!);

const FAR = 4; // times the 90th percentile, from which on longer waits would hide all others

/** The wait at the top of the chart; longer ones are cut off there. */
export function heightOf(waits: number[]): number {
  const sorted = [...waits].sort((a, b) => a - b);
  const [usual, longest] = [sorted[Math.floor(0.9 * (sorted.length - 1))], sorted.at(-1)!];
  return (usual && longest > FAR * usual ? FAR * usual : longest) || 1;
}

function Chart({ batches, open }: { batches: BatchSeries; open(at: number): void }) {
  const [box, width] = useWidth();
  const [at, point] = useState<number | null>(null);
  const kinds = useMemo(() => byKind(batches), [batches]);
  const bars = batches.wait_ns.length;
  const most = useMemo(() => heightOf(batches.wait_ns), [batches]);
  const room = Math.max(width - LEFT - RIGHT, 1);
  const words = at === null ? "" : wordsOf(batches, at);
  const atPointer = ({ offsetX }: MouseEvent): number =>
    Math.min(Math.max(Math.floor(((offsetX - LEFT) / room) * bars), 0), bars - 1);
  const press = (event: KeyboardEvent): void => {
    const by = { ArrowRight: 1, ArrowLeft: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (event.key === "Enter" && at !== null) open(at);
    if (!by) return;
    point(Math.min(Math.max((at ?? -by) + by, 0), bars - 1));
    event.preventDefault();
  };
  return (
    <div
      class="series"
      tabIndex={0}
      role="application"
      aria-label={`Wait per batch. Arrow keys move, Enter opens the timeline. ${words}`}
      onKeyDown={press}
    >
      <p class="readout">{words || <Legend kinds={kinds.map(([kind]) => kind)} />}</p>
      <div ref={box}>
        <svg
          width={width}
          height={TOP + HEIGHT + GAP + DEPTH + BOTTOM}
          aria-hidden="true"
          class="picks"
          onMouseMove={(event) => point(atPointer(event))}
          onMouseLeave={() => point(null)}
          onClick={(event) => open(atPointer(event))}
        >
          <Axis most={most} width={width} />
          <Bars kinds={kinds} most={most} room={room} />
          <Queue ready={batches.ready} room={room} />
          <Steps steps={batches.step} room={room} />
          {at !== null && (
            <rect
              class="pointed"
              x={LEFT + (at / bars) * room}
              width={Math.max(room / bars, 2)}
              y={TOP}
              height={HEIGHT + GAP + DEPTH}
            />
          )}
        </svg>
      </div>
    </div>
  );
}

/** `Batch of step 41: 38.2 ms, items 30.0 ms, …; 0 ready, worker 2`. */
export function wordsOf({ step, wait_ns, by_stage, ready, worker }: BatchSeries, at: number): string {
  const parts = Object.entries(by_stage)
    .filter(([, waits]) => waits[at] > 0)
    .sort(([, a], [, b]) => b[at] - a[at])
    .map(([name, waits]) => `${stageOf(name).title.toLowerCase()} ${duration(waits[at])}`);
  const known = [
    ready[at] !== null && `${ready[at]} ready`,
    worker[at] === null ? "training process" : `worker ${worker[at]}`,
  ].filter(Boolean);
  const which = step[at] === null ? "A batch that no step took" : `Batch of step ${count(step[at])}`;
  return `${which}: ${[duration(wait_ns[at]), ...parts].join(", ")}; ${known.join(", ")}`;
}

export function Legend({ kinds }: { kinds: Kind[] }) {
  return (
    <>
      {kinds.map((kind) => (
        <span key={kind} class="key">
          <i class={`area ${KINDS[kind][0]}`} /> {KINDS[kind][1]}
        </span>
      ))}
    </>
  );
}

function Axis({ most, width }: { most: number; width: number }) {
  return (
    <>
      {ticksOf(0, most, HEIGHT / 40).map((value) => {
        const y = TOP + HEIGHT * (1 - value / most);
        return (
          <g key={value}>
            <line class="grid" x1={LEFT} x2={width - RIGHT} y1={y} y2={y} />
            <text class="left" x={LEFT - 8} y={y + 4}>
              {duration(value)}
            </text>
          </g>
        );
      })}
    </>
  );
}

/** One path for each kind: a bar's part of it lies on the parts before. */
function Bars({ kinds, most, room }: { kinds: [Kind, number[]][]; most: number; room: number }) {
  const bars = kinds[0]?.[1].length ?? 0;
  const width = room / bars;
  const drawn = Math.max(width - (width > 4 ? 1 : 0), 0.5);
  const below = Array.from({ length: bars }, () => 0);
  return (
    <>
      {kinds.map(([kind, waits]) => {
        const d = waits.map((wait, i) => {
          const from = Math.min(below[i], most);
          const to = Math.min((below[i] += wait), most);
          if (to <= from) return "";
          const [left, top] = [(LEFT + i * width).toFixed(1), (TOP + HEIGHT * (1 - to / most)).toFixed(1)];
          const [right, high] = [drawn.toFixed(1), ((HEIGHT * (to - from)) / most).toFixed(1)];
          return `M${left} ${top}h${right}v${high}h-${right}Z`;
        });
        return <path key={kind} d={d.join("")} fill={`var(--${KINDS[kind][0]})`} />;
      })}
    </>
  );
}

/** How many batches were ready at each request, as a strip. */
function Queue({ ready, room }: { ready: (number | null)[]; room: number }) {
  const most = Math.max(
    1,
    ready.reduce<number>((a, b) => Math.max(a, b ?? 0), 0),
  );
  const bottom = TOP + HEIGHT + GAP + DEPTH;
  const width = room / ready.length;
  const d = ready.map((value, i) => {
    const [left, right, high] = [LEFT + i * width, width, (DEPTH * (value ?? 0)) / most].map((n) => n.toFixed(2));
    return value ? `M${left} ${bottom}h${right}v-${high}h-${right}Z` : "";
  });
  return (
    <>
      <line class="grid" x1={LEFT} x2={LEFT + room} y1={bottom} y2={bottom} />
      <text class="left" x={LEFT - 8} y={bottom - DEPTH + 10}>
        {most} ready
      </text>
      <text class="left" x={LEFT - 8} y={bottom}>
        0
      </text>
      <path d={d.join("")} fill="var(--step)" />
    </>
  );
}

function Steps({ steps, room }: { steps: (number | null)[]; room: number }) {
  const wanted = ticksOf(0, steps.length - 1, room / 130).filter((at) => Number.isInteger(at) && steps[at] != null);
  return (
    <>
      {wanted.map((at) => (
        <text key={at} x={LEFT + ((at + 0.5) / steps.length) * room} y={TOP + HEIGHT + GAP + DEPTH + BOTTOM - 4}>
          step {steps[at]}
        </text>
      ))}
    </>
  );
}

function columnsOf({ step, wait_ns, by_stage, ready, worker, fetch_ns }: BatchSeries) {
  const known = (value: number): string => (value < 0 ? "–" : count(value));
  return [
    column("step", "Step", (at: number) => step[at] ?? -1, known),
    column("wait", "Wait", (at: number) => wait_ns[at], duration, { share: (at) => wait_ns[at] }),
    ...Object.entries(by_stage).map(([name, waits]) =>
      column(name, stageOf(name).title, (at: number) => waits[at], duration, { meaning: stageOf(name).meaning }),
    ),
    column("ready", "Ready", (at: number) => ready[at] ?? -1, known),
    column("worker", "Worker", (at: number) => worker[at] ?? -1, known),
    column(
      "fetch",
      "Fetch",
      (at: number) => fetch_ns[at] ?? -1,
      (time) => (time < 0 ? "–" : duration(time)),
    ),
  ];
}
