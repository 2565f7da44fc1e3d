import { NoWindow } from "../parts/Recorded";
import { Waiting } from "../parts/Waiting";
import { useShown } from "../shown";
import { FlameGraph } from "../timeline/FlameGraph";
import { literal } from "../words";
import { rangeOf, useTimeline } from "./TimelinePane";

/** Where the host's time went, by who called what. */
export function Flame() {
  const { window, palette, place, go } = useShown();
  const timeline = useTimeline();
  return (
    <>
      <h1>Flame graph</h1>
      {window ? (
        <Waiting of={timeline}>
          {(value) => (
            <FlameGraph
              timeline={value}
              palette={palette}
              range={rangeOf(place.range)}
              onPick={(name) => go({ view: "timeline", search: literal(name) }, true)}
            />
          )}
        </Waiting>
      ) : (
        <NoWindow />
      )}
    </>
  );
}
