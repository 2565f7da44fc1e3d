import { useState } from "preact/hooks";
import type { StepRow } from "../data/types";
import { duration, percent } from "../units";
import { CLASSES } from "../words";

/** The recorded steps, each a bar of its classes as high as it lasted. Arrow keys move, Enter opens the timeline. */
export function StepBars({ steps, open }: { steps: StepRow[]; open(step: StepRow): void }) {
  const [current, setCurrent] = useState(0);
  const longest = Math.max(...steps.map((step) => step.duration_ns));
  const move = (event: KeyboardEvent): void => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const bars = (event.currentTarget as Element).children;
    const next = bars[current + (by ?? 0)] as HTMLElement | undefined;
    if (!by || !next) return;
    setCurrent(current + by);
    next.focus();
  };
  return (
    <div
      class="bars"
      role="group"
      aria-label="Recorded steps; arrow keys move, Enter opens the timeline"
      onKeyDown={move}
    >
      {steps.map((step, index) => (
        <button
          key={`${step.start_ns}`}

          tabIndex={index === current ? 0 : -1}
          title={wordsOf(step)}
          aria-label={`${wordsOf(step)}; open in the timeline`}
          onClick={() => open(step)}
        >
          <i style={{ height: `${(100 * step.duration_ns) / longest}%`, background: bandsOf(step) }} />
          {steps.length <= 60 && <small>{step.number}</small>}
        </button>
      ))}
    </div>
  );
}

const wordsOf = ({ number, duration_ns, wait_ns }: StepRow): string =>
  `Step ${number}: ${duration(duration_ns)}, of which ${duration(wait_ns)} (${percent(wait_ns / duration_ns)}) waiting for data`;

/** One gradient with hard borders for the whole bar: an element per step, not one per class of it. */
function bandsOf({ breakdown_ns, duration_ns }: StepRow): string {
  let height = 0;
  const bands = CLASSES.flatMap(([tone]) => {
    const from = height;
    height += (100 * (breakdown_ns[tone] ?? 0)) / duration_ns;
    // A line of the card's colour parts neighbours, so that borders are seen without telling colours apart.
    return height - from > 2
      ? [`var(--${tone}) ${from}% calc(${height}% - 1px)`, `var(--card) calc(${height}% - 1px) ${height}%`]
      : [`var(--${tone}) ${from}% ${height}%`];
  });
  return `linear-gradient(to top, ${bands.join(",")})`;
}
