// Reads diagrams from standard input, a JSON list of [place, text]; prints a JSON list of [place, what is wrong].
import { readFileSync } from "node:fs";
import { JSDOM } from "jsdom";

const { window } = new JSDOM("");
Object.assign(globalThis, { window, document: window.document });
const { default: mermaid } = await import("mermaid");

const refused = [];
for (const [place, text] of JSON.parse(readFileSync(0, "utf8"))) {
  try {
    await mermaid.parse(text);
  } catch (error) {
    refused.push([place, String(error)]);
  }
}
console.log(JSON.stringify(refused));
