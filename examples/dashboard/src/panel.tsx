import type { CombinedError, TypedDocumentNode } from "@urql/core";
import { useQuery, type AnyVariables } from "@urql/preact";
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";

export interface Answer<Data> {
  data: Data | undefined;
  error: CombinedError | undefined;
  fetching: boolean;
  retry: () => void;
}

/** Ask the API, again with each new `news`; the last answer stays while the next one is on its way. */
export function useAnswer<Data, Variables extends AnyVariables>(
  query: TypedDocumentNode<Data, Variables>,
  variables: Variables,
  news: number,
): Answer<Data> {
  const [{ data, error, fetching }, ask] = useQuery({ query, variables });
  const retry = () => ask({ requestPolicy: "network-only" });
  const last = useRef<Data | undefined>(undefined);
  if (data) last.current = data;
  useEffect(() => {
    if (news > 0) retry();
  }, [news]);
  return { data: data ?? last.current, error, fetching, retry };
}

interface Props<Data> {
  title: string;
  note?: ComponentChildren;
  class?: string;
  answer: Answer<Data>;
  /** What to say when there is nothing to show; null when there is something. */
  empty: (data: Data) => string | null;
  children: (data: Data) => ComponentChildren;
}

/** A titled box that says in words when it is loading, empty or in error. */
export function Panel<Data>({ title, note, answer, empty, children, ...props }: Props<Data>) {
  const { data, error, fetching, retry } = answer;
  const emptiness = data && empty(data);
  return (
    <section class={`panel ${props.class ?? ""}`} aria-label={title} aria-busy={fetching}>
      <header>
        <h2>{title}</h2>
        <span class="muted small">{note}</span>
      </header>
      {error ? (
        <p class="state error" role="alert">
          Could not load this: {errorText(error)} <button onClick={retry}>Try again</button>
        </p>
      ) : !data ? (
        <p class="state muted">Loading …</p>
      ) : emptiness ? (
        <p class="state muted">{emptiness}</p>
      ) : (
        children(data)
      )}
    </section>
  );
}

/** The API's own words, which say what to do; without them nothing was answered. */
export const errorText = (error: CombinedError) => error.graphQLErrors[0]?.message ?? "the server can't be reached.";
