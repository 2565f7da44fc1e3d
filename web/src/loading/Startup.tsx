import type { LoaderStartup } from "../data/types";
import { counted, duration, Figure } from "../given";

interface Part {
  name: string;
  time: number;
  meaning: string;
}

/** What beginning a pass takes. */
export function Startup({ startup }: { startup: LoaderStartup }) {
  const { passes, first_wait_ns, started_workers } = startup;
  return (
    <Figure title="Beginning a pass" meaning={MEANING} id="startup">
      <p>
        <strong>{duration(first_wait_ns)}</strong> until the first batch came, mean of {counted(passes, "pass")}
        {started_workers > 0 && `; ${counted(started_workers, "worker")} were started in all`}.
      </p>
      <table class="plain">
        <caption class="sr">Beginning a pass</caption>
        <thead>
          <tr>
            <th scope="col">Part</th>
            <th scope="col">Time</th>
            <th scope="col" class="words">
              What it is
            </th>
          </tr>
        </thead>
        <tbody>
          {partsOf(startup).map(({ name, time, meaning }) => (
            <tr key={name}>
              <th scope="row">{name}</th>
              <td>{duration(time)}</td>
              <td class="words muted">{meaning}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Figure>
  );
}

const MEANING = "Means over the passes. Workers start beside each other, so that the parts need not add up.";

const partsOf = ({ process_ns, init_ns, dataset_ns, first_fetch_ns }: LoaderStartup): Part[] =>
  [
    { name: "Process", time: process_ns, meaning: "forking or spawning, imports, receiving the dataset" },
    { name: "worker_init_fn", time: init_ns, meaning: "the loader's own function" },
    { name: "Dataset", time: dataset_ns, meaning: "making the fetcher; of an iterable dataset, iter()" },
    { name: "First fetch", time: first_fetch_ns, meaning: "making the first batch" },
  ].filter(({ time }) => time > 0);
