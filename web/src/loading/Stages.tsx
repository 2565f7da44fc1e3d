import type { Loading, LoadingStage } from "../data/types";
import { clean, duration, Figure, percent, sum, Tip } from "../given";
import { inOrder, KINDS, stageOf } from "./kinds";

const NAMED = 0.06; // of the wait, from which on a part has room for its name

/** What the mean wait consists of, beside what each stage takes anyway. */
export function Stages({ loading }: { loading: Loading }) {
  const { stages, wait_ns, num_workers } = loading;
  const shown = inOrder(stages);
  const whole = sum(shown.map((stage) => stage.wait_ns));
  return (
    <Figure title="Where the wait goes" meaning={MEANING} id="stages" width="wide">
      <p class="muted">
        Mean wait for a batch: {duration(wait_ns)}.{" "}
        {num_workers > 0 && "What a stage takes while the training computes is no wait; it is in the column beside."}
      </p>
      {whole > 0 && (
        <div class="stack" aria-hidden="true">
          {shown.map(
            (stage) =>
              stage.wait_ns > 0 && (
                <div
                  key={stage.name}
                  class={`area ${KINDS[stageOf(stage.name).kind][0]}`}
                  title={`${stageOf(stage.name).title} ${duration(stage.wait_ns)}. ${stageOf(stage.name).meaning}`}
                  style={{ flexGrow: stage.wait_ns / whole }}
                >
                  {stage.wait_ns > NAMED * whole && (
                    <>
                      <b>{stageOf(stage.name).title}</b>
                      <span>{percent(stage.wait_ns / whole)}</span>
                    </>
                  )}
                </div>
              ),
          )}
        </div>
      )}
      <table class="plain">
        <caption class="sr">The wait by stage</caption>
        <thead>
          <tr>
            <th scope="col">Stage</th>
            <th scope="col">Of the wait</th>
            <th scope="col">%</th>
            <th scope="col">
              <Tip text="What the stage takes for a batch, waited for or not.">Own time</Tip>
            </th>
            <th scope="col" class="words">
              What it is
            </th>
          </tr>
        </thead>
        <tbody>
          {shown.map((stage) => (
            <Row key={stage.name} stage={stage} whole={whole} />
          ))}
        </tbody>
      </table>
    </Figure>
  );
}

const MEANING =
  "While the training loop waits for a batch, the batch is in one stage after the other. Each instant of the wait goes " +
  "to the stage that the batch is in, so that the stages add up to the wait.";

function Row({ stage: { name, wait_ns, mean_ns }, whole }: { stage: LoadingStage; whole: number }) {
  const { title, kind, meaning } = stageOf(name);
  return (
    <tr>
      <th scope="row">
        <i class={`area dot ${KINDS[kind][0]}`} /> {clean(title)}
      </th>
      <td>{duration(wait_ns)}</td>
      <td>{percent(whole ? wait_ns / whole : 0)}</td>
      <td>{mean_ns === null ? "–" : duration(mean_ns)}</td>
      <td class="words muted">{meaning}</td>
    </tr>
  );
}
