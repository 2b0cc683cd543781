import { Fragment } from "preact";
import { useState } from "preact/hooks";
import { formatCount, formatLatency, formatMoment, formatUsd, formatValue } from "./format";
import { graphql } from "./gql";
import type { AuditEventFilter, EventPageQuery } from "./gql/graphql";
import { Panel, useAnswer } from "./panel";

const EventPage = graphql(`
  query EventPage($filter: AuditEventFilter, $first: Int, $after: String) {
    auditEvents(filter: $filter, first: $first, after: $after) {
      nodes {
        id
        createdAt
        actionType
        actionName
        status
        latencyMs
        costUsd
        inputSummary
        outputSummary
        error
        userId
        agentId
        sessionId
        traceId
        sequence
        metadata
      }
      pageInfo {
        hasNextPage
        endCursor
      }
      totalCount {
        value
        isExact
      }
    }
  }
`);

type Event = EventPageQuery["auditEvents"]["nodes"][number];

const PAGE_SIZE = 15;

/** The matching events, newest first, a page at a time: what comes after the last cursor of the page before. */
export function EventList({ filter, news }: { filter: AuditEventFilter; news: number }) {
  // A cursor belongs to the list that it came from: another filter begins at its first page.
  const [turned, setTurned] = useState<{ filter: AuditEventFilter; cursors: string[] }>({ filter, cursors: [] });
  const cursors = turned.filter === filter ? turned.cursors : [];
  const turnTo = (cursors: string[]) => setTurned({ filter, cursors });
  const [opened, setOpened] = useState<string | null>(null);
  const answer = useAnswer(EventPage, { filter, first: PAGE_SIZE, after: cursors.at(-1) }, news);
  const page = answer.data?.auditEvents;
  const total = page && `${formatCount(`${page.totalCount.value}`)}${page.totalCount.isExact ? "" : "+"} events`;

  return (
    <Panel
      title="Events"
      class="list"
      note={total}
      answer={answer}
      empty={({ auditEvents }) => (auditEvents.nodes.length === 0 ? "No events match." : null)}
    >
      {({ auditEvents: { nodes, pageInfo } }) => (
        <>
          <div class="scroll">
            <table class="events">
              <thead>
                <tr>
                  <th>Recorded</th>
                  <th>Action</th>
                  <th>Name</th>
                  <th>Status</th>
                  <th class="number">Latency</th>
                  <th class="number">Cost</th>
                  <th>Summary</th>
                </tr>
              </thead>
              <tbody>
                {nodes.map((event) => (
                  <Fragment key={event.id}>
                    <Row
                      event={event}
                      isOpen={event.id === opened}
                      onToggle={() => setOpened(event.id === opened ? null : event.id)}
                    />
                    {event.id === opened && <Details event={event} />}
                  </Fragment>
                ))}
              </tbody>
            </table>
          </div>
          <nav aria-label="Pages">
            <span class="muted small">Page {cursors.length + 1}</span>
            <button disabled={cursors.length === 0} onClick={() => turnTo(cursors.slice(0, -1))}>
              ← Previous
            </button>
            <button disabled={!pageInfo.hasNextPage} onClick={() => turnTo([...cursors, pageInfo.endCursor!])}>
              Next →
            </button>
          </nav>
        </>
      )}
    </Panel>
  );
}

function Row({ event, isOpen, onToggle }: { event: Event; isOpen: boolean; onToggle: () => void }) {
  return (
    <tr data-id={event.id} class="event" onClick={onToggle}>
      <td class="time">
        <button class="plain" aria-expanded={isOpen}>
          {formatMoment(event.createdAt)}
        </button>
      </td>
      <td>{formatValue(event.actionType)}</td>
      <td class="name">{event.actionName}</td>
      <td>
        <Status status={event.status} />
      </td>
      <td class="number">{formatLatency(event.latencyMs)}</td>
      <td class="number">{event.costUsd ? formatUsd(event.costUsd) : "–"}</td>
      <td class="summary">{event.error ?? event.inputSummary}</td>
    </tr>
  );
}

function Details({ event }: { event: Event }) {
  const facts: [string, string | null | undefined][] = [
    ["Input", event.inputSummary],
    ["Output", event.outputSummary],
    ["Error", event.error],
    ["User", event.userId],
    ["Session", event.sessionId],
    ["Trace", event.traceId],
    ["Agent", event.agentId],
    ["Place in the sealed log", event.sequence ?? "not sealed yet"],
    ["Metadata", JSON.stringify(event.metadata)],
    ["Id", event.id],
  ];
  return (
    <tr class="details">
      <td colSpan={7}>
        <dl>
          {facts.map(
            ([name, value]) =>
              value != null && (
                <Fragment key={name}>
                  <dt>{name}</dt>
                  <dd>{value}</dd>
                </Fragment>
              ),
          )}
        </dl>
      </td>
    </tr>
  );
}

export const Status = ({ status }: { status: Event["status"] }) => (
  <span class={`status ${status.toLowerCase()}`}>{formatValue(status)}</span>
);
