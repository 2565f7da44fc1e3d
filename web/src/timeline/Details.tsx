import { duration } from "../units";
import { clean } from "../words";
import type { Chart } from "./chart";
import { factsOf } from "./spanfacts";
import { nameOf } from "./spans";

const LONGEST = 200; // characters of a linked span's name

/** All that is known of the selected span, and what it is linked to. */
export function Details({ chart }: { chart: Chart }) {
  const { timeline: t, span, links } = chart;
  if (span < 0) return null;
  return (
    <section class="card tl-details" aria-label="Selected span">
      <header>
        <h2>{clean(nameOf(t, span))}</h2>
        <button title="f" onClick={() => chart.fitSpan(span)}>
          Zoom to it
        </button>
        <button title="m" onClick={() => chart.markSpan()}>
          Sum up its time
        </button>
        <button title="Escape" aria-label="Close" onClick={() => chart.clear()}>
          ✕
        </button>
      </header>
      <dl class="facts">
        {factsOf(t, span).map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      {links.map(({ kind, from, to }) => {
        const other = to === span ? from : to;
        return (
          <button key={`${from} ${to}`} onClick={() => chart.reveal(other)}>
            {kind} {other === to ? "→" : "←"} {clean(nameOf(t, other)).slice(0, LONGEST)}, {duration(t.duration[other])}
          </button>
        );
      })}
    </section>
  );
}
