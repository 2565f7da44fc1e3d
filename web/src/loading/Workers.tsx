import type { BatchSeries, Loading, WorkerLoad } from "../data/types";
import {
  clean,
  column,
  count,
  counted,
  duration,
  Figure,
  median,
  percent,
  Table,
  ticksOf,
  useMemo,
  useState,
  useWidth,
} from "../given";
import { wordsOf } from "./Batches";
import { lanesOf, stretchOf, type Bar, type Lane } from "./lanes";

const LEFT = 120; // CSS pixels, as all lengths here
const RIGHT = 8;
const ROW = 22;
const BAR = 16;
const BOTTOM = 22;
const SLOW = 2; // medians, from which on a fetch is marked
const ZOOMS = [200, 50, 20]; // batches

/** Who made the batches: the workers' fetches above each other, and how busy each was. */
export function Workers({ loading, batches }: { loading: Loading; batches: BatchSeries | undefined }) {
  const lanes = useMemo(() => (batches ? lanesOf(batches) : []), [batches]);
  return (
    <Figure title="Workers" meaning={MEANING} id="workers" width="wide">
      <p class="muted">{busyOf(loading)}</p>
      {lanes.length > 0 && <Chart lanes={lanes} batches={batches!} />}
      <Table caption="Workers, over the judged batches" columns={COLUMNS} rows={loading.workers} />
    </Figure>
  );
}

const MEANING =
  "Each bar is a fetch: getting the samples of one batch and making the batch of them. Utilisation is the time the " +
  "workers were fetching over the time that passed.";

function busyOf({ utilisation, num_workers, batches }: Loading): string {
  if (utilisation === null) return `The training process itself made all ${counted(batches, "batch")}.`;
  return `${counted(num_workers, "worker")}, together busy ${percent(utilisation)} of the time.`;
}

const nameOf = (worker: number | null): string => (worker === null ? "training process" : `worker ${worker}`);

const COLUMNS = [
  column("worker", "Worker", (load: WorkerLoad) => nameOf(load.worker)),
  column(
    "pid",
    "Process",
    (load: WorkerLoad) => load.pid ?? -1,
    (pid) => (pid < 0 ? "–" : `${pid}`),
  ),
  column("batches", "Batches", (load: WorkerLoad) => load.batches, count),
  column("busy", "Busy", (load: WorkerLoad) => load.busy_share, percent, { share: (load) => load.busy_share }),
  column("fetch", "Fetch, mean", (load: WorkerLoad) => load.fetch_ns, duration, { share: (load) => load.fetch_ns }),
];

function Chart({ lanes, batches }: { lanes: Lane[]; batches: BatchSeries }) {
  const [box, width] = useWidth();
  const [at, point] = useState<number | null>(null);
  const [zoom, setZoom] = useState(50);
  const [from, to] = stretchOf(batches, zoom);
  const known = batches.asked_ns.length;
  const typical = useMemo(() => median(lanes.flatMap(({ bars }) => bars.map((bar) => bar.duration))), [lanes]);
  const room = Math.max(width - LEFT - RIGHT, 1);
  const x = (time: number): number => LEFT + Math.min(Math.max((time - from) / (to - from || 1), 0), 1) * room;
  const bottom = ROW * (lanes.length + 1);
  const waits = batches.asked_ns.map((start, i): Bar => ({ at: i, start, duration: batches.wait_ns[i] }));
  const press = (event: KeyboardEvent): void => {
    const by = { ArrowRight: 1, ArrowLeft: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (!by) return;
    point(Math.min(Math.max((at ?? known) + by, Math.max(0, known - zoom)), known - 1));
    event.preventDefault();
  };
  const shown = { x, from, to, at, point };
  return (
    <>
      <div class="bar" role="group" aria-label="How many batches the lanes show">
        {ZOOMS.filter((batches, i) => !i || batches < known).map((batches) => (
          <button
            key={batches}
            class="quiet"
            aria-pressed={zoom >= known ? batches >= known : zoom === batches}
            onClick={() => setZoom(batches)}
          >
            Last {Math.min(batches, known)} batches
          </button>
        ))}
      </div>
      <div
        class="series lanes"
        tabIndex={0}
        role="application"
        aria-label={`Fetches of the workers. Arrow keys move from batch to batch. ${at === null ? "" : fetchOf(batches, at)}`}
        onKeyDown={press}
      >
        <p class="readout">
          {at !== null ? (
            fetchOf(batches, at)
          ) : (
            <>
              <Key tone="compute" name="fetch" />
              <Key tone="host" name={`longer than ${SLOW} medians (${duration(SLOW * typical)})`} />
              <Key tone="data_wait" name="the training loop waits" />
            </>
          )}
        </p>
        <div ref={box}>
          <svg width={width} height={bottom + BOTTOM} aria-hidden="true" onMouseLeave={() => point(null)}>
            <Row {...shown} name="training loop" place={0} bars={waits} toneOf={() => "data_wait"} />
            {lanes.map(({ worker, bars }, i) => (
              <Row
                key={worker}
                {...shown}
                name={nameOf(worker)}
                place={i + 1}
                bars={bars}
                toneOf={(bar) => (bar.duration > SLOW * typical ? "host" : "compute")}
              />
            ))}
            {ticksOf(from, to, room / 140).map((time) => (
              <text key={time} x={x(time)} y={bottom + BOTTOM - 6}>
                {duration(time)}
              </text>
            ))}
          </svg>
        </div>
      </div>
    </>
  );
}

function Key({ tone, name }: { tone: string; name: string }) {
  return (
    <span class="key">
      <i class={`area ${tone}`} /> {name}
    </span>
  );
}

interface RowProps {
  name: string;
  place: number;
  bars: Bar[];
  from: number;
  to: number;
  at: number | null;
  x(time: number): number;
  point(at: number | null): void;
  toneOf(bar: Bar): string;
}

function Row({ name, place, bars, from, to, at, x, point, toneOf }: RowProps) {
  const y = ROW * place + (ROW - BAR) / 2;
  return (
    <g>
      <text class="left" x={LEFT - 8} y={y + 12}>
        {clean(name)}
      </text>
      <line class="grid" x1={LEFT} x2={x(to)} y1={ROW * (place + 1)} y2={ROW * (place + 1)} />
      {bars
        .filter(({ start, duration }) => duration > 0 && start + duration > from && start < to)
        .map((bar) => (
          <rect
            key={bar.at}
            class={bar.at === at ? "pointed-at" : ""}
            x={x(bar.start)}
            y={y}
            width={Math.max(x(bar.start + bar.duration) - x(bar.start) - 0.5, 0.5)}
            height={BAR}
            rx={2}
            fill={`var(--${toneOf(bar)})`}
            onMouseEnter={() => point(bar.at)}
          />
        ))}
    </g>
  );
}

function fetchOf(batches: BatchSeries, at: number): string {
  const fetch = batches.fetch_ns[at];
  return `${fetch === null ? "" : `Fetched in ${duration(fetch)}. `}${wordsOf(batches, at)}`;
}
