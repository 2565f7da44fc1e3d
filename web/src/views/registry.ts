import type { ComponentType } from "preact";
import { onDemand } from "../parts/OnDemand";
import { Flame } from "./Flame";
import { Memory } from "./Memory";
import { Operators } from "./Operators";
import { Overview } from "./Overview";
import { TimelinePane } from "./TimelinePane";

export interface View {
  id: string;
  title: string;
  component: ComponentType;
}

/** The views, in the order of the navigation and of the keys 1, 2, … */
export const VIEWS: View[] = [
  { id: "overview", title: "Overview", component: Overview },
  { id: "timeline", title: "Timeline", component: TimelinePane },
  { id: "operators", title: "Operators", component: Operators },
  { id: "flame", title: "Flame graph", component: Flame },
  { id: "memory", title: "Memory", component: Memory },
  { id: "data", title: "Data loading", component: onDemand("loading") },
  { id: "ranks", title: "Ranks", component: onDemand("ranks") },
];
