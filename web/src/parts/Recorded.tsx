import type { ComponentChildren } from "preact";
import type { Report } from "../data/types";
import { useReport, useShown } from "../shown";
import { Absent, Waiting } from "./Waiting";

/** What needs the report of a window that a profiler recorded, or the sentence that says why there is none. */
export function Recorded({ children }: { children(report: Report): ComponentChildren }) {
  const { window } = useShown();
  const report = useReport();
  if (!window) return <NoWindow />;
  if (window.source === "capture") return <NoProfiler />;
  return <Waiting of={report}>{children}</Waiting>;
}

function NoProfiler() {
  return (
    <Absent title="No profiler recorded this window">
      It holds steps and waits alone. profkit starts the profiler of the framework whose hook is attached: see
      profile(hooks=…), and the notes below for why there was none.
    </Absent>
  );
}

export function NoWindow() {
  const { state } = useShown().page.report;
  return (
    <Absent title="No window was recorded">
      {state === "running"
        ? "It appears here as soon as the first window has been recorded."
        : "Give profkit.profile a schedule whose window lies within the run's steps, and record again."}
    </Absent>
  );
}
