/** Whether an answer is all there is, as the ledger knows it. */

import { Link } from "wouter";
import { count } from "../format";
import type { Completeness } from "../history";

export function Known({ known }: { known: Completeness | undefined }) {
  if (!known) return null;
  if (known.complete) return <span className="signal good small">complete: nothing is missing in it</span>;
  const lacks = [
    [known.missing, "missing"],
    [known.lost, "lost, signed off"],
    [known.inFlight, "on their way"],
  ] as const;
  const said = lacks.flatMap(([n, word]) => (n ? [`${count(n)} ${word}`] : []));
  const first = known.services[0];
  return (
    <span className="signal warn small" role="status">
      not complete: {said.join(", ") || "what is on its way is not known"}
      {first && (
        <Link href={`/services/${encodeURIComponent(first.service)}`}>
          <bdi>{first.service}</bdi>
          {known.services.length > 1 && ` and ${count(known.services.length - 1)} more`}
        </Link>
      )}
    </span>
  );
}
