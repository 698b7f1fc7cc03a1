import { execFileSync } from "node:child_process";
import { globSync, readFileSync, writeFileSync } from "node:fs";
import { defineConfig } from "tsup";

// One entry for each subpath of `exports` in package.json; test/architecture.test.ts compares the two.
// An entry is named after its source file, so that the declarations, which mirror src/, lie beside the code.
export const entry = {
  index: "src/index.ts",
  "stores/sqlite": "src/stores/sqlite.ts",
  "sources/hooque": "src/sources/hooque.ts",
  "sources/amqp": "src/sources/amqp.ts",
  "sources/nats": "src/sources/nats.ts",
  "sources/redis-streams": "src/sources/redis-streams.ts",
  "sources/sqs": "src/sources/sqs.ts",
  "stores/postgres": "src/stores/postgres.ts",
  "testing/index": "src/testing/index.ts",
};

export default defineConfig({
  entry,
  format: ["esm"],
  target: "node22",
  platform: "node",
  splitting: true,
  sourcemap: true,
  clean: true,
  // The default turns "node:sqlite" into "sqlite", which is no module.
  removeNodeProtocol: false,
  // The compiler has no JavaScript API that tsup could use, so the compiler itself writes the declarations.
  dts: false,
  onSuccess: async () => writeDeclarations(),
});

/** The compiler keeps the sources' `.ts` in the specifiers of declarations; what lies in dist is `.js`. */
function writeDeclarations(): void {
  execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "src"], { stdio: "inherit" });
  for (const file of globSync("dist/**/*.d.ts")) {
    const text = readFileSync(file, "utf8");
    writeFileSync(file, text.replace(/((?:from|import)\s*\(?\s*"\.{1,2}\/[^"]*)\.ts"/g, '$1.js"'));
  }
}
