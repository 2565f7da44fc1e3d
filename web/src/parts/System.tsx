import { useState } from "preact/hooks";
import type { Curve } from "../data/types";
import { useShown } from "../shown";
import type { Tone } from "../palette";
import { duration, sum } from "../units";
import { clean, MEANINGS, plain, sampled } from "../words";
import { Figure } from "./Figure";
import { column, type Column } from "./Table";
import { Series, type Pointer } from "./Series";

const TONES: [pattern: RegExp, tone: Tone][] = [
  [/memory/, "host"],
  [/gpu|cuda/, "compute"],
  [/disk|read|write/, "copy"],
  [/net|sent|received/, "communication"],
];

/** What the machine did meanwhile: small charts, one for each counter, with one pointer for all. */
export function System() {
  const { counters } = useShown().page;
  const pointer = useState<number | null>(null);
  if (!counters.length) return null;
  return (
    <Figure title="System" meaning={MEANINGS.system} columns={COLUMNS} rows={counters} width="wide">
      <div class="multiples">
        {counters.map((curve) => (
          <Counter key={curve.name} curve={curve} pointer={pointer} />
        ))}
      </div>
    </Figure>
  );
}

const summaries = {
  min: (values: number[]) => Math.min(...values),
  mean: (values: number[]) => sum(values) / values.length,
  max: (values: number[]) => Math.max(...values),
};

const COLUMNS: Column<Curve>[] = [
  column("name", "Counter", (curve) => clean(plain(curve.name))),
  ...(["min", "mean", "max"] as const).map((word) =>
    column(
      word,
      word,
      (curve: Curve) => summaries[word](curve.value),
      (value, curve) => sampled(curve.name, value),
    ),
  ),
];

function Counter({ curve, pointer }: { curve: Curve; pointer: Pointer }) {
  const name = clean(plain(curve.name));
  const tone = TONES.find(([pattern]) => pattern.test(curve.name))?.[1] ?? "step";
  return (
    <div>
      <h3>
        {name} <small>max {sampled(curve.name, summaries.max(curve.value))}</small>
      </h3>
      <Series
        label={name}
        x={curve.time_ns}
        lines={[{ name, tone, values: curve.value, filled: true }]}
        showX={duration}
        showY={(value) => sampled(curve.name, value)}
        height={110}
        binary={/bytes/.test(curve.name)}
        pointer={pointer}
      />
    </div>
  );
}
