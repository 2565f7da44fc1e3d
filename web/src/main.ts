import { createElement, render as mount } from "preact";
import { App } from "./app";
import { embedded, hasEmbedded } from "./data/embedded";
import type { Source } from "./data/source";
import { tensorboard } from "./data/tensorboard";
import * as given from "./given";
import pageCss from "./page.css";
import { adopt } from "./sheet";
import timelineCss from "./timeline/timeline.css";

/** TensorBoard calls it once it has made the tab's frame. */
export function render(): void {
  show(tensorboard());
}

function show(source: Source): void {
  [pageCss, timelineCss].forEach(adopt);
  document.documentElement.lang = "en";
  document.title ||= "profkit"; // TensorBoard's frame has none
  const root = document.body.appendChild(document.createElement("div"));
  root.id = "profkit";
  mount(createElement(App, { source }), root);
}

Object.assign(globalThis, { profkit: given });
if (hasEmbedded()) show(embedded());
