import type { Tone } from "../palette";
import { duration, percent } from "../units";
import { Tip } from "./Tip";

export type Parts = [tone: Tone, name: string, meaning: string][];

interface StackedBarProps {
  parts: Parts;
  /** Tone's key in the report -> nanoseconds. */
  time_ns: Record<string, number>;
  /** What the parts are parts of, nanoseconds. */
  whole_ns: number;
  /** What the times are of: a step, if nothing is said. */
  of?: string;
}

const NAMED = 0.05; // of the whole, from which on a part has room for its name

/** Parts of a step, or of whatever it is of, side by side, and as a table with the meaning of each. */
export function StackedBar({ parts, time_ns, whole_ns, of = "step" }: StackedBarProps) {
  const shown = parts.filter(([tone]) => time_ns[tone] > 0);
  return (
    <>
      <div class="stack" aria-hidden="true">
        {shown.map(([tone, name]) => (
          <div key={tone} class={`area ${tone}`} style={{ flexGrow: time_ns[tone] / whole_ns }}>
            {time_ns[tone] > NAMED * whole_ns && (
              <>
                <b>{name}</b>
                <span>{percent(time_ns[tone] / whole_ns)}</span>
              </>
            )}
          </div>
        ))}
      </div>
      <table class="legend">
        <thead class="sr">
          <tr>
            <th scope="col">Part</th>
            <th scope="col">Time per {of}</th>
            <th scope="col">Share of the {of}</th>
          </tr>
        </thead>
        <tbody>
          {shown.map(([tone, name, meaning]) => (
            <tr key={tone}>
              <th scope="row">
                <i class={`area ${tone}`} />
                <Tip text={meaning}>{name}</Tip>
              </th>
              <td>{duration(time_ns[tone])}</td>
              <td>{percent(time_ns[tone] / whole_ns)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </>
  );
}
