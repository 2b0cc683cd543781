// A subscription, a mutation that it must see, and a query that must find it. Prints one line of JSON.
import { Client, type AnyVariables, type OperationResult, fetchExchange, subscriptionExchange } from "@urql/core";
import { createClient } from "graphql-ws";
import { graphql } from "./gql/gql.ts";

const LAST = graphql(`
  query LastSequence {
    auditEvents(first: 1) {
      totalCount {
        value
      }
    }
  }
`);

const LOG = graphql(`
  mutation LogToolCall($input: LogToolCallInput!) {
    logToolCall(input: $input) {
      outcome
      event {
        id
        metadata
        latencyMs
      }
      userErrors {
        code
        message
      }
    }
  }
`);

const FIND = graphql(`
  query Find($filter: AuditEventFilter) {
    auditEvents(first: 10, filter: $filter) {
      nodes {
        id
        actionName
        status
      }
    }
  }
`);

const FOLLOW = graphql(`
  subscription Follow($filter: AuditEventFilter) {
    auditEventLogged(afterSequence: -1, filter: $filter) {
      id
      sequence
      actionName
    }
  }
`);

const url = process.env["KONSTRUCT_URL"] ?? "";
const authorization = `Bearer ${process.env["KONSTRUCT_KEY"] ?? ""}`;
const toolName = process.env["TOOL_NAME"] ?? "";
const PATIENCE_MS = 30_000;

const socket = createClient({
  url: url.replace("http", "ws"),
  connectionParams: { Authorization: authorization },
});

const client = new Client({
  url,
  preferGetMethod: false,
  fetchOptions: { headers: { Authorization: authorization } },
  exchanges: [
    fetchExchange,
    subscriptionExchange({
      forwardSubscription: ({ query = "", variables }) => ({
        subscribe: (sink) => ({ unsubscribe: socket.subscribe({ query, variables: variables ?? {} }, sink) }),
      }),
    }),
  ],
});

function dataOf<Data>(result: OperationResult<Data, AnyVariables>): Data {
  if (result.error) throw result.error;
  if (!result.data) throw new Error("no data");
  return result.data;
}

const filter = { actionName: { eq: toolName } };
const followed = new Promise<string>((found, failed) => {
  setTimeout(() => failed(new Error("the subscription brought no event in time")), PATIENCE_MS);
  client.subscription(FOLLOW, { filter }).subscribe((result) => {
    if (result.error) failed(result.error);
    else if (result.data) found(result.data.auditEventLogged.id);
  });
});

const input = { toolName, idempotencyKey: toolName, metadata: { from: "urql" }, latencyMs: 84 };
const before = dataOf(await client.query(LAST, {}));
const logged = dataOf(await client.mutation(LOG, { input }));
const again = dataOf(await client.mutation(LOG, { input }));
const found = dataOf(await client.query(FIND, { filter }));
console.log(
  JSON.stringify({
    before: before.auditEvents.totalCount.value,
    outcome: logged.logToolCall.outcome,
    again: { outcome: again.logToolCall.outcome, id: again.logToolCall.event?.id },
    event: logged.logToolCall.event,
    found: found.auditEvents.nodes,
    followed: await followed,
  }),
);
await socket.dispose();
process.exit(0);
