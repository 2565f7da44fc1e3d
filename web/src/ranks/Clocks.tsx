import type { RankRow, Ranks } from "../data/types";
import { count, counted, duration, Figure } from "../given";
import { rangesOf } from "./order";

const MEANING =
  "Ranks are compared on the clock of rank 0. The uncertainty is half the interval that is known to hold the offset.";

const SOURCES: [source: string, words: string][] = [
  ["measured", "measured over the job's process group"],
  ["collectives", "aligned by the ends of collectives, which are the same moment on all ranks"],
  ["same clock", "one machine, one clock"],
  ["none", "not aligned: their lateness is not known"],
];

/** How well the clocks of the ranks are aligned, and what that leaves unsaid. */
export function Clocks({ ranks }: { ranks: Ranks }) {
  const { clock_uncertainty_ns, rows } = ranks;
  return (
    <Figure title="Clocks" meaning={MEANING} id="clocks" width="wide">
      <p>
        {clock_uncertainty_ns === null
          ? "Of some ranks nobody knows how far their clocks are off: what is said of who is late holds for the others."
          : clock_uncertainty_ns === 0
            ? "All ranks have the same clock."
            : `The clocks agree within ± ${duration(clock_uncertainty_ns)}: who arrives less than that apart arrives together.`}
      </p>
      <dl class="facts">
        {sourcesOf(rows).map(([source, words, found]) => (
          <div key={source}>
            <dt>{words}</dt>
            <dd>{factsOf(found)}</dd>
          </div>
        ))}
      </dl>
    </Figure>
  );
}

function sourcesOf(rows: RankRow[]): [source: string, words: string, rows: RankRow[]][] {
  const sources = [...new Set(rows.map((row) => row.clock_source))];
  const wordsOf = (source: string): string => SOURCES.find(([name]) => name === source)?.[1] ?? source;
  return sources.map((source) => [source, wordsOf(source), rows.filter((row) => row.clock_source === source)]);
}

const FEW = 8;

const namesOf = (rows: RankRow[]): string =>
  `${rows.length > 1 ? "ranks" : "rank"} ${rangesOf(rows.map((row) => row.rank))}`;

function factsOf(rows: RankRow[]): string {
  const offset = rows.reduce((most, row) => Math.max(most, Math.abs(row.clock_offset_ns)), 0);
  const known = rows.flatMap((row) => row.clock_uncertainty_ns ?? []);
  const which = rows.length > FEW ? counted(rows.length, "rank") : namesOf(rows);
  const largest = Math.max(0, ...known);
  const uncertainty = largest ? `, uncertain by ± ${duration(largest)} at most` : "";
  return `${which}: ${offset ? `offset of ${duration(offset)} at most` : "no offset"}${uncertainty}${
    known.length < rows.length ? `, uncertainty unknown of ${count(rows.length - known.length)}` : ""
  }`;
}
