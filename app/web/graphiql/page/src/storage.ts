const THEME = "graphiql:theme";
// What GraphiQL keeps as JSON with headers in it: the history does so even where headers must not be persisted.
const WITH_HEADERS = /^graphiql:(tabState|queries|favorites)$/;
const HEADERS = "graphiql:headers";
// An API key or a JWT, this tenant's or another's.
const CREDENTIAL = /\bkst_[\w-]+|\beyJ[\w-]+\.[\w-]+\.[\w-]+/g;

/**
 * Where GraphiQL keeps tabs, history and layout: in localStorage, each tenant's apart, and never a credential, wherever
 * it was typed.
 */
export function keylessStorage(owner: string, key: string | null) {
  const prefix = `konstruct:${owner}:`;
  const placeOf = (name: string) => (name === THEME ? name : prefix + name);
  const own = () => Object.keys(localStorage).filter((name) => name.startsWith(prefix));

  return {
    getItem: (name: string) => localStorage.getItem(placeOf(name)),
    setItem(name: string, value: string) {
      if (name === HEADERS) return;
      let kept = WITH_HEADERS.test(name) ? withoutHeaders(value) : value;
      if (key) kept = kept.replaceAll(key, "…");
      localStorage.setItem(placeOf(name), kept.replace(CREDENTIAL, "…"));
    },
    removeItem: (name: string) => localStorage.removeItem(placeOf(name)),
    get length() {
      return own().length;
    },
    clear: () => own().forEach((name) => localStorage.removeItem(name)),
  };
}

function withoutHeaders(json: string): string {
  return JSON.stringify(JSON.parse(json), (name, value: unknown) => (name === "headers" ? null : value));
}

/** The theme chosen in GraphiQL's settings; null when the system decides. */
export function rememberedTheme(): string | null {
  return localStorage.getItem(THEME);
}
