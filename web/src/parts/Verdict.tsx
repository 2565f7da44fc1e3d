import type { Finding } from "../data/types";
import { useShown } from "../shown";
import { ratio } from "../units";
import { plain, valued } from "../words";
import { Copyable } from "./Copyable";

/** The verdict as the largest text there is, and a card for each finding. */
export function Verdict() {
  const { page } = useShown();
  const { headline, findings, steps, state } = page.report;
  return (
    <section class={findings.length ? "verdict found" : steps ? "verdict fine" : "verdict"} aria-label="Verdict">
      <h1>
        <Unbroken text={headline} />
      </h1>
      {!steps && <p>{adviceWithoutSteps(state)}</p>}
      {findings.map((finding) => (
        <FindingCard key={finding.cause} finding={finding} isHeadline={finding.message === headline} />
      ))}
      {steps > 0 && <p class="muted">Judged on {page.report.measured_on}.</p>}
    </section>
  );
}

/** The text with each number beside its unit, wherever the line breaks. */
function Unbroken({ text }: { text: string }) {
  const parts = text.split(/(\d\S* (?:%|[nµm]?s|[KMGT]?i?B)(?!\w))/);
  return <>{parts.map((part, index) => (index % 2 ? <span class="unbroken">{part}</span> : part))}</>;
}

const adviceWithoutSteps = (state: string): string =>
  state === "running"
    ? "The first steps appear here as soon as they have ended."
    : "Mark the steps with run.step() or @profkit.step, or let a framework's callback do it, and record again.";

interface FindingProps {
  finding: Finding;
  isHeadline: boolean;
  /** Shows what a cause rests on, in the view that has its card. */
  look?(cause: string): void;
}

/** Whether ranks hold each other up; all other causes are the input's. */
export const isOfRanks = ({ cause }: Finding): boolean => /^(straggler|communication)/.test(cause);

export function FindingCard({ finding, isHeadline, look }: FindingProps) {
  const { go } = useShown();
  const { cause, message, remedy, predicted_speedup, confidence, evidence } = finding;
  const [view, title] = isOfRanks(finding) ? ["ranks", "Ranks"] : ["data", "Data loading"];
  const open = look ?? (() => go({ view, part: cause }, true));
  return (
    <article class="finding">
      {!isHeadline && <h2>{message}</h2>}
      <p class="label">What to change</p>
      <Copyable text={remedy} />
      <p>
        {predicted_speedup === null ? (
          "Nobody can say what it gains"
        ) : (
          <>
            Predicted: <strong>{ratio(predicted_speedup)} faster</strong> at best
          </>
        )}
        {" · "}confidence {confidence}
        {" · "}
        <button class="link" onClick={() => open(cause)}>
          {look ? "Look into it" : `Look into it: ${title}`}
        </button>
      </p>
      <details>
        <summary>Evidence</summary>
        <dl class="facts">
          {Object.entries(evidence).map(([name, value]) => (
            <div key={name}>
              <dt>{plain(name)}</dt>
              <dd>{valued(name, value)}</dd>
            </div>
          ))}
        </dl>
      </details>
    </article>
  );
}
