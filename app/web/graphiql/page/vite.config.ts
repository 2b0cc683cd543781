import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { defineConfig, type Plugin } from "vite";

/** GraphiQL's fonts come as `data:` addresses, which the page's policy does not let in: make files of them. */
const fontsAsFiles = (): Plugin => ({
  name: "fonts-as-files",
  enforce: "pre",
  transform: {
    filter: { id: /@graphiql\/react\/font\/.*\.css$/ },
    async handler(css) {
      const folder = join(import.meta.dirname, "node_modules", ".fonts");
      await mkdir(folder, { recursive: true });
      const files = new Map<string, Buffer>();
      const code = css.replace(/url\(data:font\/(\w+);base64,([^)]+)\)/g, (_match, kind: string, base64: string) => {
        const font = Buffer.from(base64, "base64");
        const file = join(folder, `font-${createHash("sha256").update(font).digest("hex").slice(0, 8)}.${kind}`);
        files.set(file, font);
        return `url(${JSON.stringify(file)})`;
      });
      await Promise.all([...files].map(([file, font]) => writeFile(file, font)));
      return { code, map: null };
    },
  },
});

/** The server sends these as they are, so that it need not compress. */
const withGzip = (): Plugin => ({
  name: "with-gzip",
  async writeBundle({ dir }) {
    const folder = join(dir ?? "", "graphiql");
    const names = (await readdir(folder)).filter((name) => /\.(js|css)$/.test(name));
    for (const name of names) {
      const content = await readFile(join(folder, name));
      await writeFile(join(folder, `${name}.gz`), await promisify(gzip)(content, { level: 9 }));
    }
  },
});

export default defineConfig({
  // The page is at <prefix>/graphiql and what it loads at <prefix>/graphiql/<name>, whatever the prefix is.
  base: "./",
  logLevel: "warn",
  build: {
    outDir: "../static",
    emptyOutDir: true,
    assetsDir: "graphiql",
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 5000,
    target: "es2022",
    rolldownOptions: {
      // GraphiQL makes its icons' titles, which screen readers read, of its functions' names.
      output: { keepNames: true },
      // Libraries mark their parts for servers that render React; here is none.
      onLog: (level, log, report) => log.code !== "MODULE_LEVEL_DIRECTIVE" && report(level, log),
    },
  },
  worker: { format: "es" },
  plugins: [fontsAsFiles(), withGzip()],
});
