import { useState } from "preact/hooks";
import { rememberedCredentials, type Credentials } from "./connection";

interface Props {
  error: string | null;
  isConnecting: boolean;
  onConnect: (credentials: Credentials) => void;
}

/** The form for the API's address and the key. Its inputs have no names: they can't end up in the page's address. */
export function ConnectBox({ error, isConnecting, onConnect }: Props) {
  const [url, setUrl] = useState(rememberedCredentials()?.url ?? "http://127.0.0.1:8000/graphql");
  const [apiKey, setApiKey] = useState("");

  return (
    <main class="connect">
      <form
        class="panel"
        onSubmit={(event) => {
          event.preventDefault();
          onConnect({ url: url.trim(), apiKey: apiKey.trim() });
        }}
      >
        <h1>
          <Logo /> Konstruct
        </h1>
        <p class="muted">See what your agents do: connect to the audit trail.</p>
        <label>
          API URL
          <input type="url" required value={url} onInput={(event) => setUrl(event.currentTarget.value)} />
        </label>
        <label>
          API key
          <input
            type="password"
            required
            autocomplete="off"
            placeholder="kst_…"
            value={apiKey}
            onInput={(event) => setApiKey(event.currentTarget.value)}
          />
        </label>
        <button class="primary" disabled={isConnecting}>
          {isConnecting ? "Connecting …" : "Connect"}
        </button>
        {error && (
          <p class="error" role="alert">
            {error}
          </p>
        )}
        <p class="muted small">The key needs the scope AUDIT_READ. It stays in this tab and is forgotten with it.</p>
      </form>
    </main>
  );
}

export function Logo() {
  return (
    <svg class="logo" viewBox="0 0 16 16" aria-hidden="true">
      <rect width="16" height="16" rx="4" />
      <path d="M4 11.5V8m4 3.5v-7m4 7v-5" />
    </svg>
  );
}
