import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Tone } from "../palette";
import { nearest, ticksOf } from "./scale";

export interface Line {
  name: string;
  tone: Tone;
  values: (number | null)[];
  filled?: boolean;
  stepped?: boolean;
}

interface SeriesProps {
  label: string;
  /** Sorted. */
  x: number[];
  lines: Line[];
  /** In words: a value of the x axis, a value of the y axis. */
  showX(value: number): string;
  showY(value: number): string;
  height: number;
  /** Whether the y axis counts bytes. */
  binary?: boolean;
  /** Stretches of x that lie behind the lines, and single places. */
  bands?: [from: number, to: number][];
  marks?: number[];
  /** The pointer's x and what moves it, where several charts have one. */
  pointer?: Pointer;
  pick?(index: number): void;
}

export type Pointer = [x: number | null, point: (x: number | null) => void];

const LEFT = 66; // CSS pixels for the words of the y axis, as all lengths here
const BOTTOM = 22;
const TOP = 6;
const RIGHT = 8;
const FEW = 20; // points are drawn

/** Values over time or steps. The line above says what lies under the pointer; arrow keys move it. */
export function Series(props: SeriesProps) {
  const { x, lines, height, pick, label, pointer } = props;
  const [box, width] = useWidth();
  const own = useState<number | null>(null);
  const [pointed, point] = pointer ?? own;
  const at = pointed === null || !x.length ? null : nearest(x, pointed);
  const scale = scaleOf(props, width);
  const curves = useMemo(() => <Curves lines={lines} x={x} scale={scale} />, [x, lines, width, scale.high]);
  const words = at === null ? "" : wordsAt(props, at);
  const move = ({ offsetX }: MouseEvent): void => point(scale.xAt(offsetX));
  return (
    <div
      class="series"
      tabIndex={0}
      role="application"
      aria-label={`${label}. Arrow keys move${pick ? ", Enter opens the timeline" : ""}. ${words}`}
      onKeyDown={(event) => press(event, props, at, point)}
    >
      <p class="readout">{words || (lines.length > 1 && <Legend lines={lines} />)}</p>
      <div ref={box}>
        <svg
          width={width}
          height={height}
          aria-hidden="true"
          class={pick ? "picks" : ""}
          onMouseMove={move}
          onMouseLeave={() => point(null)}
          onClick={() => at !== null && pick?.(at)}
        >
          <Axes {...props} scale={scale} width={width} />
          {curves}
          {at !== null && <Cursor at={at} {...props} scale={scale} />}
        </svg>
      </div>
    </div>
  );
}

/** A box, and its width in CSS pixels. */
export function useWidth() {
  const box = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const measure = (): void => setWidth(box.current!.clientWidth);
    const observer = new ResizeObserver(measure);
    observer.observe(box.current!);
    measure();
    return () => observer.disconnect();
  }, []);
  return [box, width] as const;
}

interface Scale {
  first: number;
  last: number;
  high: number;
  placeX(value: number): number;
  placeY(value: number): number;
  xAt(place: number): number;
}

function scaleOf({ x, lines, height }: SeriesProps, width: number): Scale {
  const [first, last] = [x[0] ?? 0, x.at(-1) ?? 1];
  const span = last - first || 1;
  const room = Math.max(width - LEFT - RIGHT, 1);
  const most = Math.max(0, ...lines.map(({ values }) => values.reduce<number>((a, b) => Math.max(a, b ?? 0), 0)));
  return {
    first,
    last,
    high: 1.06 * most,
    placeX: (value) => LEFT + ((value - first) / span) * room,
    placeY: (value) => TOP + (1 - value / (1.06 * most || 1)) * (height - TOP - BOTTOM),
    xAt: (place) => first + ((place - LEFT) / room) * span,
  };
}

function Axes({
  scale,
  width,
  height,
  binary,
  showX,
  showY,
  bands,
  marks,
}: SeriesProps & { scale: Scale; width: number }) {
  const { first, last, high, placeX, placeY } = scale;
  const [top, bottom] = [TOP, height - BOTTOM];
  return (
    <>
      {bands?.map(([from, to]) => (
        <rect
          key={from}
          class="band"
          x={placeX(from) - 2}
          width={placeX(to) - placeX(from) + 4}
          y={top}
          height={bottom - top}
        />
      ))}
      {ticksOf(0, high, (bottom - top) / 40, binary).map((value) => (
        <g key={value}>
          <line class="grid" x1={LEFT} x2={width - RIGHT} y1={placeY(value)} y2={placeY(value)} />
          <text class="left" x={LEFT - 8} y={placeY(value) + 4}>
            {showY(value)}
          </text>
        </g>
      ))}
      {ticksOf(first, last, Math.max(width - LEFT, 0) / 110).map((value) => (
        <text key={value} x={Math.min(placeX(value), width - 24)} y={height - 5}>
          {showX(value)}
        </text>
      ))}
      {marks?.map((value) => (
        <line key={value} class="at" x1={placeX(value)} x2={placeX(value)} y1={top} y2={bottom} />
      ))}
    </>
  );
}

function Curves({ lines, x, scale }: { lines: Line[]; x: number[]; scale: Scale }) {
  return (
    <>
      {lines.map((line) => {
        const path = pathOf(line, x, scale);
        const colour = `var(--${line.tone})`;
        return (
          <g key={line.name} stroke={colour} fill={colour}>
            {line.filled && <path class="fill" d={`${path}V${scale.placeY(0)}H${scale.placeX(scale.first)}Z`} />}
            <path class="line" d={path} />
            {x.length < FEW &&
              line.values.map(
                (value, i) =>
                  value !== null && <circle key={i} r={2.5} cx={scale.placeX(x[i])} cy={scale.placeY(value)} />,
              )}
          </g>
        );
      })}
    </>
  );
}

/** The line as SVG's path; it is broken where a value is unknown. */
function pathOf({ values, stepped }: Line, x: number[], { placeX, placeY }: Scale): string {
  let isDrawn = false;
  const parts = values.map((value, i) => {
    if (value === null) {
      isDrawn = false;
      return "";
    }
    const [px, py] = [placeX(x[i]).toFixed(1), placeY(value).toFixed(1)];
    const part = !isDrawn ? `M${px} ${py}` : stepped ? `H${px}V${py}` : `L${px} ${py}`;
    isDrawn = true;
    return part;
  });
  return parts.join("");
}

function Cursor({ at, x, lines, scale, height }: SeriesProps & { at: number; scale: Scale }) {
  const place = scale.placeX(x[at]);
  return (
    <>
      <line class="at" x1={place} x2={place} y1={TOP} y2={height - BOTTOM} />
      {lines.map(
        ({ name, tone, values }) =>
          values[at] !== null && (
            <circle key={name} r={4} cx={place} cy={scale.placeY(values[at])} fill={`var(--${tone})`} />
          ),
      )}
    </>
  );
}

function wordsAt({ x, lines, showX, showY }: SeriesProps, at: number): string {
  const values = lines.map(({ name, values }) => `${name} ${values[at] === null ? "unknown" : showY(values[at])}`);
  return `${showX(x[at])}: ${values.join(", ")}`;
}

function Legend({ lines }: { lines: Line[] }) {
  return (
    <>
      {lines.map(({ name, tone }) => (
        <span key={name} class="key">
          <i class={`area ${tone}`} /> {name}
        </span>
      ))}
    </>
  );
}

function press(event: KeyboardEvent, { x, pick }: SeriesProps, at: number | null, point: Pointer[1]): void {
  const by = { ArrowRight: 1, ArrowLeft: -1, PageDown: 10, PageUp: -10 }[event.key];
  if (event.key === "Enter" && at !== null) pick?.(at);
  if (!by) return;
  point(x[Math.min(Math.max((at ?? -by) + by, 0), x.length - 1)]);
  event.preventDefault();
}
