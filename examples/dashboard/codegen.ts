import type { CodegenConfig } from "@graphql-codegen/cli";

// Text on the wire stays text in the types: a number would lose digits. `format.ts` makes numbers of it, for display.
const config: CodegenConfig = {
  schema: "../../graphql_schema/schema.graphql",
  documents: "src/**/*.{ts,tsx}",
  ignoreNoDocuments: true,
  generates: {
    "src/gql/": {
      preset: "client",
      presetConfig: { fragmentMasking: false },
      config: {
        strictScalars: true,
        useTypeImports: true,
        enumType: "string-literal",
        scalars: {
          BigInt: { input: "string", output: "string" },
          Decimal: { input: "string", output: "string" },
          DateTime: { input: "string", output: "string" },
          UUID: { input: "string", output: "string" },
          JSON: { input: "unknown", output: "unknown" },
        },
      },
    },
  },
};

export default config;
