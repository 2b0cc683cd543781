import type { Session } from "./session";

/** A tab that does one job as it is. */
export interface ReadyTab {
  title: string;
  about: string;
  query: string;
  variables: string;
}

// Agents of the demo tenant, for tenants where nothing has happened yet.
const DEMO_AGENT = "0193a5c0-7e11-7c3a-9d52-5b1f0e6a2c01";

/**
 * The ready tabs, with the tenant's own agents and runs and today's dates in their variables. Lists are variables
 * too: the explorer can't show them within a query.
 */
export function readyTabs({ viewer, examples }: Session): ReadyTab[] {
  const now = new Date();
  const agentId = viewer?.agentId ?? examples.agentId ?? DEMO_AGENT;
  return [
    {
      title: "Log a call",
      about: "Record one call of a model, as an agent does.",
      query: `# Run it twice: by its idempotency key the second one is
# a DUPLICATE, and nothing is recorded again.
mutation LogACall($call: LogLlmCallInput!) {
  logLlmCall(input: $call) {
    outcome
    event {
      id
      createdAt
      actionName
      status
      costUsd
    }
    userErrors {
      code
      message
      path
    }
  }
}
`,
      variables: json({
        call: {
          idempotencyKey: `graphiql/${now.toISOString()}`,
          agentId,
          model: "gpt-4o-mini",
          traceId: "graphiql",
          inputSummary: "Where do I find my invoice?",
          outputSummary: "Under Settings, Billing, Invoices.",
          inputTokens: 412,
          outputTokens: 38,
          costUsd: "0.0000846",
          latencyMs: 640,
        },
      }),
    },
    {
      title: "Last failures of one agent",
      about: "What went wrong lately, and in which conversation.",
      query: `query LastFailures(
  $agent: UUID!
  $status: [AuditEventStatus!] = [FAILED, DENIED]
) {
  auditEvents(
    first: 10
    filter: {
      agentId: { eq: $agent }
      status: { in: $status }
    }
  ) {
    nodes {
      createdAt
      actionName
      status
      error
      inputSummary
      latencyMs
      sessionId
      traceId
    }
    totalCount {
      value
      isExact
    }
  }
}
`,
      variables: json({ agent: agentId }),
    },
    {
      title: "Cost by model this week",
      about: "Calls, tokens, cost and latency of each model.",
      query: `query CostByModel(
  $since: DateTime!
  $by: [AuditDimension!] = [ACTION_NAME]
) {
  auditStats(
    groupBy: $by
    filter: {
      actionType: { eq: LLM_CALL }
      createdAt: { gte: $since }
    }
  ) {
    key {
      value
    }
    count
    costUsd
    inputTokens
    outputTokens
    errorRate
    latencyMs {
      p50
      p95
    }
  }
}
`,
      variables: json({ since: daysAgo(now, 7) }),
    },
    {
      title: "One run as a tree",
      about: "The steps of a run, each with the steps that led to it.",
      query: `query OneRunAsATree($run: String!) {
  auditEvents(
    first: 100
    filter: { traceId: { eq: $run } }
    orderBy: {
      field: CREATED_AT
      direction: ASC
    }
  ) {
    nodes {
      ...Step
      inputSummary
      outputSummary
      parentEvent {
        ...Step
        parentEvent {
          ...Step
          parentEvent {
            ...Step
          }
        }
      }
    }
  }
}

fragment Step on AuditEvent {
  id
  actionType
  actionName
  status
  latencyMs
}
`,
      variables: json({ run: examples.traceId ?? "graphiql" }),
    },
    {
      title: "Ingest and search",
      about: "Take a document in, then find it by meaning.",
      query: `# Two operations; the button offers both: ingest the
# document first, then search for it.
mutation IngestADocument($document: IngestKbDocumentInput!) {
  ingestKbDocument(input: $document) {
    outcome
    document {
      id
      title
      version
      chunkCount
    }
    userErrors {
      code
      message
      path
    }
  }
}

query SearchForIt($question: String!) {
  kbSearch(input: { query: { text: $question }, limit: 3 }) {
    hits {
      rank
      similarity
      highlight
      chunk {
        content
        document {
          title
        }
      }
    }
    diagnostics {
      strategy
      isComplete
      candidateCount
    }
  }
}
`,
      variables: json({
        document: {
          externalId: "graphiql/opening-hours",
          title: "Opening hours",
          mimeType: "text/markdown",
          body: {
            text: "# Opening hours\n\nThe workshop is open on weekdays from 8 to 17, on Saturdays until noon.",
          },
        },
        question: "When can I bring in my bicycle at the weekend?",
      }),
    },
    {
      title: "Live tail",
      about: "Each event about a second after it was recorded.",
      query: `# Shows the last event, and each new one in its place.
# Log a call from a second browser tab and see it come.
subscription LiveTail($after: BigInt) {
  auditEventLogged(afterSequence: $after) {
    sequence
    createdAt
    actionType
    actionName
    status
    error
    inputSummary
    outputSummary
  }
}
`,
      variables: json({ after: examples.sequence === null ? "-1" : String(BigInt(examples.sequence) - 1n) }),
    },
  ];
}

function json(variables: object): string {
  return JSON.stringify(variables, null, 2);
}

function daysAgo(now: Date, days: number): string {
  return new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate() - days)).toISOString();
}
