import type { Loading, SlowSample, TransformTime } from "../data/types";
import { clean, column, count, duration, Figure, percent, ratio, Table, useState } from "../given";

/** The samples that took longest, by their index in the dataset. */
export function Samples({ loading }: { loading: Loading }) {
  const { slowest_samples, median_sample_ns } = loading;
  if (!slowest_samples.length) return null;
  return (
    <Figure title="Slowest samples" meaning={SLOW_MEANING} id="samples" width={loading.transforms.length ? "" : "wide"}>
      {median_sample_ns !== null && <p class="muted">The median sample takes {duration(median_sample_ns)}.</p>}
      <Table caption="Slowest samples" columns={columnsOf(median_sample_ns)} rows={slowest_samples} />
    </Figure>
  );
}

const SLOW_MEANING =
  "Index in the dataset: dataset[index] brings the sample back. A batch waits for its slowest sample.";

const known = (value: number): string => (value < 0 ? "–" : count(value));

const columnsOf = (median: number | null) => [
  column(
    "index",
    "Index",
    (sample: SlowSample) => sample.index ?? -1,
    (index) => (index < 0 ? "–" : <Copied value={`${index}`} />),
  ),
  column("time", "Time", (sample: SlowSample) => sample.duration_ns, duration, {
    share: (sample) => sample.duration_ns,
  }),
  ...(median ? [column("ratio", "Of median", (sample: SlowSample) => sample.duration_ns / median, ratio)] : []),
  column("worker", "Worker", (sample: SlowSample) => sample.worker ?? -1, known),
  column("batch", "Batch", (sample: SlowSample) => sample.batch ?? -1, known),
  column("step", "Step", (sample: SlowSample) => sample.step ?? -1, known),
];

/** A number that a click copies. */
function Copied({ value }: { value: string }) {
  const [isCopied, say] = useState(false);
  const copy = (): void =>
    void navigator.clipboard?.writeText(value).then(
      () => say(true),
      () => {},
    );
  return (
    <button class="link" title="Copy" aria-label={`${value}: copy`} onClick={copy}>
      {isCopied && "✓ "}
      {value}
    </button>
  );
}

/** What each transform of the dataset takes. */
export function Transforms({ transforms }: { transforms: TransformTime[] }) {
  if (!transforms.length) return null;
  return (
    <Figure title="Transforms" meaning="Of the dataset's pipeline, as far as their calls were seen." id="transforms">
      <Table caption="Transforms" columns={TRANSFORMS} rows={transforms} />
    </Figure>
  );
}

const TRANSFORMS = [
  column("name", "Transform", (one: TransformTime) => clean(one.name)),
  column("share", "%", (one: TransformTime) => one.share, percent, { share: (one) => one.share }),
  column("mean", "A call", (one: TransformTime) => one.mean_ns, duration),
  column("calls", "Calls", (one: TransformTime) => one.calls, count),
];
