import { useEffect, useState } from "preact/hooks";
import type { Connection } from "./connection";
import { Status } from "./event-list";
import { follow } from "./follow";
import { formatLatency, formatMoment, formatRecent } from "./format";
import type { AuditEventFilter, TailEventFragment } from "./gql/graphql";

const MOST_ROWS = 100;

interface Props {
  connection: Connection;
  filter: AuditEventFilter;
  /** Called when an event came in. */
  onEvent: () => void;
}

/** The matching events as they are sealed, the newest on top. */
export function LiveTail({ connection, filter, onEvent }: Props) {
  const [events, setEvents] = useState<TailEventFragment[] | null>(null);
  const [state, setState] = useState({ name: "waiting", text: "Connecting …" });

  useEffect(() => {
    setEvents(null);
    let isFirst = true;
    return follow(connection, filter, {
      onEvents(added) {
        setEvents((shown) => {
          const known = new Set(shown?.map((event) => event.id));
          return [...added.filter((event) => !known.has(event.id)), ...(shown ?? [])].slice(0, MOST_ROWS);
        });
        if (!isFirst) onEvent();
        isFirst = false;
      },
      onOpen: () => setState({ name: "live", text: "Live" }),
      onBreak: (reason, isFinal) =>
        setState({ name: "broken", text: isFinal ? `Ended: ${reason}.` : `Reconnecting: ${reason}` }),
    });
  }, [connection, filter]);

  return (
    <section class="panel tail" aria-label="Live tail">
      <header>
        <h2>Live tail</h2>
        <span class={`live small ${state.name}`} role="status">
          {state.text}
        </span>
      </header>
      {events === null ? (
        <p class="state muted">Loading …</p>
      ) : events.length === 0 ? (
        <p class="state muted">No events match yet. New ones appear here about a second after they were recorded.</p>
      ) : (
        <ol>
          {events.map((event) => (
            <li key={event.id} data-id={event.id}>
              <span class="first">
                <time class="muted" title={formatMoment(event.createdAt)}>{formatRecent(event.createdAt)}</time>
                <strong>{event.actionName}</strong>
                {event.status !== "SUCCEEDED" && <Status status={event.status} />}
                <span class="muted number">{formatLatency(event.latencyMs)}</span>
              </span>
              <span class="summary muted">{event.error ?? event.inputSummary}</span>
            </li>
          ))}
        </ol>
      )}
    </section>
  );
}
