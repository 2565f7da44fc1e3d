import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { host } from "./host";

/** What is shown, as it stands in the address: a link brings back run, view, window, step, span and search. */
export type Place = Partial<Record<Key, string>>;

export type Key = OfRun | OfTimeline | OfTables | OfRanks;

type OfRun = "run" | "view" | "window" | "part";
type OfTimeline = "step" | "span" | "search" | "start" | "end" | "range";
type OfTables = "tab" | "sort" | "filter";
/** The order and the filter of the ranks, the one that is looked at, those on one timeline and what of it is seen. */
type OfRanks = "order" | "among" | "rank" | "ranks" | "seen";

/** Changes some of the place; undefined takes a key away. A new entry in the history where `push` is set. */
export type Go = (changes: { [key in Key]?: string | undefined }, push?: boolean) => void;

/** What belongs to one window, and not to another run's. */
export const ELSEWHERE = {
  start: undefined,
  end: undefined,
  span: undefined,
  range: undefined,
  step: undefined,
  seen: undefined,
};

const TAB = "#profkit"; // how TensorBoard writes that our tab is shown,
const PREFIX = "p.profkit."; // and what belongs to it

/** The part of a hash that is ours. */
export function placeOf(hash: string): Place {
  const parts = hash.slice(1).split("&");
  const ours = parts.filter((part) => part.startsWith(PREFIX)).map((part) => part.slice(PREFIX.length));
  return Object.fromEntries(new URLSearchParams(ours.join("&")));
}

/** `hash` with our part replaced, what others wrote kept. */
export function hashOf(hash: string, place: Place): string {
  const others = hash
    .slice(1)
    .split("&")
    .filter((part) => part && !part.startsWith(PREFIX));
  const entries = Object.entries(place).filter(([, value]) => value !== undefined && value !== "");
  // URLSearchParams takes what encodeURIComponent throws at: half a surrogate pair, which a name may hold.
  const ours = entries.map(([key, value]) => PREFIX + new URLSearchParams({ [key]: value }));
  return `#${[...others, ...ours].join("&")}`;
}

/** The address of a place, to be opened elsewhere. */
export const linkTo = (place: Place): string => {
  const { href, hash } = (host ?? window).location;
  return href.split("#")[0] + hashOf(hash, place);
};

/** The place in the address, and what changes it. */
export function usePlace(): [Place, Go] {
  const view = host ?? window;
  const [place, show] = useState(() => placeOf(view.location.hash));
  const current = useRef(place);
  const go = useMemo<Go>(
    () => (changes, push) => {
      current.current = { ...current.current, ...changes } as Place;
      write(view, current.current, push);
      show(current.current);
    },
    [],
  );
  useEffect(() => {
    const read = (): void => {
      const { hash } = view.location;
      if (host && !hash.startsWith(TAB)) return; // another tab of TensorBoard's
      if (!hash.includes(PREFIX)) return write(view, current.current);
      show((current.current = placeOf(hash)));
    };
    const events = ["popstate", "hashchange"];
    events.forEach((event) => view.addEventListener(event, read));
    return () => events.forEach((event) => view.removeEventListener(event, read));
  }, []);
  return [place, go];
}

function write(view: Window, place: Place, push = false): void {
  const { hash } = view.location;
  const wanted = hashOf(hash, place);
  if (hash === wanted || (host && !hash.startsWith(TAB))) return;
  try {
    view.history[push ? "pushState" : "replaceState"](view.history.state, "", wanted);
  } catch {
    // A sandboxed frame has no address; the page goes on without one.
  }
}
