import { useMemo, useState } from "preact/hooks";
import type { Palette, Tone } from "../palette";
import { counted, duration } from "../units";
import type { Chart } from "./chart";
import { chromeTrace } from "./chrometrace";
import { canOpenPerfetto, download, openInPerfetto } from "./perfetto";
import { complaint } from "./search";
import { toneOfLabel } from "./tone";

interface ToolbarProps {
  chart: Chart;
  palette: Palette;
  search: { current: HTMLInputElement | null };
  selects: boolean;
  setSelects(selects: boolean): void;
  title: string;
}

export function Toolbar({ chart, palette, search, selects, setSelects, title }: ToolbarProps) {
  return (
    <div class="bar">
      <Search chart={chart} field={search} />
      <div class="tabs">
        <Button name="Zoom in (w)" onClick={() => chart.zoom(0.6)}>
          +
        </Button>
        <Button name="Zoom out (s)" onClick={() => chart.zoom(1 / 0.6)}>
          −
        </Button>
        <Button name="Fit everything (0)" onClick={() => chart.fitAll()}>
          Fit
        </Button>
        <button
          aria-pressed={selects}
          title="Drag to select a range of time; also with the shift key, or on the ruler"
          onClick={() => setSelects(!selects)}
        >
          Select range
        </button>
      </div>
      <Exports chart={chart} title={title} />
      <Legend chart={chart} palette={palette} />
    </div>
  );
}

function Button({ name, onClick, children }: { name: string; onClick(): void; children: string }) {
  return (
    <button title={name} aria-label={name} onClick={onClick}>
      {children}
    </button>
  );
}

function Search({ chart, field }: { chart: Chart; field: { current: HTMLInputElement | null } }) {
  const problem = complaint(chart.search);
  const { hits } = chart;
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key === "Enter") chart.toHit(event.shiftKey ? -1 : 1);
    if (event.key === "Escape") chart.look("");
  };
  return (
    <div class="tabs">
      <input
        ref={field}
        type="search"
        class="search"
        value={chart.search}
        placeholder="Search, e.g. conv|linear"
        aria-label="Search names of spans, a regular expression"
        aria-invalid={problem !== null}
        onInput={(event) => chart.look(event.currentTarget.value)}
        onKeyDown={onKeyDown}
      />
      <Button name="Previous hit (N)" onClick={() => chart.toHit(-1)}>
        ‹
      </Button>
      <Button name="Next hit (n)" onClick={() => chart.toHit(1)}>
        ›
      </Button>
      <output class="muted" title="The sum of their durations">
        {problem ?? (hits ? `${counted(hits.calls, "hit")}, ${duration(hits.time)}` : "")}
      </output>
    </div>
  );
}

function Exports({ chart, title }: { chart: Chart; title: string }) {
  const [isBusy, setBusy] = useState(false);
  const [problem, complain] = useState("");
  const run = (use: (blob: Promise<Blob>) => Promise<void>): void => {
    setBusy(true);
    complain("");
    use(chromeTrace(chart.timeline))
      .catch((error: Error) => complain(error.message))
      .finally(() => setBusy(false));
  };
  return (
    <div class="tabs">
      <button disabled={isBusy} onClick={() => run((blob) => download(blob, `${title}.trace.json`))}>
        Download for Perfetto
      </button>
      {canOpenPerfetto() && (
        <button disabled={isBusy} onClick={() => run((blob) => openInPerfetto(blob, title))}>
          Open in Perfetto
        </button>
      )}
      <output class="muted">{problem}</output>
    </div>
  );
}

/** The colours and what they mean; a click hides what has one. */
function Legend({ chart, palette }: { chart: Chart; palette: Palette }) {
  const t = chart.timeline;
  const tones = useMemo(() => {
    const used = new Set(t.labels.name.map((_, label) => toneOfLabel(t, label)));
    return (Object.keys(palette.tones) as Tone[]).filter((tone) => used.has(tone));
  }, [t]);
  const toggle = (tone: Tone): void => {
    const hidden = new Set(chart.hidden);
    if (!hidden.delete(tone)) hidden.add(tone);
    chart.hide(hidden);
  };
  return (
    <div class="tl-legend" role="group" aria-label="Colours; press one to dim what has it">
      {tones.map((tone) => (
        <button key={tone} class="quiet" aria-pressed={!chart.hidden.has(tone)} onClick={() => toggle(tone)}>
          <i style={{ background: palette.tones[tone] }} />
          {tone.replace("_", " ")}
        </button>
      ))}
    </div>
  );
}
