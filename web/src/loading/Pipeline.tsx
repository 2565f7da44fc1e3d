import type { Loader, PipelineFlaw, PipelineStage, Scalar } from "../data/types";
import { clean, column, count, duration, MEANINGS, plain, Table } from "../given";
import { Fact } from "./FetchCard";

/** A loader's settings, and of a tf.data pipeline its stages and what its definition shows. */
export function Settings({ loader }: { loader: Loader }) {
  const name = clean(loader.name);
  const settings = Object.entries(loader.settings);
  const { stages, flaws = [] } = loader;
  return (
    <section class="card wide" id={stages.length || flaws.length ? "pipeline" : "settings"}>
      <h2>{name}</h2>
      {settings.length > 0 ? <Facts settings={settings} /> : <p>Its settings are not known.</p>}
      {stages.length > 0 && (
        <Table caption={`Stages of ${name}, from its end to its sources`} columns={stagesOf(stages)} rows={stages} />
      )}
      {flaws.length > 0 && (
        <>
          <h3>What its definition shows</h3>
          <Table caption={`Flaws of ${name}`} columns={FLAWS} rows={flaws} />
        </>
      )}
    </section>
  );
}

export function Facts({ settings }: { settings: [string, Scalar][] }) {
  return (
    <dl class="facts">
      {settings.map(([key, value]) => (
        <Fact key={key} name={clean(key)} value={scalar(value)} />
      ))}
    </dl>
  );
}

const scalar = (value: Scalar): string => (value === null ? "none" : clean(`${value}`));

/** Work per batch of the pipeline, which is an element of its last stage. */
function stagesOf(stages: PipelineStage[]) {
  const batches = stages[0].elements || 1;
  const threadTime = (stage: PipelineStage): number => stage.processing_ns / batches / Math.max(stage.parallelism, 1);
  return [
    column("name", "Stage", (stage: PipelineStage) => clean(plain(stage.name))),
    column("work", "Work per batch", (stage: PipelineStage) => stage.processing_ns / batches, duration, {
      meaning: MEANINGS.stages,
    }),
    column("element", "Per element", (stage: PipelineStage) => stage.processing_ns / (stage.elements || 1), duration),
    column(
      "threads",
      "Threads",
      (stage: PipelineStage) => stage.parallelism,
      (threads, { tuned }) => `${threads}${tuned ? ", tuned" : ""}`,
      { meaning: "Tuned: tf.data chooses how many." },
    ),
    column("time", "Time per batch", threadTime, duration, { meaning: MEANINGS.slowest, share: threadTime }),
    column("elements", "Elements", (stage: PipelineStage) => stage.elements, count),
    column("buffered", "In its buffer", (stage: PipelineStage) => stage.buffered, count),
  ];
}

const FLAWS = [
  column("cause", "What", (flaw: PipelineFlaw) => clean(plain(flaw.cause))),
  column("stage", "Where", (flaw: PipelineFlaw) => clean(flaw.stage)),
  column("detail", "Detail", (flaw: PipelineFlaw) => (flaw.detail ? clean(flaw.detail) : "")),
];
