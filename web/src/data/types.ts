/**
 * What the page is given, field for field as Python writes it: `profkit.analysis.report` (docs/report.md) and
 * `profkit.analysis.page` (docs/format.md, "The page"). Times are nanoseconds (`_ns`), sizes bytes, shares 0 to 1.
 */

export interface StepTime {
  mean: number;
  p50: number;
  p95: number;
  max: number;
}

export interface Wait {
  mean_ns: number;
  p50_ns: number;
  p95_ns: number;
  max_ns: number;
  share: number;
  exposed_ns: number | null;
  hidden_ns: number | null;
  startup_ns: number;
  batches: number;
  p99_ns: number;
  period: Period | null;
}

/** Waits that come again every so many steps. */
export interface Period {
  steps: number;
  long_ns: number;
  others_ns: number;
  explained: number;
}

/** `counts[i]` lie in [edges_ns[i], edges_ns[i + 1]); the last bin holds its upper edge too. */
export interface Histogram {
  edges_ns: number[];
  counts: number[];
  longer: number; // beyond the last edge
}

export interface Operator {
  name: string;
  calls: number;
  total_ns: number;
  self_ns: number;
  device_ns: number;
  op_class: string | null;
  kind: string;
  shapes: string | null;
  /** Set in `operators_by_module` only; null: of no module. */
  module: string | null;
}

export interface OperatorClass {
  op_class: string | null;
  calls: number;
  self_ns: number;
  self_share: number | null;
  device_ns: number;
  device_share: number | null;
}

/** Time since the trace's beginning, bytes allocated, bytes reserved (null where the allocator does not say). */
export type MemoryPoint = [time_ns: number, bytes: number, reserved_bytes: number | null];

export interface Allocation {
  operator: string;
  bytes: number;
  count: number;
  module: string | null;
}

/** Largest allocation within a step, and what is allocated when it ends. */
export interface StepMemory {
  number: number;
  peak_bytes: number;
  end_bytes: number;
}

export interface DeviceMemory {
  device: string;
  peak_bytes: number;
  peak_time_ns: number;
  reserved_bytes: number | null;
  alive_at_peak: Allocation[];
  unknown_at_peak_bytes: number;
  curve: MemoryPoint[];
  steps: StepMemory[];
}

export interface Memory {
  peak_bytes: number | null;
  devices: DeviceMemory[];
}

export type Scalar = string | number | boolean | null;

export interface Finding {
  cause: string;
  message: string;
  remedy: string;
  evidence: Record<string, Scalar>;
  predicted_speedup: number | null;
  confidence: "high" | "medium" | "low";
}

/** A stage of a batch's way: its own mean time, null for a remainder, and the part of the mean wait it explains. */
export interface LoadingStage {
  name: string;
  mean_ns: number | null;
  wait_ns: number;
}

export interface Fetch {
  mean_ns: number;
  p50_ns: number;
  p95_ns: number;
  max_ns: number;
  cpu_ns: number | null;
  run_queue_ns: number | null;
  blocked_ns: number | null;
  read_chars: number | null;
  read_bytes: number | null;
}

export interface WorkerLoad {
  worker: number | null; // null: the training process
  pid: number | null;
  batches: number;
  busy_share: number;
  fetch_ns: number;
}

/** What beginning a pass takes, as means over the passes. */
export interface LoaderStartup {
  passes: number;
  first_wait_ns: number;
  process_ns: number;
  init_ns: number;
  dataset_ns: number;
  first_fetch_ns: number;
  started_workers: number;
}

export interface SlowSample {
  index: number | null;
  duration_ns: number;
  worker: number | null;
  batch: number | null;
  step: number | null;
}

export interface TransformTime {
  name: string;
  calls: number;
  mean_ns: number;
  share: number;
}

/** `kind`: workers, prefetch, batch or without. */
export interface Prediction {
  kind: string;
  settings: Record<string, string | number>;
  step_ns: number;
  wait_ns: number;
  speedup: number;
  confidence: "high" | "medium" | "low";
}

/** The inside of the training loop's loader. */
export interface Loading {
  loader: string;
  settings: Record<string, Scalar>;
  batches: number;
  num_workers: number;
  wait_ns: number;
  interval_ns: number;
  stages: LoadingStage[];
  fetch: Fetch | null;
  utilisation: number | null;
  queue_depth: number[]; // [i]: requests that found i batches ready
  workers: WorkerLoad[];
  startup: LoaderStartup | null;
  slowest_samples: SlowSample[];
  median_sample_ns: number | null;
  transforms: TransformTime[];
  predictions: Prediction[];
}

export interface Overhead {
  outside_ns_per_step: number | null;
  outside_share: number | null;
  inside_ratio: number | null;
  inside_spread: number | null;
  window_close_ns: number | null;
}

export interface StepRow {
  number: number;
  start_ns: number; // since the Unix epoch: beyond what a double holds to the nanosecond
  duration_ns: number;
  breakdown_ns: Record<string, number>;
  wait_ns: number;
  exposed_wait_ns: number | null;
}

/** One rank of a training, over its recorded windows. Times are nanoseconds per step. */
export interface RankRow {
  rank: number;
  host: string;
  steps: number;
  step_ns: number;
  wait_ns: number;
  breakdown_ns: Record<string, number>;
  communication_ns: number;
  exposed_communication_ns: number;
  overlap: number | null;
  idle_ns: number | null;
  collectives: number;
  transfer_ns: number;
  waiting_ns: number;
  late_ns: number;
  last_share: number;
  peak_bytes: number | null;
  clock_offset_ns: number; // added to its times
  clock_uncertainty_ns: number | null;
  clock_source: string; // measured · collectives · same clock · none
  step_durations_ns: number[];
  first_step: number | null;
}

/** All calls of one collective operation within one process group. */
export interface CollectiveRow {
  name: string;
  group: string;
  ranks: number;
  calls: number;
  dtype: string | null;
  bytes: number | null;
  transfer_ns: number;
  waiting_ns: number;
  skew_ns: number;
}

/** A rank that the others wait for. `cause`: input, compute, host, memory or unexplained. */
export interface Straggler {
  rank: number;
  cause: string;
  last_share: number;
  costs_ns: number;
  excess_ns: Record<string, number>;
}

/** All ranks of a training beside each other. */
export interface Ranks {
  world_size: number;
  missing: number[];
  rows: RankRow[];
  collectives: CollectiveRow[];
  stragglers: Straggler[];
  step_time_ns: StepTime | null;
  imbalance: number | null;
  skew_ns: number | null;
  clock_uncertainty_ns: number | null;
  notes: string[];
}

export interface Report {
  schema_version: number;
  name: string;
  profkit: string;
  frameworks: Record<string, string>;
  state: string;
  last_step: number | null;
  headline: string;
  steps: number;
  measured_on: string;
  step_time_ns: StepTime | null;
  /** Of the steps the verdict rests on, as `step_time_ns`. */
  step_histogram: Histogram | null;
  stall_share: number | null;
  wait: Wait | null;
  wait_histogram: Histogram | null;
  /** Null: nobody looked inside the loader; pages of earlier versions have none. */
  loading?: Loading | null;
  /** Null: the training was one process. A page has what is said of all ranks and no row of one. */
  ranks?: Ranks | null;
  breakdown_ns: Record<string, number>;
  breakdown_steps: number;
  phases_ns: Record<string, number>;
  operators: Operator[];
  operators_by_shape: Operator[];
  operators_by_module: Operator[];
  kernels: Operator[];
  operator_classes: OperatorClass[];
  unclassified_share: number | null;
  unclassified_device_share: number | null;
  memory: Memory;
  findings: Finding[];
  overhead: Overhead;
  dropped: Record<string, number>;
  repaired: Record<string, number>;
  counts: Record<string, number>;
  notes: string[];
  windows: number;
  recorded: boolean;
  window_steps: StepRow[];
  counters: Record<string, { mean: number; max: number }>;
  schedule: number[];
  hparams: Record<string, string | number | boolean>;
}

/** Steps of the whole run. Of every `stretch` steps the longest one is here, so that a point is a real step. */
export interface StepSeries {
  stretch: number;
  number: number[];
  end_ns: number[]; // since the run's beginning
  duration_ns: number[];
  wait_ns: number[];
  steady: boolean[];
  window: (number | null)[]; // that recorded the step
}

/** A counter over the run's life, or memory; at most some hundred points, each the mean of its stretch of time. */
export interface Curve {
  name: string; // such as cpu_percent, resident_memory_bytes
  unit: string;
  time_ns: number[]; // since the run's beginning
  value: number[];
}

/** Waits by what they waited for. Of every `stretch` batches the longest wait is here. */
export interface BatchSeries {
  stretch: number;
  step: (number | null)[];
  asked_ns: number[]; // since the run's beginning
  wait_ns: number[];
  by_stage: Record<string, number[]>; // add up to `wait_ns`
  ready: (number | null)[];
  worker: (number | null)[];
  fetch_start_ns: (number | null)[];
  fetch_ns: (number | null)[];
}

export interface PipelineStage {
  name: string;
  elements: number;
  processing_ns: number;
  buffered: number;
  parallelism: number;
  tuned: boolean;
}

/** What a pipeline's definition shows before it runs. */
export interface PipelineFlaw {
  cause: string;
  stage: string;
  detail: string;
}

export interface Loader {
  name: string;
  settings: Record<string, Scalar>;
  stages: PipelineStage[];
  flaws?: PipelineFlaw[];
}

/** A recorded window. Its report and its timeline are fetched when they are asked for. */
export interface WindowEntry {
  window: number;
  first_step: number | null;
  last_step: number | null;
  steps: number;
  spans: number;
  tracks: number;
  source: string; // kineto, xplane, …; `capture`: steps and waits alone
  start_ns: number; // since the run's beginning
  timeline_bytes: number; // compressed
}

/** What the first screen needs: small, one per run and rank. `report` has no curves and only its largest operators. */
export interface Page {
  page_version: number;
  report: Report;
  start_ns: string; // since the Unix epoch, as digits
  script: string;
  host: string;
  rank: number;
  world_size: number;
  steps: StepSeries;
  counters: Curve[];
  loaders: Record<string, Loader>;
  batches?: BatchSeries; // empty where nobody looked inside the loader
  last_batches?: BatchSeries; // the end of the same, whole
  windows: WindowEntry[];
}

/** A run of TensorBoard that has a page; ranks behind the first are runs of their own below it. */
export interface RunEntry {
  run: string; // TensorBoard's name of it
  version: string; // changes when there is a newer page
}
