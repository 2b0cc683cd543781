import { Logo } from "./connect-box";
import type { Viewer } from "./session";

interface Props {
  /** Null without a key. */
  viewer: Viewer | null;
  onDisconnect: () => void;
}

/** Whose data is shown here, by which credential, and the way out. */
export function Bar({ viewer, onDisconnect }: Props) {
  return (
    <header className="bar" aria-label="Connection">
      <span className="name">
        <Logo /> Konstruct
      </span>
      {viewer ? (
        <dl>
          <div>
            <dt>Tenant</dt>
            <dd title={viewer.tenantId}>{viewer.tenantName}</dd>
          </div>
          <div>
            <dt>Key</dt>
            <dd>{viewer.subject}</dd>
          </div>
          <div>
            <dt>Agent</dt>
            <dd title={viewer.agentId ?? "The key is not bound to one agent."}>{viewer.agentId ?? "any"}</dd>
          </div>
          <div>
            <dt>Scopes</dt>
            <dd className="scopes">
              {viewer.scopes.map((scope) => (
                <span key={scope}>{scope}</span>
              ))}
            </dd>
          </div>
        </dl>
      ) : (
        <p>Not connected: you see the schema, but no data.</p>
      )}
      <button type="button" onClick={onDisconnect}>
        {viewer ? "Disconnect" : "Connect"}
      </button>
    </header>
  );
}
