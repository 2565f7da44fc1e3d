import type { RankRow, Ranks } from "../data/types";
import {
  CLASSES,
  clean,
  column,
  count,
  counted,
  duration,
  Figure,
  percent,
  size,
  surfaceOf,
  useLayoutEffect,
  useMemo,
  useRef,
  useShown,
  useState,
  useWidth,
} from "../given";
import { among, linesOf, ordered, orderOf, ORDERS, type Line } from "./order";
import { draw, drawingOf, HEAD, heightOf, lineAt, MOST_LINES, type Drawing } from "./panes";
import { titleOf } from "./runs";
import { UNKNOWN, unlessUnknown } from "./unknown";

const MEANING =
  "Each line is a rank: its mean step, whose classes add up to it; communication while nothing is computed; the time " +
  "it waits in collectives for the last rank to arrive; how far behind the first rank it arrives itself, as the mean " +
  "over collectives; and its recorded steps, the darker the longer.";

/** All ranks beside each other, as lines of one drawing or as a table. */
export function Comparison({ ranks, choose }: { ranks: Ranks; choose(rank: number): void }) {
  const { place } = useShown();
  const order = orderOf(place.order);
  const rows = useMemo(
    () => ordered(among(ranks.rows, place.among ?? ""), order),
    [ranks, order, place.among],
  );
  const columns = useMemo(() => columnsOf(choose), [choose]);
  return (
    <>
      <Choice all={ranks.rows.length} shown={rows.length} />
      <Figure title="Ranks beside each other" meaning={MEANING} id="ranks" columns={columns} rows={rows} width="wide">
        {rows.length > 0 ? (
          <Lines rows={rows} late={ranks.stragglers.map(({ rank }) => rank)} choose={choose} />
        ) : (
          <p>No rank has this number, and no host this name.</p>
        )}
      </Figure>
    </>
  );
}

function Choice({ all, shown }: { all: number; shown: number }) {
  const { place, go } = useShown();
  const chosen = orderOf(place.order);
  return (
    <div class="bar">
      <div class="tabs" role="group" aria-label="Order of the ranks">
        {ORDERS.map(({ id, title }) => (
          <button key={id} aria-pressed={id === chosen.id} onClick={() => go({ order: id })}>
            {title}
          </button>
        ))}
      </div>
      <input
        type="search"
        class="search"
        aria-label="Ranks to show, by number or host"
        placeholder="Ranks or hosts, e.g. 0-7, 12, node03"
        value={place.among ?? ""}
        onInput={(event) => go({ among: event.currentTarget.value })}
      />
      <span class="muted" role="status">
        {count(shown)} of {counted(all, "rank")}
      </span>
    </div>
  );
}

const MOST_MARKED = 20; // late ranks, the most costly ones

interface LinesProps {
  rows: RankRow[];
  late: number[];
  choose(rank: number): void;
}

function Lines({ rows, late, choose }: LinesProps) {
  const { palette, place } = useShown();
  const [box, width] = useWidth();
  const canvas = useRef<HTMLCanvasElement>(null);
  const [at, point] = useState<number | null>(null);
  const marked = useMemo(() => new Set(late.slice(0, MOST_MARKED)), [late.join()]);
  const lines = useMemo(() => linesOf(rows, MOST_LINES, marked), [rows, marked]);
  const drawing = useMemo(() => drawingOf(lines, width, marked), [lines, width, marked]);
  useLayoutEffect(() => {
    if (width) draw(surfaceOf(canvas.current!, width, heightOf(drawing)), drawing, palette);
  }, [drawing, palette]);
  const chosen = lines.findIndex(({ row }) => `${row.rank}` === place.rank);
  const line = at === null ? undefined : lines[at];
  const press = (event: KeyboardEvent): void => {
    const last = lines.length - 1;
    const to = { ArrowDown: (at ?? -1) + 1, ArrowUp: (at ?? 1) - 1, PageDown: (at ?? 0) + 10, PageUp: (at ?? 0) - 10 };
    const next = { ...to, Home: 0, End: last }[event.key];
    if (event.key === "Enter" && line) choose(line.row.rank);
    if (next === undefined) return;
    point(Math.min(Math.max(next, 0), last));
    event.preventDefault();
  };
  const words = line ? wordsOf(line) : "";
  return (
    <div
      class="series lines"
      tabIndex={0}
      role="application"
      aria-label={`Ranks beside each other. Arrow keys move from rank to rank, Enter looks at one. ${words}`}
      onKeyDown={press}
    >
      <p class="readout">{words || <Legend />}</p>
      <div ref={box} class="drawn">
        <Heads drawing={drawing} />
        <canvas
          ref={canvas}
          aria-hidden="true"
          onMouseMove={({ offsetY }) => point(lineAt(drawing, offsetY))}
          onMouseLeave={() => point(null)}
          onClick={() => line && choose(line.row.rank)}
        />
        {at !== null && line && <Frame drawing={drawing} line={at} name="pointed-line" />}
        {chosen >= 0 && <Frame drawing={drawing} line={chosen} name="chosen-line" />}
      </div>
    </div>
  );
}

/** What each pane shows, and how far its scale goes. */
function Heads({ drawing: { places, steps } }: { drawing: Drawing }) {
  return (
    <div class="heads" aria-hidden="true" style={{ height: `${HEAD}px` }}>
      {places.map(({ title, left, width, most }, place) => (
        <div key={title} style={{ left: `${left}px`, width: `${width}px` }}>
          <b>{title}</b>
          <small>
            {place < places.length - 1
              ? `0 – ${duration(most)}`
              : steps.count
                ? `light ${duration(steps.low)} – dark ${duration(steps.high)}`
                : "none"}
          </small>
        </div>
      ))}
    </div>
  );
}

function Frame({ drawing: { tops }, line, name }: { drawing: Drawing; line: number; name: string }) {
  const top = tops[line];
  const height = Math.max(tops[line + 1] - top, 3);
  return <div class={name} style={{ top: `${top - 1}px`, height: `${height + 1}px` }} />;
}

function Legend() {
  return (
    <>
      {CLASSES.map(([tone, name]) => (
        <span key={tone} class="key">
          <i class="dot" style={{ background: `var(--${tone})` }} /> {name}
        </span>
      ))}
    </>
  );
}

function wordsOf({ row, count: shared }: Line): string {
  const facts = [
    `step ${duration(row.step_ns)}`,
    `waits ${duration(row.wait_ns)} for data`,
    `exposed communication ${duration(row.exposed_communication_ns)}`,
    `waits ${duration(row.waiting_ns)} for others`,
    `arrives ${duration(row.late_ns)} late, last at ${percent(row.last_share)}`,
  ];
  const others = shared > 1 ? `, the latest of ${shared} in this line` : "";
  return `${titleOf(row)}${others}: ${facts.join(" · ")}`;
}

function columnsOf(choose: (rank: number) => void) {
  const time = (id: string, title: string, of: (row: RankRow) => number, meaning?: string) =>
    column(id, title, of, duration, { share: of, ...(meaning && { meaning }) });
  return [
    column(
      "rank",
      "Rank",
      (row: RankRow) => row.rank,
      (rank) => (
        <button class="link" onClick={() => choose(rank)}>
          {rank}
        </button>
      ),
    ),
    column("host", "Host", (row: RankRow) => (row.host ? clean(row.host) : "–")),
    column("steps", "Steps", (row: RankRow) => row.steps, count),
    time("step", "Step", (row) => row.step_ns),
    ...CLASSES.map(([tone, title, meaning]) => time(tone, title, (row) => row.breakdown_ns[tone] ?? 0, meaning)),
    time("wait", "Wait", (row) => row.wait_ns, "For data, exposed or not."),
    time("communication_all", "In collectives", (row) => row.communication_ns),
    time("exposed", "Exposed", (row) => row.exposed_communication_ns, "Communication while nothing is computed."),
    column("overlap", "Overlap", (row: RankRow) => row.overlap ?? UNKNOWN, unlessUnknown(percent), {
      meaning: "Share of communication behind which something is computed.",
    }),
    column("idle", "Idle", (row: RankRow) => row.idle_ns ?? UNKNOWN, unlessUnknown(duration)),
    time("transfer", "Transfer", (row) => row.transfer_ns, "In collectives, after the last rank had arrived."),
    time("waiting", "For others", (row) => row.waiting_ns, "In collectives, for the last rank to arrive, while nothing is computed."),
    time("late", "Late", (row) => row.late_ns, "Behind the rank that arrives first, as the mean over collectives."),
    column("last", "Last", (row: RankRow) => row.last_share, percent, {
      meaning: "Of the collectives, it was the last to arrive.",
    }),
    column("collectives", "Collectives", (row: RankRow) => row.collectives, count),
    column("peak", "Peak", (row: RankRow) => row.peak_bytes ?? UNKNOWN, unlessUnknown(size)),
    column("offset", "Clock", (row: RankRow) => row.clock_offset_ns, duration, {
      meaning: "What is added to the rank's times.",
    }),
    column("uncertainty", "± Clock", (row: RankRow) => row.clock_uncertainty_ns ?? UNKNOWN, unlessUnknown(duration)),
  ];
}
