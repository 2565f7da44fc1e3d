import type { Fetch } from "../data/types";
import { duration, Figure, size, StackedBar, type Parts } from "../given";

// As in profkit.analysis.causes: shares of the fetch; what of the bytes that were read came from storage, and how many.
const [CPU, BLOCKED, STARVED] = [0.6, 0.5, 0.35];
const [FROM_STORAGE, LEAST_READ_BYTES] = [0.2, 65_536];

const PARTS: Parts = [
  ["compute", "On a core", "The worker's thread ran: decoding, transforms, Python."],
  ["host", "Waiting for a core", "The thread could have run, and no core was free."],
  ["data_wait", "Blocked", "The thread could not have run: storage, network, a lock, a sleep."],
];

/** What making a batch takes a worker, and what holds it up. */
export function FetchCard({ fetch }: { fetch: Fetch }) {
  const { mean_ns, p50_ns, p95_ns, max_ns, read_chars, read_bytes } = fetch;
  const times = { compute: fetch.cpu_ns ?? 0, host: fetch.run_queue_ns ?? 0, data_wait: fetch.blocked_ns ?? 0 };
  return (
    <Figure title="A fetch" meaning={MEANING} id="fetch">
      <p>
        <strong>{verdictOf(fetch)}</strong>
      </p>
      <StackedBar parts={PARTS} time_ns={times} whole_ns={mean_ns} of="fetch" />
      <dl class="facts">
        <Fact name="mean" value={duration(mean_ns)} />
        <Fact name="p50" value={duration(p50_ns)} />
        <Fact name="p95" value={duration(p95_ns)} />
        <Fact name="max" value={duration(max_ns)} />
        {read_chars !== null && <Fact name="read per batch" value={size(read_chars)} />}
        {read_bytes !== null && <Fact name="of it from storage" value={size(read_bytes)} />}
      </dl>
    </Figure>
  );
}

export function Fact({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

const MEANING =
  "Getting the samples of one batch and making the batch of them, per batch. The parts add up to the mean.";

/** What takes most of a fetch, in a sentence. */
export function verdictOf({ mean_ns, cpu_ns, run_queue_ns, blocked_ns, read_chars, read_bytes }: Fetch): string {
  if (cpu_ns === null || run_queue_ns === null || blocked_ns === null)
    return "The system does not say whether a fetch computes or waits.";
  if (blocked_ns > BLOCKED * mean_ns)
    return read_bytes && read_bytes >= Math.max(FROM_STORAGE * (read_chars ?? 0), LEAST_READ_BYTES)
      ? "Blocked on storage: most of a fetch waits for bytes to be read."
      : "Blocked, and hardly by storage: most of a fetch waits for the network, a lock or a sleep.";
  if (run_queue_ns > STARVED * mean_ns) return "Waiting for a core: there is more to compute than cores to do it.";
  if (cpu_ns > CPU * mean_ns) return "CPU-bound: the work on the samples is what a fetch takes.";
  return "Mixed: neither computing nor waiting takes most of a fetch.";
}
