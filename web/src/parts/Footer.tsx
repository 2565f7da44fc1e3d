import type { Report } from "../data/types";
import { useShown } from "../shown";
import { count, duration, fixed, percent } from "../units";
import { clean, plain } from "../words";

/** What the numbers rest on and what is missing from them. It stands below every view. */
export function Footer() {
  const { report } = useShown().page;
  const lost = notesOf(report);
  return (
    <footer>
      <p>
        Measured on {report.measured_on}. {costOf(report)}
      </p>
      {lost.length > 0 ? (
        <ul>
          {lost.map((note) => (
            <li key={note}>{note}</li>
          ))}
        </ul>
      ) : (
        <p>Nothing was dropped, repaired or left out.</p>
      )}
      <p>profkit {report.profkit}</p>
    </footer>
  );
}

const notesOf = ({ notes, dropped, repaired }: Report): string[] => [
  ...notes.map(clean),
  ...Object.entries(dropped).map(([what, times]) => `Dropped: ${count(times)} ${clean(plain(what))}`),
  ...Object.entries(repaired).map(([what, times]) => `Repaired: ${count(times)} ${clean(plain(what))}`),
];

function costOf({ overhead }: Report): string {
  const { outside_ns_per_step, outside_share, inside_ratio, window_close_ns } = overhead;
  const costs = [
    outside_ns_per_step !== null &&
      `${duration(outside_ns_per_step)} per step${outside_share === null ? "" : ` (${percent(outside_share)})`}`,
    inside_ratio !== null && `a step inside a window takes ${fixed(inside_ratio, 2)}× as long`,
    window_close_ns !== null && `${duration(window_close_ns)} to close the windows`,
  ].filter(Boolean);
  return costs.length ? `profkit itself cost ${costs.join(", ")}.` : "What profkit itself cost is not known.";
}
