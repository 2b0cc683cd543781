import { explorerPlugin } from "@graphiql/plugin-explorer";
import { GraphiQL, HISTORY_PLUGIN } from "graphiql";
import { useMemo } from "react";
import { Bar } from "./bar";
import { readyPlugin } from "./ready-plugin";
import { readyTabs } from "./ready";
import type { Session } from "./session";
import { keylessStorage } from "./storage";

interface Props {
  session: Session;
  onDisconnect: () => void;
}

/** GraphiQL, as the caller of one session. */
export function Ide({ session, onDisconnect }: Props) {
  const { plugins, storage, tabs } = useMemo(
    () => ({
      plugins: [HISTORY_PLUGIN, explorerPlugin({ showAttribution: false }), readyPlugin(() => readyTabs(session))],
      storage: keylessStorage(session.viewer?.tenantId ?? "nobody", session.key),
      tabs: readyTabs(session),
    }),
    [session],
  );

  return (
    <div className="ide">
      <Bar viewer={session.viewer} onDisconnect={onDisconnect} />
      <GraphiQL
        fetcher={session.fetcher}
        storage={storage}
        plugins={plugins}
        defaultTabs={tabs}
        // GraphiQL leaves the variables of the first default tab out until the tab is chosen again.
        initialVariables={storage.getItem("graphiql:tabState") === null ? tabs[0]?.variables : undefined}
        defaultEditorToolsVisibility="variables"
        inputValueDeprecation
        schemaDescription
        shouldPersistHeaders={false}
        showPersistHeadersSettings={false}
      >
        <GraphiQL.Logo>
          <span className="product">GraphiQL</span>
        </GraphiQL.Logo>
      </GraphiQL>
    </div>
  );
}
