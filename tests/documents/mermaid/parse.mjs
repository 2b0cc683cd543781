// Reads diagrams.json, a list of [place, text]; writes refused.json, a list of [place, what is wrong].
import { readFileSync, writeFileSync } from "node:fs";
import { JSDOM } from "jsdom";

const { window } = new JSDOM("");
Object.assign(globalThis, { window, document: window.document });
const { default: mermaid } = await import("mermaid");

const refused = [];
for (const [place, text] of JSON.parse(readFileSync("diagrams.json", "utf8"))) {
  try {
    await mermaid.parse(text);
  } catch (error) {
    refused.push([place, String(error)]);
  }
}
writeFileSync("refused.json", JSON.stringify(refused));
