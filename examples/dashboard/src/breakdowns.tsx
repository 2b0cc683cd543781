import { graphql } from "./gql";
import type { AuditEventFilter } from "./gql/graphql";
import { formatCount, formatShare, formatUsd } from "./format";
import { Panel, useAnswer } from "./panel";

const ByTool = graphql(`
  query ErrorsByTool($filter: AuditEventFilter) {
    auditStats(filter: $filter, groupBy: [ACTION_NAME]) {
      key {
        value
      }
      count
      failedCount
      errorRate
    }
  }
`);

const ByModel = graphql(`
  query CostByModel($filter: AuditEventFilter) {
    auditStats(filter: $filter, groupBy: [ACTION_NAME]) {
      key {
        value
      }
      count
      costUsd
    }
  }
`);

interface Asked {
  filter: AuditEventFilter;
  news: number;
}

/** Which tools fail, and how often. */
export function ErrorsByTool({ filter, news }: Asked) {
  const tools = { and: [filter, { actionType: { eq: "TOOL_INVOCATION" as const } }] };
  const answer = useAnswer(ByTool, { filter: tools }, news);
  return (
    <Panel
      title="Errors by tool"
      note="failed, of all invocations"
      answer={answer}
      empty={({ auditStats }) =>
        auditStats.length === 0
          ? "No tool invocations match."
          : auditStats.every((tool) => tool.failedCount === "0")
            ? "No tool failed."
            : null
      }
    >
      {({ auditStats }) => (
        <Bars
          rows={auditStats
            .filter((tool) => tool.failedCount !== "0")
            .map((tool) => ({
              name: tool.key[0]?.value ?? "(no name)",
              size: Number(tool.failedCount),
              value: `${formatCount(tool.failedCount)} of ${formatCount(tool.count)}`,
              detail: formatShare(tool.errorRate),
            }))}
          color="var(--failed)"
        />
      )}
    </Panel>
  );
}

/** What each model cost. */
export function CostByModel({ filter, news }: Asked) {
  const calls = { and: [filter, { actionType: { eq: "LLM_CALL" as const } }] };
  const answer = useAnswer(ByModel, { filter: calls }, news);
  return (
    <Panel
      title="Cost by model"
      note="US dollars, LLM calls"
      answer={answer}
      empty={({ auditStats }) => (auditStats.length === 0 ? "No LLM calls match." : null)}
    >
      {({ auditStats }) => (
        <Bars
          rows={auditStats.map((model) => ({
            name: model.key[0]?.value ?? "(no name)",
            size: Number(model.costUsd),
            value: formatUsd(model.costUsd),
            detail: `${formatCount(model.count)} calls`,
          }))}
          color="var(--accent)"
        />
      )}
    </Panel>
  );
}

interface Row {
  name: string;
  size: number;
  value: string;
  detail: string;
}

const MOST_ROWS = 8;

function Bars({ rows, color }: { rows: Row[]; color: string }) {
  const sorted = rows.toSorted((one, other) => other.size - one.size).slice(0, MOST_ROWS);
  const longest = sorted[0]?.size || 1;
  return (
    <table class="bars" style={{ "--bar": color }}>
      <tbody>
        {sorted.map((row) => (
          <tr key={row.name}>
            <th scope="row">
              {row.name}
              <span class="bar" style={{ width: `${(100 * row.size) / longest}%` }} />
            </th>
            <td>{row.value}</td>
            <td class="muted">{row.detail}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
