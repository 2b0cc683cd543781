import "graphiql/setup-workers/vite";
import "@graphiql/react/font/roboto.css";
import "@graphiql/react/font/fira-code.css";
import "@graphiql/react/style.css";
import "@graphiql/plugin-doc-explorer/style.css";
import "@graphiql/plugin-history/style.css";
import "@graphiql/plugin-explorer/style.css";
import "graphiql/graphiql.css";
import "./style.css";
import { createRoot } from "react-dom/client";
import { App } from "./app";
import { rememberedTheme } from "./storage";

const theme = rememberedTheme();
if (theme) document.body.classList.add(`graphiql-${theme}`);

createRoot(document.getElementById("app")!).render(<App />);
