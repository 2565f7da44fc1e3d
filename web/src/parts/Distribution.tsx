import type { Histogram } from "../data/types";
import type { Tone } from "../palette";
import { count, counted, duration } from "../units";
import { Figure } from "./Figure";
import { column, type Column } from "./Table";

interface DistributionProps {
  title: string;
  meaning: string;
  histogram: Histogram;
  tone: Tone;
  marks: [name: string, time_ns: number][];
  max_ns: number;
  width?: "short" | "";
}

/** How many steps took how long, with the median and the 95th percentile marked. */
export function Distribution({ title, meaning, histogram, tone, marks, max_ns, width = "" }: DistributionProps) {
  const { edges_ns, counts, longer } = histogram;
  const [first, last] = [edges_ns[0], edges_ns.at(-1)!];
  const most = Math.max(...counts);
  const bins = counts.map((steps, bin) => ({ from: edges_ns[bin], to: edges_ns[bin + 1], steps }));
  return (
    <Figure title={title} meaning={meaning} columns={COLUMNS} rows={bins} width={width}>
      <div class="histogram" aria-hidden="true">
        <div class="bins">
          {bins.map(({ from, to, steps }) => (
            <i
              key={from}
              class={`area ${tone}`}
              title={`${duration(from)} to ${duration(to)}: ${count(steps)}`}
              style={{ height: `${(100 * steps) / most}%`, flexGrow: to - from || 1 }}
            />
          ))}
          {marks.map(([name, time]) => {
            const left = last > first ? (time - first) / (last - first) : 0.5;
            return (
              left <= 1 && (
                <b key={name} class={left > 0.6 ? "mark left" : "mark"} style={{ left: `${100 * left}%` }}>
                  <span>
                    {name} {duration(time)}
                  </span>
                </b>
              )
            );
          })}
        </div>
        <div class="axis">
          <span>{duration(first)}</span>
          <span>{duration(last)}</span>
        </div>
      </div>
      {longer > 0 && (
        <p class="muted">
          Not drawn: {counted(longer, "longer one")}, up to {duration(max_ns)}.
        </p>
      )}
    </Figure>
  );
}

interface Bin {
  from: number;
  to: number;
  steps: number;
}

const COLUMNS: Column<Bin>[] = [
  column("from", "From", (bin) => bin.from, duration),
  column("to", "To", (bin) => bin.to, duration),
  column("steps", "Steps", (bin) => bin.steps, count),
];
