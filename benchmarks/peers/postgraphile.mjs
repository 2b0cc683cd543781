// PostGraphile 5 with its recommended preset over Konstruct's own database, as the runtime role: what a team would
// pick that wants a GraphQL API on PostgreSQL without writing one. The tenant comes from a header.
import { createServer } from "node:http";
import { makePgService } from "postgraphile/adaptors/pg";
import { grafserv } from "postgraphile/grafserv/node";
import { PostGraphileAmberPreset } from "postgraphile/presets/amber";
import { postgraphile } from "postgraphile";

const { DATABASE_URL, PORT } = process.env;
const instance = postgraphile({
  extends: [PostGraphileAmberPreset],
  pgServices: [makePgService({ connectionString: DATABASE_URL, schemas: ["public", "bench"], poolSize: 10, pubsub: false })],
  grafast: { context: (ctx) => ({ pgSettings: { "app.current_tenant": ctx.node?.req?.headers["x-tenant"] } }) },
  grafserv: { port: Number(PORT), graphqlPath: "/graphql", graphiql: false },
});
const server = createServer();
server.on("error", (error) => { console.error(error); process.exit(1); });
await instance.createServ(grafserv).addTo(server);
server.listen(Number(PORT), "127.0.0.1", () => console.log("ready"));
