import { Provider } from "@urql/preact";
import { useEffect, useState } from "preact/hooks";
import { ConnectBox } from "./connect-box";
import {
  connect,
  forgetCredentials,
  rememberCredentials,
  rememberedCredentials,
  type Connection,
  type Credentials,
} from "./connection";
import { Dashboard } from "./dashboard";

/** Asks for the API's address and a key, then shows the dashboard. */
export function App() {
  const [connection, setConnection] = useState<Connection | null>(null);
  const [error, setError] = useState<string | null>(null);
  const [isConnecting, setConnecting] = useState(false);

  async function enter(credentials: Credentials) {
    setConnecting(true);
    setError(null);
    try {
      setConnection(await connect(credentials));
      rememberCredentials(credentials);
    } catch (refusal) {
      setError((refusal as Error).message);
    } finally {
      setConnecting(false);
    }
  }

  function leave() {
    connection?.close();
    forgetCredentials();
    setConnection(null);
  }

  useEffect(() => {
    const remembered = rememberedCredentials();
    if (remembered) void enter(remembered);
  }, []);

  if (!connection) return <ConnectBox error={error} isConnecting={isConnecting} onConnect={enter} />;
  return (
    <Provider value={connection.client}>
      <Dashboard connection={connection} onLeave={leave} />
    </Provider>
  );
}
