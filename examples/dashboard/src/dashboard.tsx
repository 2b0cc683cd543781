import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { CostByModel, ErrorsByTool } from "./breakdowns";
import { Logo } from "./connect-box";
import type { Connection } from "./connection";
import { EventList } from "./event-list";
import { FilterBar } from "./filter-bar";
import { NO_CHOICES, toFilter } from "./filter";
import { Headline } from "./headline";
import { LiveTail } from "./live-tail";
import { OverTime } from "./over-time";

const REFRESH_MS = 3000;

/** All panels, and the one filter that feeds them. */
export function Dashboard({ connection, onLeave }: { connection: Connection; onLeave: () => void }) {
  const [choices, setChoices] = useState(NO_CHOICES);
  const [news, announce] = useNews();
  const filter = useMemo(() => toFilter(choices), [choices]);
  const asked = { filter, news };

  return (
    <>
      <header class="top">
        <h1>
          <Logo /> Konstruct <span class="muted">/ {connection.viewer.tenantName}</span>
        </h1>
        <span class="muted small">key “{connection.viewer.subject}”</span>
        <button onClick={onLeave}>Disconnect</button>
      </header>
      <FilterBar choices={choices} onChange={setChoices} {...asked} />
      <main class="panels">
        <Headline {...asked} />
        <OverTime {...asked} />
        <ErrorsByTool {...asked} />
        <CostByModel {...asked} />
        <LiveTail connection={connection} filter={filter} onEvent={announce} />
        <EventList {...asked} />
      </main>
    </>
  );
}

/** Counts up when events came in, but not more often than every few seconds: what the other panels refresh on. */
function useNews(): [number, () => void] {
  const [news, setNews] = useState(0);
  const timer = useRef<number | undefined>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  const announce = () => {
    timer.current ??= window.setTimeout(() => {
      timer.current = undefined;
      setNews((count) => count + 1);
    }, REFRESH_MS);
  };
  return [news, announce];
}
