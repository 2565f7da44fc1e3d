import type { Tone } from "../palette";
import { Tip } from "./Tip";

export interface Measured {
  /** In words with its unit; without it: not known. */
  value?: string;
  /** 0 to 1: how much of the step the value explains; without it: it is no part of it. */
  share?: number;
  note: string;
}

interface KpiProps extends Measured {
  title: string;
  meaning: string;
  tone?: Tone;
}

/** One number with its unit, its definition and what stands behind it. */
export function Kpi({ title, meaning, value = "–", share, tone, note }: KpiProps) {
  return (
    <div class="card kpi">
      <h2>
        <Tip text={meaning}>{title}</Tip>
      </h2>
      <p class="value">{value}</p>
      <p class="muted">{note}</p>
      {share !== undefined && (
        <div class="gauge" aria-hidden="true">
          <i class={`area ${tone}`} style={{ width: `${100 * Math.min(share, 1)}%` }} />
        </div>
      )}
    </div>
  );
}
