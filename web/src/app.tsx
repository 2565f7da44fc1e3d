import { useEffect, useMemo, useState } from "preact/hooks";
import { newestOf } from "./data/ranks";
import type { Source } from "./data/source";
import type { Page, RunEntry, WindowEntry } from "./data/types";
import { watchDark } from "./host";
import { Cache, useLoaded } from "./loaded";
import { dark, light, type Palette } from "./palette";
import { Footer } from "./parts/Footer";
import { Guard } from "./parts/Guard";
import { Header } from "./parts/Header";
import { Keys } from "./parts/Keys";
import { Navigation } from "./parts/Navigation";
import { Waiting } from "./parts/Waiting";
import { ShownContext, type Shown } from "./shown";
import { usePlace, type Go, type Place } from "./url";
import { VIEWS, type View } from "./views/registry";
import { clean } from "./words";

/** The page: header, navigation, one view, footer. */
export function App({ source }: { source: Source }) {
  const cache = useMemo(() => new Cache(), [source]);
  const palette = usePalette();
  const news = useNews(source);
  const runs = useLoaded(cache, "runs", `${news}`, (signal) => source.runs(signal));
  if (runs.value) return <Chosen {...{ source, cache, palette, runs: runs.value }} />;
  return (
    <main>
      <Waiting of={runs}>{() => null}</Waiting>
    </main>
  );
}

/** Counts how often there may have been something new. */
function useNews(source: Source): number {
  const [news, hear] = useState(0);
  useEffect(() => source.watch(() => hear((times) => times + 1)), [source]);
  return news;
}

function usePalette(): Palette {
  const [palette, paint] = useState(light);
  useEffect(() => watchDark((isDark) => paint(isDark ? dark : light)), []);
  useEffect(() => {
    const { tones, dark: isDark, ...colours } = palette;
    const { style } = document.documentElement;
    for (const [name, colour] of Object.entries({ ...colours, ...tones })) style.setProperty(`--${name}`, colour);
    style.setProperty("color-scheme", isDark ? "dark" : "light");
  }, [palette]);
  return palette;
}

interface ChosenProps {
  source: Source;
  cache: Cache;
  palette: Palette;
  runs: RunEntry[];
}

/** The run, window and view that the address names, or the newest run and its first window. */
function Chosen({ runs, ...given }: ChosenProps) {
  const { source, cache } = given;
  const [place, go] = usePlace();
  const entry = runs.find(({ run }) => run === place.run) ?? (place.run ? undefined : newestOf(runs));
  const run = entry?.run ?? place.run ?? "";
  const subject = entry ? `page ${run}` : null;
  const page = useLoaded(cache, subject, entry?.version ?? "", (signal) => source.page(run, signal));
  const view = VIEWS.find(({ id }) => id === place.view) ?? VIEWS[0];
  const window = windowOf(page.value, place);
  const [showsKeys, showKeys] = useState(false);
  useEffect(() => go({ run, view: view.id }), [run, view]);
  useKeys(go, () => showKeys(true));
  return (
    <>
      <Header {...{ runs, run, go, window }} page={page.value} showKeys={() => showKeys(true)} />
      <Navigation {...{ view, place, go }} />
      {page.value ? (
        <Body shown={{ ...given, place, go, runs, run, page: page.value, window }} view={view} />
      ) : (
        <main>{entry ? <Waiting of={page}>{() => null}</Waiting> : <NoRun run={run} />}</main>
      )}
      {showsKeys && <Keys close={() => showKeys(false)} />}
    </>
  );
}

const windowOf = (page: Page | undefined, { window }: Place): WindowEntry | null =>
  page?.windows.find((entry) => `${entry.window}` === window) ?? page?.windows[0] ?? null;

function Body({ shown, view }: { shown: Shown; view: View }) {
  return (
    <ShownContext.Provider value={shown}>
      <main class={view.id}>
        <Guard key={`${view.id} ${shown.run}`}>
          <view.component />
        </Guard>
      </main>
      <Footer />
    </ShownContext.Provider>
  );
}

function NoRun({ run }: { run: string }) {
  return (
    <>
      <h1>{run ? "There is no such run" : "There is no run yet"}</h1>
      <p>
        {run
          ? `No run is called ${clean(run)}. Choose one above.`
          : "Runs appear here once profkit has recorded a step."}
      </p>
    </>
  );
}

/** Keys that work everywhere but in what is typed into. */
function useKeys(go: Go, showKeys: () => void): void {
  useEffect(() => {
    const press = (event: KeyboardEvent): void => {
      const isTyped = event.target instanceof Element && event.target.closest("input, textarea, select, dialog");
      if (isTyped || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
      const view = VIEWS[Number(event.key) - 1];
      if (view) go({ view: view.id }, true);
      else if (event.key === "?") showKeys();
      else if (event.key === "/") document.querySelector<HTMLElement>("main input[type=search]")?.focus();
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
}
