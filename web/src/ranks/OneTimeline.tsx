import type { Ranks } from "../data/types";
import { Absent, counted, decode, duration, TimelineView, useLoaded, useMemo, useShown, Waiting } from "../given";
import type { Timeline } from "../timeline/format";
import { join, type Part } from "./join";
import { ranksIn } from "./order";
import type { Runs } from "./runs";
import { placeOf, stateOf } from "./seen";

export const MOST_RANKS = 8; // on one timeline: their tracks fill some screens

/** The ranks that the address names; without any the first one and those that are late, which others wait for. */
export function chosenRanks(words: string | undefined, ranks: Ranks, runs: Runs): number[] {
  const known = ranks.rows.map(({ rank }) => rank).filter((rank) => runs.of(rank) !== undefined);
  if (words !== undefined) return ranksIn(words, new Set(known), MOST_RANKS);
  const late = ranks.stragglers.map(({ rank }) => rank);
  const usual = [...new Set([known[0], ...late, ...known.slice(1)])].filter((rank) => known.includes(rank));
  return usual.slice(0, Math.min(Math.max(2, late.length + 1), MOST_RANKS));
}

/** The window of several ranks on one timeline, whose times are those of rank 0's clock. */
export function OneTimeline({ ranks, chosen, runs }: { ranks: Ranks; chosen: number[]; runs: Runs }) {
  const { source, cache, page, window, place, go } = useShown();
  const number = window?.window;
  const without = ranks.rows.filter(({ rank }) => runs.of(rank) === undefined).length;
  const subject = number === undefined || !chosen.length ? null : `ranks ${chosen.map(runs.of).join()} ${number}`;
  const parts = useLoaded(cache, subject, page.start_ns, (signal) =>
    Promise.all(chosen.map((rank) => partOf(ranks, rank, () => source.timeline(runs.of(rank)!, number!, signal)))),
  );
  return (
    <>
      <section class="card wide">
        <div class="bar">
          <label for="ranks-shown">Ranks on one timeline</label>
          <input
            id="ranks-shown"
            class="search"
            placeholder={`e.g. 0, 3-5; at most ${MOST_RANKS}`}
            value={place.ranks ?? chosen.join(", ")}
            onChange={(event) => go({ ranks: event.currentTarget.value || undefined, seen: undefined })}
          />
          <span class="muted" role="status">
            {chosen.length ? `Shown: rank ${chosen.join(", ")}` : "None of these ranks has a page here"}
            {without > 0 && ` · ${counted(without, "rank")} without a timeline here`}
          </span>
        </div>
        <Shifts ranks={ranks} chosen={chosen} />
      </section>
      {!window ? (
        <Absent title="No window was recorded">Without one there is nothing to put on a timeline.</Absent>
      ) : (
        chosen.length > 0 && <Waiting of={parts}>{(loaded) => <Joined loaded={loaded} />}</Waiting>
      )}
    </>
  );
}

/** What is added to the times of the ranks that are shown. */
function Shifts({ ranks, chosen }: { ranks: Ranks; chosen: number[] }) {
  const rows = chosen.map((rank) => ranks.rows.find((row) => row.rank === rank)!);
  return (
    <p class="muted">
      Times are those of rank 0's clock.{" "}
      {rows
        .filter((row) => row.clock_source !== "same clock")
        .map(({ rank, clock_offset_ns, clock_uncertainty_ns, clock_source }) => {
          const sure = clock_uncertainty_ns === null ? "uncertainty unknown" : `± ${duration(clock_uncertainty_ns)}`;
          return clock_source === "none"
            ? `Rank ${rank}: not aligned.`
            : `Rank ${rank}: ${clock_offset_ns > 0 ? "+" : ""}${duration(clock_offset_ns)}, ${sure}.`;
        })
        .join(" ")}
    </p>
  );
}

/** A rank's timeline, or the sentence that says why it is not there. */
type Loaded = Part | { rank: number; why: string };

async function partOf({ rows }: Ranks, rank: number, ask: () => Promise<ArrayBuffer>): Promise<Loaded> {
  const row = rows.find((one) => one.rank === rank)!;
  try {
    return { rank, title: `Rank ${rank}`, timeline: decode(await ask()), offsetNs: row.clock_offset_ns };
  } catch (error) {
    if ((error as Error).name === "AbortError") throw error;
    return { rank, why: (error as Error).message };
  }
}

const isPart = (loaded: Loaded): loaded is Part => "timeline" in loaded;

function Joined({ loaded }: { loaded: Loaded[] }) {
  const { palette, place, go, page, window } = useShown();
  const timeline = useMemo(() => joined(loaded), [loaded]);
  const state = useMemo(() => stateOf(place.seen, place.search), [place.seen, place.search]);
  const absent = loaded.flatMap((one) => (isPart(one) ? [] : [`Rank ${one.rank}: ${one.why}`]));
  return (
    <>
      {absent.length > 0 && (
        <p class="card wide" role="alert">
          {absent.join(" ")}
        </p>
      )}
      {timeline && (
        <TimelineView
          timeline={timeline}
          palette={palette}
          state={state}
          onState={(changed) => go(placeOf({ ...state, ...changed }))}
          title={`${page.report.name} window ${window!.window} ranks ${loaded.map(({ rank }) => rank).join("-")}`}
        />
      )}
    </>
  );
}

function joined(loaded: Loaded[]): Timeline | null {
  const parts = loaded.filter(isPart);
  return parts.length ? join(parts) : null;
}
