import { clean } from "../words";

/** Text on the canvas, cut to fit. Measuring is dear, so that each character is measured once. */

const LONGEST = 500; // characters of a name on the widest screen
const FONT = "system-ui, sans-serif";
const ELLIPSIS = "…";

export const fontOf = (size: number, weight = 400): string => `${weight} ${size}px ${FONT}`;

const widths = new Map<string, number>();

function widthOf(context: CanvasRenderingContext2D, character: string): number {
  let width = widths.get(character);
  if (width === undefined) {
    width = context.measureText(character).width;
    if (widths.size < 5_000) widths.set(character, width);
  }
  return width;
}

const texts = new Map<string, string>();

/** What of a name can be drawn at all. */
function cleaned(name: string): string {
  let text = texts.get(name);
  if (text === undefined) {
    text = clean(name.slice(0, LONGEST));
    if (texts.size < 50_000) texts.set(name, text);
  }
  return text;
}

/** As much of `name` as `room` pixels hold, in the font of 11 pixels; empty where that is next to nothing. */
export function fitted(context: CanvasRenderingContext2D, name: string, room: number): string {
  const text = cleaned(name);
  const ellipsis = widthOf(context, ELLIPSIS);
  let used = 0;
  let length = 0;
  let fits = 0; // so much leaves room for an ellipsis
  for (const character of text) {
    used += widthOf(context, character);
    length += character.length;
    if (used + ellipsis <= room) fits = length;
    if (used > room) return fits > 2 ? text.slice(0, fits) + ELLIPSIS : "";
  }
  return text;
}
