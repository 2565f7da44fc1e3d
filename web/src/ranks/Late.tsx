import type { Finding, RankRow, Ranks, Straggler } from "../data/types";
import {
  clean,
  column,
  count,
  duration,
  FindingCard,
  isOfRanks,
  Kpi,
  percent,
  Table,
  useMemo,
  useShown,
} from "../given";
import { mean, rangesOf } from "./order";

interface LateProps {
  ranks: Ranks;
  choose(rank: number): void;
  /** Shows what a finding rests on. */
  look(finding: Finding): void;
}

/** Who is late, why, and what it costs; or that the ranks keep step. */
export function Late({ ranks, choose, look }: LateProps) {
  const findings = useShown().page.report.findings.filter(isOfRanks);
  const { stragglers, missing } = ranks;
  const headline = findings[0]?.message ?? headlineOf(ranks);
  const columns = useMemo(() => columnsOf(ranks, choose), [ranks, choose]);
  return (
    <section class={`verdict ${toneOf(ranks, findings)}`} aria-label="Ranks' verdict">
      <h2 class="headline">{headline}</h2>
      {missing.length > 0 && (
        <p>
          Of {count(ranks.world_size)} ranks {count(missing.length)} recorded nothing ({rangesOf(missing)}): what they do,
          and whether they are late, is not known.
        </p>
      )}
      {findings.map((finding, place) => (
        <FindingCard key={finding.cause} finding={finding} isHeadline={!place} look={() => look(finding)} />
      ))}
      {stragglers.length > 0 && <Table caption="Late ranks, the most costly first" columns={columns} rows={stragglers} />}
    </section>
  );
}

const toneOf = (ranks: Ranks, findings: Finding[]): string =>
  findings.length || ranks.stragglers.length ? "found" : isJudged(ranks) ? "fine" : "";

const isJudged = ({ rows }: Ranks): boolean => rows.length > 1 && rows.some(({ collectives }) => collectives > 0);

const CAUSES: Record<string, [name: string, words: string]> = {
  input: ["input", "as it waits longer for its data"],
  compute: ["compute", "as it computes longer"],
  host: ["host", "as its host takes longer"],
  memory: ["memory", "as it copies and allocates longer"],
  unexplained: ["not explained", "and nothing that was recorded of it says why"],
};

/** A cause in one or two words, and as the end of a sentence. */
export const causeOf = (cause: string): [name: string, words: string] =>
  CAUSES[cause] ?? [clean(cause), `as of ${clean(cause)}`];

function headlineOf(ranks: Ranks): string {
  const { rows, stragglers } = ranks;
  const [late] = stragglers;
  const others = stragglers.length - 1;
  if (late) {
    const behind = others ? `, and ${others === 1 ? "another rank is" : `${count(others)} other ranks are`} late too` : "";
    const cost = `the others wait ${duration(late.costs_ns)} of each step for it`;
    return `Rank ${late.rank} is late: ${cost}, ${causeOf(late.cause)[1]}${behind}.`;
  }
  if (rows.length < 2) return "Only one rank was recorded, so there is nothing to compare it with.";
  if (!isJudged(ranks)) return "No collective was found on two ranks, so nobody can say which of them is late.";
  return "The ranks keep step: none holds up the others.";
}

function columnsOf(ranks: Ranks, choose: (rank: number) => void) {
  const step = meanStep(ranks.rows);
  return [
    column(
      "rank",
      "Late",
      (late: Straggler) => late.rank,
      (rank) => (
        <button class="link" onClick={() => choose(rank)}>
          rank {rank}
        </button>
      ),
    ),
    column("cause", "Cause", (late: Straggler) => causeOf(late.cause)[0]),
    column("excess", "Over the median of the others", (late: Straggler) => excessOf(late)),
    column("costs", "Costs the others", (late: Straggler) => late.costs_ns, duration, {
      meaning: "What the others wait for it per step, the mean over them.",
      share: (late) => late.costs_ns,
    }),
    column("share", "Of the step", (late: Straggler) => (step ? late.costs_ns / step : 0), percent),
    column("last", "Arrives last", (late: Straggler) => late.last_share, percent, {
      meaning: "Of the collectives, it was the last to arrive.",
    }),
  ];
}

const WORTH_NAMING = 2;

/** What takes a rank the most time beyond the others. */
function excessOf({ excess_ns }: Straggler): string {
  const largest = Object.entries(excess_ns)
    .filter(([, time]) => time > 0)
    .sort(([, a], [, b]) => b - a)
    .slice(0, WORTH_NAMING);
  return largest.map(([what, time]) => `${OWN[what] ?? what} +${duration(time)}`).join(", ") || "nothing";
}

/** What a rank spends its own time on. */
const OWN: Record<string, string> = {
  input: "data wait",
  memory: "copies and allocation",
  before: "before its first step",
};

const meanStep = (rows: RankRow[]): number => mean(rows.map((row) => row.step_ns));

/** The ranks in five numbers. */
export function RankKpis({ ranks }: { ranks: Ranks }) {
  const { rows, step_time_ns, imbalance, skew_ns, clock_uncertainty_ns } = ranks;
  const step = meanStep(rows);
  const [waiting, exposed, all] = useMemo(
    () => [
      mean(rows.map((row) => row.waiting_ns)),
      mean(rows.map((row) => row.exposed_communication_ns)),
      mean(rows.map((row) => row.communication_ns)),
    ],
    [rows],
  );
  return (
    <div class="kpis">
      <Kpi
        title="Step, all ranks"
        meaning="Recorded steps of all ranks. Percentiles come from histograms, within 1 %."
        {...(step_time_ns && { value: duration(step_time_ns.mean) })}
        note={step_time_ns ? `p50 ${duration(step_time_ns.p50)} · p95 ${duration(step_time_ns.p95)}` : "not recorded"}
      />
      <Kpi
        title="Waiting for others"
        meaning="In collectives, for the last rank to arrive, while nothing is computed; the mean over ranks."
        tone="step"
        value={duration(waiting)}
        share={step ? waiting / step : 0}
        note={`${percent(step ? waiting / step : 0)} of the step`}
      />
      <Kpi
        title="Exposed communication"
        meaning="Collectives under way while nothing is computed; the mean over ranks."
        tone="communication"
        value={duration(exposed)}
        share={step ? exposed / step : 0}
        note={all ? `${percent(1 - exposed / all)} of ${duration(all)} hides behind computing` : "no communication"}
      />
      <Kpi
        title="Imbalance of compute"
        meaning="The largest compute of any rank over the mean, minus 1."
        {...(imbalance !== null && { value: percent(imbalance) })}
        note={imbalance === null ? "nothing was computed" : "beyond the mean of the ranks"}
      />
      <Kpi
        title="Skew at a collective"
        meaning="From the first rank's arrival to the last one's, the mean over collectives."
        {...(skew_ns !== null && { value: duration(skew_ns) })}
        note={
          skew_ns === null
            ? "no collective on two ranks"
            : clock_uncertainty_ns === null
              ? "clocks are not aligned everywhere"
              : `clocks agree within ± ${duration(clock_uncertainty_ns)}`
        }
      />
    </div>
  );
}
