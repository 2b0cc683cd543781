import { graphql } from "./gql";
import type { AuditEventFilter } from "./gql/graphql";
import { formatCompact, formatCount, formatLatency, formatShare, formatUsd } from "./format";
import { errorText, useAnswer } from "./panel";

const Totals = graphql(`
  query Totals($filter: AuditEventFilter) {
    auditStats(filter: $filter) {
      count
      failedCount
      errorRate
      costUsd
      inputTokens
      outputTokens
      latencyMs {
        p50
        p95
      }
    }
  }
`);

/** The matching events in six numbers. */
export function Headline({ filter, news }: { filter: AuditEventFilter; news: number }) {
  const { data, error } = useAnswer(Totals, { filter }, news);
  // Without groupBy there is exactly one group.
  const total = data?.auditStats[0];
  if (error) return <p class="headline panel error">Could not load the totals: {errorText(error)}</p>;
  const numbers: [string, string | undefined, string?][] = [
    ["Events", total && formatCount(total.count)],
    ["Failed", total && formatCount(total.failedCount), total && formatShare(total.errorRate)],
    ["Median latency", total && formatLatency(total.latencyMs.p50)],
    ["95th percentile", total && formatLatency(total.latencyMs.p95)],
    ["Cost", total && formatUsd(total.costUsd)],
    ["Tokens", total && formatCompact(`${BigInt(total.inputTokens) + BigInt(total.outputTokens)}`)],
  ];
  return (
    <dl class="headline panel" aria-label="Totals">
      {numbers.map(([name, value, detail]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>
            {value ?? <span class="muted">…</span>} {detail && <small>{detail}</small>}
          </dd>
        </div>
      ))}
    </dl>
  );
}
