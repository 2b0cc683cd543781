import type { CodegenConfig } from "@graphql-codegen/cli";

const text = { input: "string", output: "string" };

const config: CodegenConfig = {
  schema: "../../graphql_schema/schema.graphql",
  documents: "src/main.ts",
  generates: {
    "src/gql/": {
      preset: "client",
      presetConfig: { fragmentMasking: false },
      config: {
        strictScalars: true,
        useTypeImports: true,
        enumType: "string-literal",
        importExtension: ".ts",
        scalars: {
          BigInt: text,
          Decimal: text,
          DateTime: text,
          UUID: text,
          JSON: { input: "unknown", output: "unknown" },
        },
      },
    },
  },
};

export default config;
