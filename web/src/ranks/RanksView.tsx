import type { Finding, Page, Ranks } from "../data/types";
import { Absent, clean, nameOf, useEffect, useLoaded, useShown, Waiting } from "../given";
import { Clocks } from "./Clocks";
import { Collectives } from "./Collectives";
import { Comparison } from "./Comparison";
import { Late, RankKpis } from "./Late";
import { chosenRanks, MOST_RANKS, OneTimeline } from "./OneTimeline";
import { RankCard } from "./RankCard";
import { useRuns } from "./runs";

/** All ranks of a training beside each other: who is late, why, and what it costs. */
export function RanksView() {
  const { page } = useShown();
  const isAlone = page.world_size < 2 && !page.report.ranks;
  return (
    <>
      <h1>Ranks</h1>
      {isAlone ? <Alone page={page} /> : <Several />}
    </>
  );
}

function Alone({ page }: { page: Page }) {
  return (
    <Absent title="One process">
      {page.report.state === "trace"
        ? "This is the trace of one process. Where a training has several, load the folder with the trace of each rank."
        : "This training was one process: there are no other ranks to compare it with, and none to wait for."}
    </Absent>
  );
}

function Several() {
  const { source, cache, run, page } = useShown();
  const version = `${page.report.state} ${page.report.steps} ${page.windows.length}`;
  const ranks = useLoaded(cache, `ranks ${nameOf(run)}`, version, (signal) => source.ranks(run, signal));
  if (ranks.value === undefined && ranks.error !== undefined) {
    return (
      <>
        <Absent title="The ranks are not compared yet">
          {page.report.state === "running"
            ? `The training runs. Its ${page.world_size} ranks are compared once the last of them has ended.`
            : `That is done once the last of ${page.world_size} ranks has been finalised; profkit report says more.`}
        </Absent>
        <Waiting of={ranks}>{() => null}</Waiting>
      </>
    );
  }
  return <Waiting of={ranks}>{(value) => <Compared ranks={value} />}</Waiting>;
}

const TABS: [id: string, title: string][] = [
  ["compared", "Compared"],
  ["one", "On one timeline"],
];

function Compared({ ranks }: { ranks: Ranks }) {
  const { place, go } = useShown();
  const runs = useRuns();
  const chosen = chosenRanks(place.ranks, ranks, runs);
  const tab = TABS.find(([id]) => id === place.tab)?.[0] ?? TABS[0][0];
  return (
    <>
      <div class="tabs" role="group" aria-label="How the ranks are shown">
        {TABS.map(([id, title]) => (
          <button key={id} aria-pressed={id === tab} onClick={() => go({ tab: id }, true)}>
            {title}
          </button>
        ))}
      </div>
      {tab === "one" ? (
        <OneTimeline ranks={ranks} chosen={chosen} runs={runs} />
      ) : (
        <Cards ranks={ranks} runs={runs} chosen={chosen} />
      )}
    </>
  );
}

function Cards({ ranks, runs, chosen }: { ranks: Ranks; runs: ReturnType<typeof useRuns>; chosen: number[] }) {
  const { place, go } = useShown();
  const rank = place.rank === undefined ? ranks.stragglers[0]?.rank : Number(place.rank);
  useEffect(() => light(place.part), [place.part]);
  const choose = (one: number, part = "rank"): void => {
    go({ rank: `${one}`, part }, true);
    light(part);
  };
  const look = ({ cause, evidence }: Finding): void => choose(Number(evidence.rank ?? rank ?? 0), cause);
  const toggle = (): void => {
    const others = chosen.filter((one) => one !== rank);
    const next = others.length < chosen.length ? others : [...others, rank].slice(-MOST_RANKS);
    go({ ranks: next.join(","), seen: undefined });
  };
  return (
    <>
      <Late ranks={ranks} choose={choose} look={look} />
      <RankKpis ranks={ranks} />
      <Comparison ranks={ranks} choose={choose} />
      {rank !== undefined && (
        <RankCard ranks={ranks} rank={rank} runs={runs} isOnTimeline={chosen.includes(rank)} toggle={toggle} />
      )}
      <Collectives rows={ranks.collectives} />
      <Clocks ranks={ranks} />
      {ranks.notes.length > 0 && (
        <ul class="card wide notes">
          {ranks.notes.map((note) => (
            <li key={note}>{clean(note)}</li>
          ))}
        </ul>
      )}
    </>
  );
}

/** Brings the card into view that a link means: one by its name, or what a finding rests on. */
function light(part: string | undefined): void {
  const of = part?.startsWith("straggler") ? "rank" : part?.startsWith("communication") ? "collectives" : part;
  const card = of && document.getElementById(of);
  if (!card) return;
  card.scrollIntoView({ block: "nearest" });
  card.animate({ outline: ["3px solid var(--accent)", "3px solid transparent"] }, 2_000);
}
