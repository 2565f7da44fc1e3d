import { duration } from "../units";
import type { Chart } from "./chart";
import { factsOf } from "./spanfacts";
import { nameOf } from "./spans";

/** All that is known of the selected span, and what it is linked to. */
export function Details({ chart }: { chart: Chart }) {
  const { timeline: t, span } = chart;
  if (span < 0) return null;
  return (
    <section class="tl-details" aria-label="Selected span">
      <header>
        <h3>{nameOf(t, span)}</h3>
        <button type="button" title="f" onClick={() => chart.fitSpan(span)}>
          Zoom to it
        </button>
        <button type="button" title="m" onClick={() => chart.markSpan()}>
          Sum up its time
        </button>
        <button type="button" title="Escape" aria-label="Close" onClick={() => chart.clear()}>
          ✕
        </button>
      </header>
      <dl>
        {factsOf(t, span).map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      <Links chart={chart} />
    </section>
  );
}

function Links({ chart }: { chart: Chart }) {
  const { timeline: t, span, links } = chart;
  if (!links.length) return null;
  return (
    <ul class="tl-links" aria-label="Linked spans">
      {links.map(({ kind, from, to }) => {
        const other = to === span ? from : to;
        return (
          <li key={`${from} ${to}`}>
            <button type="button" onClick={() => chart.reveal(other)}>
              {kind} {other === to ? "→" : "←"} {nameOf(t, other).slice(0, 200)} <i>{duration(t.duration[other])}</i>
            </button>
          </li>
        );
      })}
    </ul>
  );
}
