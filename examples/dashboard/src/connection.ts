import { Client, fetchExchange, subscriptionExchange } from "@urql/core";
import { createClient, type Client as Socket } from "graphql-ws";
import { graphql } from "./gql";
import type { ViewerQuery } from "./gql/graphql";

/** Where the API is, and the key to it. */
export interface Credentials {
  url: string;
  apiKey: string;
}

export interface Connection {
  client: Client;
  /** The WebSocket below the subscriptions, to tell whether it is open. */
  socket: Socket;
  viewer: ViewerQuery["viewer"];
  close: () => void;
}

const Viewer = graphql(`
  query Viewer {
    viewer {
      tenantName
      subject
      scopes
    }
  }
`);

/** Connect and prove the key; throw an `Error` whose message a person understands. */
export async function connect({ url, apiKey }: Credentials): Promise<Connection> {
  const authorization = `Bearer ${apiKey}`;
  const socket = createClient({
    url: url.replace(/^http/, "ws"),
    // Browsers can't set headers on a WebSocket, so the key goes into the first message.
    connectionParams: { authorization },
    // A retry of graphql-ws would repeat the first `afterSequence`; follow.ts knows how far it has come.
    retryAttempts: 0,
  });
  const client = new Client({
    url,
    preferGetMethod: false,
    fetchOptions: { headers: { authorization } },
    exchanges: [
      fetchExchange,
      subscriptionExchange({
        forwardSubscription: ({ query, variables }) => ({
          subscribe: (sink) => ({ unsubscribe: socket.subscribe({ query: query ?? "", variables }, sink) }),
        }),
      }),
    ],
  });
  const { data, error } = await client.query(Viewer, {}).toPromise();
  if (error?.networkError && !error.response) {
    throw new Error(
      `Nothing answers at ${url}, or it does not let this page in. Is the server running, with` +
        ` KONSTRUCT_CORS_ORIGINS=${location.origin}?`,
    );
  }
  if (!data) throw new Error(error?.graphQLErrors[0]?.message ?? `There is no GraphQL API at ${url}.`);
  if (!data.viewer.scopes.includes("AUDIT_READ")) {
    throw new Error(`The key “${data.viewer.subject}” may not read the trail: it lacks the scope AUDIT_READ.`);
  }
  return { client, socket, viewer: data.viewer, close: () => void socket.dispose() };
}

const STORED = "konstruct-credentials";

/** The credentials of this tab, kept until it is closed and seen by no other. */
export function rememberedCredentials(): Credentials | null {
  const text = sessionStorage.getItem(STORED);
  return text === null ? null : (JSON.parse(text) as Credentials);
}

export function rememberCredentials(credentials: Credentials): void {
  sessionStorage.setItem(STORED, JSON.stringify(credentials));
}

export function forgetCredentials(): void {
  sessionStorage.removeItem(STORED);
}
