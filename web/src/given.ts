/**
 * What the page gives to the views that are loaded on demand: they take everything of it from here, so that the build
 * can leave it out of their modules.
 */

export { Fragment, h } from "preact";
export { nameOf, rankOf } from "./data/ranks";
export { useLoaded } from "./loaded";
export { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
export { useOpenStep } from "./parts/Breakdown";
export { Copyable } from "./parts/Copyable";
export { Distribution } from "./parts/Distribution";
export { Figure } from "./parts/Figure";
export { Kpi } from "./parts/Kpi";
export { register } from "./parts/OnDemand";
export { median, nearest, ticksOf } from "./parts/scale";
export { useWidth } from "./parts/Series";
export { StackedBar, type Parts } from "./parts/StackedBar";
export { StepSeries } from "./parts/StepSeries";
export { column, Table } from "./parts/Table";
export { Tip } from "./parts/Tip";
export { FindingCard, isOfRanks } from "./parts/Verdict";
export { Absent, Waiting } from "./parts/Waiting";
export { adopt } from "./sheet";
export { useShown } from "./shown";
export { decode } from "./timeline/format";
export { surfaceOf } from "./timeline/scene";
export { TimelineView } from "./timeline/TimelineView";
export { ELSEWHERE } from "./url";
export { count, counted, duration, fixed, percent, ratio, size, sum } from "./units";
export { CLASSES, clean, MEANINGS, plain } from "./words";
