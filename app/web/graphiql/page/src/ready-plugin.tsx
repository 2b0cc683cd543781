import { useGraphiQL, useGraphiQLActions, type GraphiQLPlugin } from "@graphiql/react";
import type { ReadyTab } from "./ready";

/** A pane that opens the ready tabs again, with fresh variables, once they have been changed or closed. */
export function readyPlugin(makeTabs: () => ReadyTab[]): GraphiQLPlugin {
  return { title: "Ready queries", icon: Icon, content: () => <ReadyQueries makeTabs={makeTabs} /> };
}

function ReadyQueries({ makeTabs }: { makeTabs: () => ReadyTab[] }) {
  const { addTab, updateActiveTabValues } = useGraphiQLActions();
  const queryEditor = useGraphiQL((state) => state.queryEditor);
  const variableEditor = useGraphiQL((state) => state.variableEditor);

  function open({ query, variables }: ReadyTab) {
    addTab();
    queryEditor?.setValue(query);
    variableEditor?.setValue(variables);
    updateActiveTabValues({ query, variables });
    setTimeout(() => document.querySelector(".graphiql-tab-active")?.scrollIntoView({ block: "nearest", inline: "end" }));
  }

  return (
    <section className="ready" aria-label="Ready queries">
      <h2>Ready queries</h2>
      <ul>
        {makeTabs().map((tab) => (
          <li key={tab.title}>
            <button type="button" onClick={() => open(tab)}>
              <strong>{tab.title}</strong>
              <span>{tab.about}</span>
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Icon() {
  return (
    <svg viewBox="0 0 24 24" fill="none" stroke="currentColor" strokeWidth="1.5" strokeLinecap="round" height="1em">
      <path d="M4 6h2m4 0h10M4 12h2m4 0h10M4 18h2m4 0h10" />
    </svg>
  );
}
