import type { RankRow, Ranks } from "../data/types";
import { CLASSES, clean, column, counted, duration, Figure, median, percent, size, StackedBar, Table, useMemo } from "../given";
import { causeOf } from "./Late";
import { titleOf, type Runs } from "./runs";

interface RankCardProps {
  ranks: Ranks;
  rank: number;
  runs: Runs;
  isOnTimeline: boolean;
  /** Puts the rank on the timeline of several, or takes it off. */
  toggle(): void;
}

/** One rank against the others, and the ways to its own page. */
export function RankCard({ ranks, rank, runs, isOnTimeline, toggle }: RankCardProps) {
  const row = ranks.rows.find((one) => one.rank === rank);
  const classes = useMemo(() => classesOf(ranks.rows, row), [ranks, row]);
  if (!row) return null;
  const late = ranks.stragglers.find((one) => one.rank === rank);
  const hasPage = runs.of(rank) !== undefined;
  return (
    <Figure title={titleOf(row)} id="rank" width="wide">
      <p>
        {late
          ? `Late: last at ${percent(late.last_share)} of the collectives, ${causeOf(late.cause)[1]}.`
          : `Last at ${percent(row.last_share)} of the collectives.`}{" "}
        Its step, the mean of {counted(row.steps, "recorded step")}: {duration(row.step_ns)}.
      </p>
      <StackedBar parts={CLASSES} time_ns={row.breakdown_ns} whole_ns={row.step_ns} />
      <Table caption={`Rank ${rank} against the median of the others`} columns={COLUMNS} rows={classes} />
      <dl class="facts">
        {factsOf(row).map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      <div class="bar">
        {hasPage && <button onClick={() => runs.open(rank, "overview")}>Open its page</button>}
        {hasPage && <button onClick={() => runs.open(rank, "timeline")}>Its timeline</button>}
        {hasPage && <button onClick={() => runs.open(rank, "data")}>Its data loading</button>}
        {hasPage && (
          <button aria-pressed={isOnTimeline} onClick={toggle}>
            On one timeline with others
          </button>
        )}
        {!hasPage && <span class="muted">Its own page is not here.</span>}
      </div>
    </Figure>
  );
}

/** A class of the step or of the waiting, of this rank and of the others in the middle. */
interface Compared {
  name: string;
  own: number;
  others: number;
}

function classesOf(rows: RankRow[], row: RankRow | undefined): Compared[] {
  if (!row) return [];
  const others = rows.filter((one) => one !== row);
  const compared = (name: string, of: (row: RankRow) => number): Compared => ({
    name,
    own: of(row),
    others: median(others.map(of)),
  });
  return [
    ...CLASSES.map(([tone, name]) => compared(name, (one) => one.breakdown_ns[tone] ?? 0)),
    compared("Exposed communication", (one) => one.exposed_communication_ns),
    compared("Transfer in collectives", (one) => one.transfer_ns),
    compared("Waiting for others", (one) => one.waiting_ns),
    compared("Arriving late", (one) => one.late_ns),
  ].filter(({ own, others: middle }) => own || middle);
}

const signed = (time: number): string => (time > 0 ? `+${duration(time)}` : duration(time));

const COLUMNS = [
  column("name", "Per step", (row: Compared) => row.name),
  column("own", "This rank", (row: Compared) => row.own, duration, { share: (row) => row.own }),
  column("others", "The others", (row: Compared) => row.others, duration, {
    meaning: "The median of all other ranks.",
    share: (row) => row.others,
  }),
  column("difference", "Difference", (row: Compared) => row.own - row.others, signed),
];

function factsOf(row: RankRow): [name: string, value: string][] {
  const { clock_offset_ns, clock_uncertainty_ns, clock_source, overlap, idle_ns, peak_bytes } = row;
  const uncertainty = clock_uncertainty_ns === null ? "uncertainty unknown" : `± ${duration(clock_uncertainty_ns)}`;
  const facts: [string, string | null][] = [
    ["clock", `${signed(clock_offset_ns)}, ${uncertainty} (${clean(clock_source)})`],
    ["communication", duration(row.communication_ns)],
    ["overlap with compute", overlap === null ? null : percent(overlap)],
    ["no device works", idle_ns === null ? null : duration(idle_ns)],
    ["memory at its peak", peak_bytes === null ? null : size(peak_bytes)],
  ];
  return facts.flatMap(([name, value]) => (value === null ? [] : [[name, value]]));
}
