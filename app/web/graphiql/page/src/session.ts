import { createGraphiQLFetcher, type Fetcher } from "@graphiql/toolkit";
import type { FormattedExecutionResult } from "graphql";
import { createClient, type Sink, type Client as Socket, type SubscribePayload } from "graphql-ws";

/** The caller, as the API knows it. */
export interface Viewer {
  tenantId: string;
  tenantName: string;
  subject: string;
  scopes: string[];
  agentId: string | null;
}

/** What the tenant holds that the ready tabs can start with; null where it holds none. */
export interface Examples {
  agentId: string | null;
  traceId: string | null;
  sequence: string | null;
}

export interface Session {
  key: string | null;
  /** Null without a key. */
  viewer: Viewer | null;
  examples: Examples;
  fetcher: Fetcher;
  socket: Socket;
}

// The page is at <prefix>/graphiql, the API beside it.
const ENDPOINT = new URL("graphql", location.href.split(/[?#]/)[0]).href;

const VIEWER = "query Viewer { viewer { tenantId tenantName subject scopes agentId } }";

const EXAMPLES = `
  query Examples {
    failing: auditFacets(dimensions: [AGENT_ID], filter: { status: { eq: FAILED } }, limit: 1) { values { value } }
    acting: auditFacets(dimensions: [AGENT_ID], limit: 1) { values { value } }
    latest: auditEvents(first: 200) { nodes { traceId sequence } }
  }
`;

interface ExamplesData {
  failing: { values: { value: string | null }[] }[];
  acting: { values: { value: string | null }[] }[];
  latest: { nodes: { traceId: string | null; sequence: string | null }[] };
}

/** The key is none, or not one of the server's. */
export class KeyRefused extends Error {}

interface Result<Data> {
  data?: Data | null;
  errors?: ApiError[];
}

interface ApiError {
  message: string;
  extensions?: { code?: string };
}

/** Prove the key, or connect without one; throw an `Error` whose message a person understands. */
export async function connect(given: string | null): Promise<Session> {
  const key = given === null ? null : given.trim().replace(/^Bearer\s+/i, "");
  // What can't be a header would make `fetch` throw words for programmers.
  if (key !== null && !/^[\x21-\x7e]+$/.test(key)) {
    throw new KeyRefused("This is no API key: it is one word of letters, digits, “-” and “_” that starts with kst_.");
  }
  let viewer: Viewer | null = null;
  let examples: Examples = { agentId: null, traceId: null, sequence: null };
  if (key !== null) {
    const { data, errors } = await ask<{ viewer: Viewer }>(key, VIEWER);
    if (!data) throw refusal(errors?.[0]);
    viewer = data.viewer;
    if (viewer.scopes.includes("AUDIT_READ")) examples = chooseExamples((await ask<ExamplesData>(key, EXAMPLES)).data);
  }
  const socket = createClient({
    url: ENDPOINT.replace(/^http/, "ws"),
    // Browsers can't set headers on a WebSocket, so the key goes into the first message.
    connectionParams: key === null ? {} : { authorization: `Bearer ${key}` },
    // A person sees that the connection is gone and runs the operation again; events in between would be lost unseen.
    retryAttempts: 0,
  });
  const fetcher = createGraphiQLFetcher({ url: ENDPOINT, fetch: withKey(key), wsClient: inWords(socket) });
  return { key, viewer, examples, fetcher, socket };
}

function refusal(error: ApiError | undefined): Error {
  const reason = error?.message ?? "it gave no reason";
  if (error?.extensions?.code === "UNAUTHENTICATED") return new KeyRefused(`The server refused this key: ${reason}.`);
  return new Error(`The server could not say whose key this is: ${reason}.`);
}

async function ask<Data>(key: string, query: string): Promise<Result<Data>> {
  const response = await withKey(key)(ENDPOINT, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ query }),
  });
  return (await response.json()) as Result<Data>;
}

/** Return a `fetch` that sends the key, unless a header of the Headers tab says otherwise, and explains its failures. */
function withKey(key: string | null): typeof fetch {
  return async (input, init) => {
    const headers = new Headers(init?.headers);
    if (key !== null && !headers.has("authorization")) headers.set("authorization", `Bearer ${key}`);
    let response: Response;
    try {
      response = await fetch(input, { ...init, headers });
    } catch {
      throw failure(`Nothing answers at ${ENDPOINT}. Is the server running? Reload this page to try again.`);
    }
    if (!/json|multipart/.test(response.headers.get("content-type") ?? "")) {
      throw failure(`${ENDPOINT} answered ${response.status} without JSON. Is a proxy in between?`);
    }
    return response;
  };
}

/** Return the socket with words for the ways in which a subscription ends before it should. */
function inWords(socket: Socket): Socket {
  return {
    ...socket,
    subscribe: <Data, Extensions>(payload: SubscribePayload, sink: Sink<FormattedExecutionResult<Data, Extensions>>) =>
      socket.subscribe<Data, Extensions>(payload, {
        next: (value) => sink.next(value),
        complete: () => sink.complete(),
        error: (reason) => sink.error(reason instanceof CloseEvent ? failure(meaningOf(reason)) : reason),
      }),
  };
}

function meaningOf({ code, reason }: CloseEvent): string {
  if (code === 4403) return "The server refuses subscriptions without a key that is valid, neither revoked nor expired.";
  if (code === 4410) return "The server cut this subscription off, since it took its events too slowly.";
  if (code < 4000) return "The connection was lost. Run the operation again; it goes on after the place you give it.";
  return `The server ended the subscription: ${reason} (${code}).`;
}

/** An error that GraphiQL shows as its message alone, without the stack. */
function failure(message: string): Error {
  return Object.assign(new Error(message), { stack: undefined });
}

/** Take the agent that fails most, the run with the most steps among the last ones, and the end of the log. */
function chooseExamples(data: ExamplesData | null | undefined): Examples {
  const nodes = data?.latest.nodes ?? [];
  const steps = new Map<string, number>();
  for (const { traceId } of nodes) if (traceId !== null) steps.set(traceId, (steps.get(traceId) ?? 0) + 1);
  const traceId = [...steps].reduce<string | null>(
    (best, [run, count]) => (best === null || count > (steps.get(best) ?? 0) ? run : best),
    null,
  );
  const sequences = nodes.flatMap(({ sequence }) => (sequence === null ? [] : [BigInt(sequence)]));
  const last = sequences.reduce<bigint | null>((best, one) => (best === null || one > best ? one : best), null);
  return {
    agentId: data?.failing[0]?.values[0]?.value ?? data?.acting[0]?.values[0]?.value ?? null,
    traceId,
    sequence: last?.toString() ?? null,
  };
}

const STORED = "konstruct-key";

/** The key of this tab, kept until it is closed and seen by no other. */
export function rememberedKey(): string | null {
  return sessionStorage.getItem(STORED);
}

export function rememberKey(key: string): void {
  sessionStorage.setItem(STORED, key);
}

export function forgetKey(): void {
  sessionStorage.removeItem(STORED);
}
