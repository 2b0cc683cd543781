import { formatLatency } from "./format";
import { graphql } from "./gql";
import type { AuditEventFilter } from "./gql/graphql";
import { Panel, useAnswer } from "./panel";
import { TimeChart } from "./time-chart";

const Series = graphql(`
  query OverTime($filter: AuditEventFilter, $timezone: String) {
    auditTimeSeries(filter: $filter, timezone: $timezone) {
      startAt
      endAt
      count
      failedCount
      latencyP50Ms
      latencyP95Ms
    }
  }
`);

const timezone = Intl.DateTimeFormat().resolvedOptions().timeZone;

/** Latency and counts over time, from one answer. */
export function OverTime({ filter, news }: { filter: AuditEventFilter; news: number }) {
  const answer = useAnswer(Series, { filter, timezone }, news);
  const buckets = answer.data?.auditTimeSeries ?? [];
  const times = buckets.map((bucket) => Date.parse(bucket.startAt) / 1000);
  const first = buckets[0];
  const note = first && `each ${duration(Date.parse(first.endAt) - Date.parse(first.startAt))}`;
  const empty = () => (buckets.every((bucket) => bucket.count === "0") ? "No events match." : null);

  return (
    <>
      <Panel
        title="Latency"
        note={note}
        answer={answer}
        empty={() =>
          empty() ?? (buckets.every((bucket) => bucket.latencyP50Ms == null) ? "No event says how long it took." : null)
        }
      >
        {() => (
          <TimeChart
            times={times}
            kind="lines"
            isLogarithmic
            format={formatLatency}
            series={[
              { label: "p95", color: "--accent-2", values: buckets.map((bucket) => bucket.latencyP95Ms ?? null) },
              { label: "p50", color: "--accent", values: buckets.map((bucket) => bucket.latencyP50Ms ?? null) },
            ]}
          />
        )}
      </Panel>
      <Panel title="Events over time" note={note} answer={answer} empty={empty}>
        {() => (
          <TimeChart
            times={times}
            kind="bars"
            format={String}
            series={[
              { label: "All", color: "--accent", values: buckets.map((bucket) => Number(bucket.count)) },
              { label: "Failed", color: "--failed", values: buckets.map((bucket) => Number(bucket.failedCount)) },
            ]}
          />
        )}
      </Panel>
    </>
  );
}

const UNITS: [number, string][] = [
  [86_400_000, "day"],
  [3_600_000, "hour"],
  [60_000, "minute"],
  [1000, "second"],
];

function duration(ms: number): string {
  const [size, name] = UNITS.find(([unit]) => ms >= unit) ?? UNITS[3]!;
  const count = Math.round(ms / size);
  return count === 1 ? name : `${count} ${name}s`;
}
