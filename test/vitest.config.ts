import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";
import packageJson from "../package.json" with { type: "json" };

const root = fileURLToPath(new URL("..", import.meta.url));

/**
 * Tests and examples may say `import ... from "trueup"` as a user does. Here that means the sources, not the build:
 * dist mirrors src, so the one follows from the other.
 */
const aliases = Object.entries(packageJson.exports).flatMap(([subpath, target]) => {
  if (typeof target === "string") return [];
  const source = target.default.replace(/^\.\/dist\/(.*)\.js$/, "src/$1.ts");
  return [{ find: new RegExp(`^trueup${subpath.slice(1)}$`), replacement: root + source }];
});

export default defineConfig({
  root,
  resolve: { alias: aliases },
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/services-setup.ts"],
    // Processes, not threads: what a file leaves open (databases, sockets, process-wide handlers) ends with it.
    pool: "forks",
    // Node 22 warns that node:sqlite is experimental. That is known, and not worth a line in every file.
    execArgv: ["--disable-warning=ExperimentalWarning"],
    testTimeout: 15_000,
    hookTimeout: 15_000,
    teardownTimeout: 5_000,
    restoreMocks: true,
    unstubEnvs: true,
    unstubGlobals: true,
    coverage: {
      provider: "v8",
      include: ["src/**/*.ts"],
      reporter: ["text-summary", "html"],
      reportsDirectory: "coverage",
    },
  },
});
