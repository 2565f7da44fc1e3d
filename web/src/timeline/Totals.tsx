import { useMemo, useState } from "preact/hooks";
import { count, duration, percent } from "../units";
import type { Chart } from "./chart";
import { sumsOf, totalsOf, type Sums, type Total } from "./paths";
import { labelWord } from "./spans";

const FEW = 15;
const MANY = 500;

type Order = "self" | "total" | "calls";

/** What the spans of the range, or of the whole timeline, took by name. */
export function Totals({ chart }: { chart: Chart }) {
  const [isOpen, open] = useState(false);
  const { range } = chart;
  const title = range ? `Totals of the range of ${duration(range[1] - range[0])}` : "Totals of the whole window";
  return (
    <details class="tl-totals" open={isOpen || !!range} onToggle={(event) => open(event.currentTarget.open)}>
      <summary>{title}</summary>
      {(isOpen || range) && <Table chart={chart} start={range?.[0] ?? 0} end={range?.[1] ?? chart.timeline.length} />}
    </details>
  );
}

function Table({ chart, start, end }: { chart: Chart; start: number; end: number }) {
  const [order, sort] = useState<Order>("self");
  const [most, showMost] = useState(FEW);
  const t = chart.timeline;
  const [sums, totals] = useMemo((): [Sums, Total[]] => {
    const found = sumsOf(t, null, start, end);
    return [found, totalsOf(t, found)];
  }, [t, start, end]);
  const sorted = useMemo(() => [...totals].sort((a, b) => b[order] - a[order]), [totals, order]);
  const head = (key: Order, title: string) => (
    <th scope="col" aria-sort={order === key ? "descending" : "none"}>
      <button type="button" onClick={() => sort(key)}>
        {title}
      </button>
    </th>
  );
  return (
    <>
      <p>
        {count(sums.spans)} spans of {count(totals.length)} names in {duration(end - start)}, clipped to it. Several
        threads and devices work at once, so that shares may add up to more than 100 %.
      </p>
      <table>
        <thead>
          <tr>
            <th scope="col">Name</th>
            <th scope="col">Kind</th>
            {head("calls", "Calls")}
            {head("total", "Total")}
            {head("self", "Self")}
            <th scope="col">Self, share of the time</th>
          </tr>
        </thead>
        <tbody>
          {sorted.slice(0, most).map((total) => (
            <TotalRow key={total.label} chart={chart} total={total} length={end - start} />
          ))}
        </tbody>
      </table>
      {most < Math.min(sorted.length, MANY) && (
        <button type="button" onClick={() => showMost(MANY)}>
          Show {count(Math.min(sorted.length, MANY))}
        </button>
      )}
    </>
  );
}

function TotalRow({ chart, total, length }: { chart: Chart; total: Total; length: number }) {
  const name = labelWord(chart.timeline, total.label, "name") ?? "";
  const share = length ? total.self / length : 0;
  return (
    <tr>
      <td>
        <button type="button" title={name.slice(0, 1_000)} onClick={() => chart.look(exactly(name))}>
          {name.slice(0, 300)}
        </button>
      </td>
      <td>{labelWord(chart.timeline, total.label, "kind")}</td>
      <td>{count(total.calls)}</td>
      <td>{duration(total.total)}</td>
      <td>{duration(total.self)}</td>
      <td>
        <meter value={Math.min(share, 1)} aria-hidden="true" /> {percent(share)}
      </td>
    </tr>
  );
}

const EXACT = 500; // characters of a name that a pattern holds

/** The pattern that finds this name alone. */
export function exactly(name: string): string {
  const text = name.slice(0, EXACT).replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
  return `^${text}${name.length > EXACT ? "" : "$"}`;
}
