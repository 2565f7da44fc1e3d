import type { Loading, Report } from "../data/types";
import {
  clean,
  count,
  counted,
  Distribution,
  duration,
  FindingCard,
  isOfRanks,
  Kpi,
  MEANINGS,
  percent,
  StepSeries,
  useEffect,
  useShown,
} from "../given";
import { Batches } from "./Batches";
import { FetchCard } from "./FetchCard";
import { partOf } from "./parts";
import { Facts, Settings } from "./Pipeline";
import { QueueDepth } from "./QueueDepth";
import { Samples, Transforms } from "./Samples";
import { Stages } from "./Stages";
import { Startup } from "./Startup";
import { WaitKpis } from "./Waits";
import { WhatIf } from "./WhatIf";
import { Workers } from "./Workers";

/** How the training waits for its data, and what inside the loader makes it wait. */
export function DataLoading() {
  const { page, place, go } = useShown();
  const { wait, steps, loading } = page.report;
  const loaders = Object.entries(page.loaders);
  useEffect(() => light(place.part), [place.part]);
  const look = (cause: string): void => {
    go({ part: cause }, true);
    light(cause);
  };
  return (
    <>
      <h1>Data loading</h1>
      {loading && <Loader loading={loading} />}
      {wait ? <WaitKpis wait={wait} /> : <p class="card wide">{steps ? UNSEEN : STEPLESS}</p>}
      <Findings look={look} />
      {loading ? <Inside loading={loading} /> : <Outside />}
      {loaders
        .filter(([, { stages, flaws }]) => !loading || stages.length || flaws?.length)
        .map(([key, loader]) => (
          <Settings key={key} loader={loader} />
        ))}
    </>
  );
}

const STEPLESS = "Waits are counted by step, and no step was recorded.";
const UNSEEN = "No wait for data was recorded: the loop gets its batches from nothing that profkit knows.";

/** Brings the card into view that a link means. */
function light(part: string | undefined): void {
  const card = part && document.getElementById(partOf(part));
  if (!card) return;
  card.scrollIntoView({ block: "start" });
  card.animate({ outline: ["3px solid var(--accent)", "3px solid transparent"] }, 4_000);
}

/** Which loader, and what a batch of it costs the training. */
function Loader({ loading }: { loading: Loading }) {
  const { loader, settings, batches, num_workers, wait_ns, interval_ns, utilisation, fetch } = loading;
  const waits = interval_ns ? wait_ns / interval_ns : 0;
  return (
    <>
      <section class="card wide" id="loader">
        <h2>{clean(loader)}</h2>
        <Facts settings={Object.entries(settings)} />
      </section>
      <div class="kpis">
        <Kpi
          title="Wait per batch, mean"
          meaning="The time between asking for a batch and having it, over the judged batches."
          tone="data_wait"
          value={duration(wait_ns)}
          share={waits}
          note={`${percent(waits)} of the ${duration(interval_ns)} from batch to batch · ${count(batches)} batches`}
        />
        {utilisation !== null && (
          <Kpi
            title="Workers, busy"
            meaning="Time the workers were fetching over the time that passed. From 85 % on they limit the loader."
            tone="compute"
            value={percent(utilisation)}
            share={utilisation}
            note={counted(num_workers, "worker")}
          />
        )}
        {fetch && (
          <Kpi
            title="A fetch, mean"
            meaning="Getting the samples of one batch and making the batch of them."
            value={duration(fetch.mean_ns)}
            note={`p50 ${duration(fetch.p50_ns)} · p95 ${duration(fetch.p95_ns)} · max ${duration(fetch.max_ns)}`}
          />
        )}
      </div>
    </>
  );
}

function Findings({ look }: { look(cause: string): void }) {
  const findings = useShown().page.report.findings.filter((finding) => !isOfRanks(finding));
  if (!findings.length) return null;
  return (
    <section class="verdict found" id="findings" aria-label="Findings">
      {findings.map((finding) => (
        <FindingCard key={finding.cause} finding={finding} isHeadline={false} look={look} />
      ))}
    </section>
  );
}

/** What was seen inside the loader. */
function Inside({ loading }: { loading: Loading }) {
  const { batches, last_batches } = useShown().page;
  const { fetch, queue_depth, startup } = loading;
  return (
    <>
      <Stages loading={loading} />
      {batches && batches.wait_ns.length > 0 && <Batches batches={batches} />}
      <Workers loading={loading} batches={last_batches} />
      {fetch && <FetchCard fetch={fetch} />}
      {queue_depth.length > 0 && <QueueDepth depths={queue_depth} />}
      <Samples loading={loading} />
      <Transforms transforms={loading.transforms} />
      {startup && <Startup startup={startup} />}
      <WaitsPerStep />
      <WhatIf loading={loading} />
    </>
  );
}

/** What is known where nobody looked inside. */
function Outside() {
  const { report, loaders } = useShown().page;
  return (
    <>
      <section class="card wide">
        <h2>Nobody looked inside the loader</h2>
        <p>
          {report.wait ? "The waits are known, step by step; " : "Not even waits are known; "}
          which stage, worker or sample made them is not. {whyOutside(report, Object.keys(loaders).length > 0)}
        </p>
      </section>
      <StepSeries isOfWaits />
      <WaitsPerStep />
    </>
  );
}

const whyOutside = ({ state }: Report, hasLoaders: boolean): string =>
  state === "trace"
    ? "A trace file has only what the framework's profiler recorded, and that does not follow the loader's workers: " +
      "record with profkit."
    : hasLoaders
      ? "profkit looks inside PyTorch's DataLoader, and asks tf.data for its own model; where it refused a version it " +
        "does not know, the notes below say so."
      : "No loader was seen: wrap the iterable in run.loader(…), or use PyTorch's DataLoader.";

function WaitsPerStep() {
  const { wait, wait_histogram } = useShown().page.report;
  if (!wait || !wait_histogram) return null;
  return (
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
  );
}
