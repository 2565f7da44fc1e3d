import { nameOf, namesOf, rankOf, ranksOf } from "../data/ranks";
import type { Page, RunEntry, WindowEntry } from "../data/types";
import { counted } from "../units";
import { ELSEWHERE, type Go } from "../url";
import { clean, frameworksOf, stateOf } from "../words";
import { Chooser } from "./Chooser";
import { Tip } from "./Tip";

interface HeaderProps {
  runs: RunEntry[];
  run: string;
  page: Page | undefined;
  window: WindowEntry | null;
  go: Go;
  showKeys(): void;
}

/** What is shown, chosen here, and what it is. */
export function Header({ runs, run, page, window, go, showKeys }: HeaderProps) {
  return (
    <header class="top">
      <span class="brand">profkit</span>
      <RunChoosers runs={runs} run={run} go={go} />
      {page && window && (
        <Chooser
          label="Window"
          choices={page.windows.map((entry) => ({
            value: `${entry.window}`,
            text: `${entry.window}`,
            hint: wordsOf(entry),
          }))}
          value={`${window.window}`}
          choose={(value) => go({ ...ELSEWHERE, window: value }, true)}
        />
      )}
      {page && <Facts page={page} />}
      <button class="quiet" onClick={showKeys}>
        Keys <kbd>?</kbd>
      </button>
    </header>
  );
}

function wordsOf({ first_step, last_step, steps, source }: WindowEntry): string {
  const which =
    first_step === null ? "" : first_step === last_step ? `step ${first_step}` : `steps ${first_step}–${last_step}`;
  return [which || counted(steps, "step"), source === "capture" ? "steps and waits only" : source].join(" · ");
}

function RunChoosers({ runs, run, go }: Pick<HeaderProps, "runs" | "run" | "go">) {
  const names = namesOf(runs).map((name) => ({ value: name, text: clean(name) }));
  const ranks = ranksOf(runs, nameOf(run));
  const choose = (run: string): void => go({ ...ELSEWHERE, run, window: undefined, rank: undefined, ranks: undefined }, true);
  return (
    <>
      <Chooser label="Run" choices={names} value={nameOf(run)} choose={(name) => choose(ranksOf(runs, name)[0])} />
      {ranks.length > 1 && (
        <Chooser
          label="Rank"
          choices={ranks.map((rank) => ({ value: rank, text: `${rankOf(rank)}` }))}
          value={run}
          choose={choose}
        />
      )}
    </>
  );
}

function Facts({ page }: { page: Page }) {
  const [tone, word, sentence] = stateOf(page.report.state);
  const place = page.world_size > 1 ? `rank ${page.rank} of ${page.world_size}` : "";
  return (
    <>
      <span class={`chip ${tone}`}>
        <Tip text={sentence}>{clean(word)}</Tip>
      </span>
      <span class="facts-line">
        {[
          frameworksOf(page.report),
          counted(page.report.steps, "step"),
          page.script === page.report.name ? "" : page.script,
          page.host,
          place,
        ]
          .filter(Boolean)
          .map(clean)
          .join(" · ")}
      </span>
    </>
  );
}
