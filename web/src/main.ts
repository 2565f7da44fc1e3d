import { createElement, render as mount } from "preact";
import { App } from "./app";
import { embedded, hasEmbedded } from "./data/embedded";
import type { Source } from "./data/source";
import { tensorboard } from "./data/tensorboard";
import pageCss from "./page.css";
import timelineCss from "./timeline/timeline.css";

/** TensorBoard calls it once it has made the tab's frame. */
export function render(): void {
  show(tensorboard());
}

function show(source: Source): void {
  for (const css of [pageCss, timelineCss]) {
    const sheet = new CSSStyleSheet(); // the report's policy forbids style elements
    sheet.replaceSync(css);
    document.adoptedStyleSheets.push(sheet);
  }
  document.documentElement.lang = "en";
  document.title ||= "profkit"; // TensorBoard's frame has none
  const root = document.body.appendChild(document.createElement("div"));
  root.id = "profkit";
  mount(createElement(App, { source }), root);
}

if (hasEmbedded()) show(embedded());
