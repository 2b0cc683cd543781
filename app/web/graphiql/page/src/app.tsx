import { useEffect, useState } from "react";
import { ConnectBox } from "./connect-box";
import { Ide } from "./ide";
import { connect, forgetKey, KeyRefused, rememberedKey, rememberKey, type Session } from "./session";

/** The connect box, or GraphiQL with the key that was given there. */
export function App() {
  const [session, setSession] = useState<Session | null>(null);
  const [isConnecting, setIsConnecting] = useState(rememberedKey() !== null);
  const [error, setError] = useState<string | null>(null);

  async function open(key: string | null) {
    setIsConnecting(true);
    setError(null);
    try {
      const opened = await connect(key);
      if (opened.key !== null) rememberKey(opened.key);
      setSession(opened);
    } catch (reason) {
      // A server that is being started again knows the key afterwards.
      if (reason instanceof KeyRefused) forgetKey();
      setError(reason instanceof Error ? reason.message : String(reason));
    }
    setIsConnecting(false);
  }

  function close() {
    session?.socket.dispose();
    forgetKey();
    setError(null);
    setSession(null);
  }

  useEffect(() => {
    const key = rememberedKey();
    if (key !== null) void open(key);
  }, []);

  if (session) return <Ide session={session} onDisconnect={close} />;
  return <ConnectBox error={error} isConnecting={isConnecting} onConnect={(key) => void open(key)} />;
}
