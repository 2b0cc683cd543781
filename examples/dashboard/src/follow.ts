import type { CombinedError } from "@urql/core";
import type { Connection } from "./connection";
import { graphql } from "./gql";
import type { AuditEventFilter, TailEventFragment } from "./gql/graphql";
import { errorText } from "./panel";

export const TailEvent = graphql(`
  fragment TailEvent on AuditEvent {
    id
    createdAt
    actionType
    actionName
    status
    latencyMs
    inputSummary
    error
    sequence
  }
`);

const LogHead = graphql(`
  query LogHead {
    auditEvents(filter: { sequence: { gte: "0" } }, first: 1) {
      nodes {
        sequence
      }
    }
  }
`);

const Latest = graphql(`
  query LatestEvents($filter: AuditEventFilter) {
    auditEvents(filter: $filter, first: 40) {
      nodes {
        ...TailEvent
      }
    }
  }
`);

const Logged = graphql(`
  subscription EventLogged($filter: AuditEventFilter, $afterSequence: BigInt) {
    auditEventLogged(filter: $filter, afterSequence: $afterSequence) {
      ...TailEvent
    }
  }
`);

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;
// A WebSocket is closed with it when the credential is not valid (any more).
const CREDENTIAL_REFUSED = 4403;

/** What a follower tells. */
export interface Listener {
  onEvents: (events: TailEventFragment[]) => void;
  onOpen: () => void;
  /** It goes on by itself, unless `isFinal`. */
  onBreak: (reason: string, isFinal: boolean) => void;
}

/**
 * Follow the trail: the latest events first, then each as it is sealed. Return a function that ends it.
 *
 * After a break it asks for what comes after the last `sequence` it saw, so that nothing is missed. An event may be
 * told twice: among the latest, and again when it is sealed.
 */
export function follow({ client, socket }: Connection, filter: AuditEventFilter, listener: Listener): () => void {
  let afterSequence: string | null = null;
  let pause = FIRST_PAUSE_MS;
  let isOver = false;
  let timer: number | undefined;
  let subscription: { unsubscribe: () => void } | undefined;

  async function begin() {
    // First the place, then the events: what is sealed between the two comes twice instead of never.
    const head = await client.query(LogHead, {}).toPromise();
    const latest = await client.query(Latest, { filter }).toPromise();
    if (isOver) return;
    if (!head.data || !latest.data) return retry((head.error ?? latest.error)!);
    listener.onEvents(latest.data.auditEvents.nodes);
    afterSequence = head.data.auditEvents.nodes[0]?.sequence ?? "-1";
    listen();
  }

  function listen() {
    subscription = client.subscription(Logged, { filter, afterSequence }).subscribe(({ data, error }) => {
      if (isOver) return;
      if (error) return retry(error);
      if (!data) return;
      pause = FIRST_PAUSE_MS;
      afterSequence = data.auditEventLogged.sequence ?? afterSequence;
      listener.onEvents([data.auditEventLogged]);
    });
  }

  function retry(error: CombinedError) {
    // Else urql takes the next subscription with the same variables for this one, which has ended.
    subscription?.unsubscribe();
    // graphql-ws hands on the event with which the socket was closed.
    const code = (error.networkError as { code?: number } | undefined)?.code;
    const isRefused = error.graphQLErrors.some(({ extensions }) => extensions.code === "UNAUTHENTICATED");
    if (isRefused || code === CREDENTIAL_REFUSED) {
      listener.onBreak("the key is no longer valid", true);
      return;
    }
    listener.onBreak(code ? "the connection was lost" : errorText(error), false);
    timer = window.setTimeout(afterSequence === null ? begin : listen, pause);
    pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
  }

  const forget = socket.on("connected", () => {
    pause = FIRST_PAUSE_MS;
    listener.onOpen();
  });
  void begin();
  return () => {
    isOver = true;
    clearTimeout(timer);
    subscription?.unsubscribe();
    forget();
  };
}
