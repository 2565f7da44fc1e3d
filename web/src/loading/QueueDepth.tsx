import { column, count, Figure, percent, sum } from "../given";

interface Depth {
  ready: number;
  requests: number;
}

/** How many batches were ready when one was asked for. */
export function QueueDepth({ depths }: { depths: number[] }) {
  const whole = sum(depths);
  const most = Math.max(...depths);
  const rows = depths.map((requests, ready) => ({ ready, requests }));
  return (
    <Figure title="Queue" meaning={MEANING} id="queue" columns={COLUMNS} rows={rows}>
      <p>
        <strong>In {percent((depths[0] ?? 0) / whole)} of the requests nothing was ready.</strong>
      </p>
      <div class="depths" aria-hidden="true">
        {rows.map(({ ready, requests }) => (
          <div key={ready} title={`${ready} ready: ${count(requests)} requests`}>
            <small>{requests > 0 && percent(requests / whole)}</small>
            <i class={`area ${ready ? "step" : "data_wait"}`} style={{ height: `${(100 * requests) / most}px` }} />
            <small>{ready}</small>
          </div>
        ))}
      </div>
      <p class="muted">batches ready, and the share of the requests that found so many</p>
    </Figure>
  );
}

const MEANING =
  "Batches that lay ready when the training loop asked for one. A full queue: the workers are ahead; an empty one: they " +
  "cannot keep up, or make the batches in bursts.";

const COLUMNS = [
  column("ready", "Ready", (depth: Depth) => depth.ready),
  column("requests", "Requests", (depth: Depth) => depth.requests, count),
];
