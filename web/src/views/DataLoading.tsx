import type { Loader, PipelineStage, Scalar, Wait } from "../data/types";
import { Distribution } from "../parts/Distribution";
import { Kpi, type Measured } from "../parts/Kpi";
import { StepSeries } from "../parts/StepSeries";
import { column, Table, type Column } from "../parts/Table";
import { useShown } from "../shown";
import { count, counted, duration, percent } from "../units";
import { clean, MEANINGS, plain } from "../words";

/** How the training waits for its data, and what is known of who makes it wait. */
export function DataLoading() {
  const { wait, wait_histogram, steps } = useShown().page.report;
  const loaders = Object.entries(useShown().page.loaders);
  return (
    <>
      <h1>Data loading</h1>
      {wait ? <WaitKpis wait={wait} /> : <p class="card wide">{steps ? UNSEEN : STEPLESS}</p>}
      <StepSeries isOfWaits />
      {wait && wait_histogram && (
        <Distribution
          title="Waits per step"
          meaning={MEANINGS.distribution}
          histogram={wait_histogram}
          tone="data_wait"
          marks={[
            ["p50", wait.p50_ns],
            ["p95", wait.p95_ns],
          ]}
          max_ns={wait.max_ns}
        />
      )}
      {loaders.map(([key, loader]) => (
        <Settings key={key} loader={loader} />
      ))}
      <Unrecorded hasLoaders={loaders.length > 0} />
    </>
  );
}

const STEPLESS = "Waits are counted by step, and no step was recorded.";
const UNSEEN = "No wait for data was recorded: the loop gets its batches from nothing that profkit knows.";

function WaitKpis({ wait }: { wait: Wait }) {
  const { mean_ns, p50_ns, p95_ns, p99_ns, max_ns, share, startup_ns, batches, period } = wait;
  const spread = [["p50", p50_ns], ["p95", p95_ns], ["p99", p99_ns], ["max", max_ns]] as const;
  const words = spread.map(([name, ns]) => `${name} ${duration(ns)}`).join(" · ");
  const received = batches ? `, which received ${counted(batches, "batch")}` : "";
  return (
    <div class="kpis">
      <Kpi
        title="Wait per step, mean"
        meaning={MEANINGS.wait}
        tone="data_wait"
        value={duration(mean_ns)}
        share={share}
        note={`${percent(share)} of the step · ${words}`}
      />
      <Kpi title="Exposed wait, mean" meaning={MEANINGS.hidden} tone="data_wait" {...exposedOf(wait)} />
      <Kpi
        title="Start-up"
        meaning={MEANINGS.startup}
        value={duration(startup_ns)}
        note={`of the whole run${received}`}
      />
      {period && (
        <Kpi
          title="Long waits come every"
          meaning={MEANINGS.period}
          tone="data_wait"
          value={counted(period.steps, "step")}
          note={`${duration(period.long_ns)} each, the others ${duration(period.others_ns)}`}
        />
      )}
    </div>
  );
}

function exposedOf({ mean_ns, share, exposed_ns, hidden_ns }: Wait): Measured {
  if (exposed_ns === null || hidden_ns === null) return { note: "Not known: the device's work was not recorded." };
  const part = mean_ns ? (exposed_ns / mean_ns) * share : 0;
  return { value: duration(exposed_ns), share: part, note: `${duration(hidden_ns)} more are hidden behind other work` };
}

function Settings({ loader }: { loader: Loader }) {
  const name = clean(loader.name);
  const settings = Object.entries(loader.settings);
  return (
    <section class="card wide">
      <h2>{name}</h2>
      {settings.length > 0 ? (
        <dl class="facts">
          {settings.map(([key, value]) => (
            <div key={key}>
              <dt>{clean(key)}</dt>
              <dd>{scalar(value)}</dd>
            </div>
          ))}
        </dl>
      ) : (
        <p>Its settings are not known.</p>
      )}
      {loader.stages.length > 0 && (
        <Table
          caption={`Stages of ${name}, from its end to its sources`}
          columns={stagesOf(loader)}
          rows={loader.stages}
        />
      )}
    </section>
  );
}

const scalar = (value: Scalar): string => (value === null ? "none" : clean(`${value}`));

/** Work per batch of the pipeline, which is an element of its last stage. */
function stagesOf({ stages }: Loader): Column<PipelineStage>[] {
  const batches = stages[0].elements || 1;
  const threadTime = (stage: PipelineStage): number => stage.processing_ns / batches / Math.max(stage.parallelism, 1);
  return [
    column("name", "Stage", (stage) => clean(plain(stage.name))),
    column("work", "Work per batch", (stage) => stage.processing_ns / batches, duration, { meaning: MEANINGS.stages }),
    column(
      "threads",
      "Threads",
      (stage) => stage.parallelism,
      (threads, { tuned }) => `${threads}${tuned ? " (tf.data's choice)" : ""}`,
    ),
    column("time", "Time per batch", threadTime, duration, { meaning: MEANINGS.slowest, share: threadTime }),
    column("elements", "Elements", (stage) => stage.elements, count),
    column("buffered", "In its buffer", (stage) => stage.buffered, count),
  ];
}

function Unrecorded({ hasLoaders }: { hasLoaders: boolean }) {
  return (
    <section class="card wide">
      <h2>Not recorded</h2>
      <p>
        {!hasLoaders &&
          "What the loader's settings are: only a run that profkit recorded knows them, or a file of tf.data. "}
        How a worker's time divides into fetching, decoding, collating and pinning, and how full its queue was, is not
        recorded yet.
      </p>
    </section>
  );
}
