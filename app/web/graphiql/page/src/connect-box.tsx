import { useState } from "react";

interface Props {
  error: string | null;
  isConnecting: boolean;
  /** Called with a key, or with null to look around without one. */
  onConnect: (key: string | null) => void;
}

/** The form for the key. Its input has no name: the key can't end up in the page's address. */
export function ConnectBox({ error, isConnecting, onConnect }: Props) {
  const [key, setKey] = useState("");

  return (
    <main className="connect">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          onConnect(key);
        }}
      >
        <h1>
          <Logo /> Konstruct
        </h1>
        <p>Explore a tenant’s audit trail and knowledge base.</p>
        <label>
          API key
          <input
            type="password"
            required
            autoFocus
            autoComplete="off"
            spellCheck={false}
            placeholder="kst_…"
            value={key}
            onChange={(event) => setKey(event.currentTarget.value)}
          />
        </label>
        <button disabled={isConnecting}>{isConnecting ? "Connecting …" : "Connect"}</button>
        {error && (
          <p className="error" role="alert">
            {error}
          </p>
        )}
        <p className="hint">
          <code>make dev</code> shows the demo tenant’s key, <code>konstruct keys create</code> makes others. It stays in
          this tab and is forgotten with it.
        </p>
        <button type="button" className="link" disabled={isConnecting} onClick={() => onConnect(null)}>
          Only look at the schema, without a key
        </button>
      </form>
    </main>
  );
}

export function Logo() {
  return (
    <svg className="logo" viewBox="0 0 16 16" aria-hidden="true">
      <rect width="16" height="16" rx="4" />
      <path d="M4 11.5V8m4 3.5v-7m4 7v-5" />
    </svg>
  );
}
