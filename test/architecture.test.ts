import { globSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import packageJson from "../package.json" with { type: "json" };
import tsconfig from "../tsconfig.json" with { type: "json" };
import { entry } from "../tsup.config.ts";
import {
  type SourceFile,
  clockViolations,
  cycles,
  importViolations,
  starExports,
} from "./architecture/rules.ts";
import { codeOnly, importsOf } from "./architecture/source.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const files: SourceFile[] = globSync("src/**/*.ts", { cwd: root }).map((name) => ({
  path: name.replaceAll("\\", "/"),
  text: readFileSync(root + name, "utf8"),
}));
const packages = Object.keys({
  ...packageJson.dependencies,
  ...packageJson.peerDependencies,
});
const publicEntries: string[] = Object.values(entry);

describe("the sources", () => {
  test("should be what is looked at", () => {
    expect(files.map((file) => file.path)).toEqual(
      expect.arrayContaining(["src/core/clock.ts", ...publicEntries]),
    );
  });

  test("should import only downwards, and core nothing outside core", () => {
    expect(files.flatMap((file) => importViolations(file, packages))).toEqual([]);
  });

  test("should load one another without circles", () => {
    expect(cycles(files)).toEqual([]);
  });

  test("should read time and chance in clock.ts alone", () => {
    expect(files.flatMap(clockViolations)).toEqual([]);
  });

  test("should name each public export", () => {
    expect(files.filter((file) => publicEntries.includes(file.path)).flatMap(starExports)).toEqual([]);
  });
});

describe("the package", () => {
  const subpaths = Object.entries(packageJson.exports).filter(([, target]) => typeof target !== "string");

  test("should build one entry for each subpath, and no other", () => {
    const expected = Object.entries(entry).map(([name]) => ({
      types: `./dist/${name}.d.ts`,
      default: `./dist/${name}.js`,
    }));
    expect(subpaths.map(([, target]) => target).toSorted(byDefault)).toEqual(expected.toSorted(byDefault));
  });

  test("should name each entry after its source, since declarations mirror src", () => {
    expect(Object.entries(entry).map(([name]) => `src/${name}.ts`)).toEqual(publicEntries);
  });

  test("should be found by the compiler under the same names", () => {
    const paths = Object.entries(tsconfig.compilerOptions.paths).map(([name, [source]]) => [name, source]);
    expect(paths).toEqual(
      subpaths.map(([subpath, target]) => [
        `trueup${subpath.slice(1)}`,
        (target as { default: string }).default.replace("./dist/", "./src/").replace(/\.js$/, ".ts"),
      ]),
    );
  });
});

// Controls: each rule is shown to refuse what it is there to refuse, and to let its neighbours pass.
describe("the rules", () => {
  const imports = (path: string, text: string) => importViolations({ path, text }, ["undici"]).length;

  test.each([
    ["core importing an adapter", "src/core/worker.ts", 'import { x } from "../stores/sqlite.ts";'],
    [
      "core importing a type of an adapter",
      "src/core/worker.ts",
      'import type { X } from "../http/client.ts";',
    ],
    ["core importing the engine, dynamically", "src/core/worker.ts", 'await import("../engine.ts");'],
    ["core re-exporting an adapter", "src/core/hooks.ts", 'export { x } from "../stores/keyv.ts";'],
    ["core importing a package", "src/core/worker.ts", 'import { request } from "undici";'],
    [
      "core importing the schema package's values",
      "src/core/resource.ts",
      'import { x } from "@standard-schema/spec";',
    ],
    ["core doing I/O", "src/core/store.ts", 'import { readFile } from "node:fs/promises";'],
    ["a contract importing the path", "src/core/store.ts", 'import type { Worker } from "./worker.ts";'],
    ["http importing a store", "src/http/client.ts", 'import {\n  a,\n  b,\n} from "../stores/keyv.ts";'],
    ["a store importing a source", "src/stores/keyv.ts", 'import { x } from "../sources/poll.ts";'],
    ["a store importing the engine", "src/stores/keyv.ts", 'import type { SyncEngine } from "../engine.ts";'],
    [
      "the engine picking a store by itself",
      "src/engine.ts",
      'import { keyvStore } from "./stores/keyv.ts";',
    ],
    ["the engine importing test helpers", "src/engine.ts", 'import { TestClock } from "./testing/index.ts";'],
    ["anything importing the index", "src/testing/index.ts", 'import { SyncEngine } from "../index.ts";'],
    ["leaving src", "src/engine.ts", 'import packageJson from "../package.json" with { type: "json" };'],
    ["an undeclared package", "src/http/client.ts", 'import got from "got";'],
    ["a built-in without its prefix", "src/http/client.ts", 'import { readFileSync } from "fs";'],
    ["a relative import of .js", "src/engine.ts", 'import { x } from "./core/worker.js";'],
    [
      "a timer by import",
      "src/http/client.ts",
      'import { setTimeout as sleep } from "node:timers/promises";',
    ],
  ])("should refuse %s", (_, path, text) => {
    expect(imports(path, text)).toBeGreaterThan(0);
  });

  test.each([
    ["core within core", "src/core/worker.ts", 'import { systemClock } from "./clock.ts";'],
    ["core hashing", "src/core/event.ts", 'import { createHash } from "node:crypto";'],
    [
      "core naming the schema type",
      "src/core/resource.ts",
      'import type { StandardSchemaV1 } from "@standard-schema/spec";',
    ],
    ["http using its package", "src/http/client.ts", 'import { Agent } from "undici";'],
    [
      "a store using core and a built-in",
      "src/stores/sqlite.ts",
      'import "../core/errors.ts"; import "node:sqlite";',
    ],
    ["the composition using adapters", "src/composition.ts", 'import { keyvStore } from "./stores/keyv.ts";'],
    ["helpers building an engine", "src/testing/engine.ts", 'import { SyncEngine } from "../engine.ts";'],
    [
      "an import in a comment",
      "src/core/worker.ts",
      '// import { x } from "../engine.ts";\n/* import "got" */',
    ],
  ])("should allow %s", (_, path, text) => {
    expect(imports(path, text)).toBe(0);
  });

  test.each([
    "const t = Date.now();",
    "new Date()",
    "new Date",
    "Date()",
    "Math.random()",
    "performance.now()",
    "setTimeout(go, 5)",
    "const later = setInterval;",
    "globalThis.setTimeout(go, 5)",
    "AbortSignal.timeout(5)",
    "process.hrtime.bigint()",
    "`at ${Date.now()}`",
    "Date\n  .now()",
    "const half = total / 2; const t = Date.now() / 1_000;",
  ])("should refuse to read the clock by %s", (text) => {
    expect(clockViolations({ path: "src/http/client.ts", text })).not.toEqual([]);
    expect(clockViolations({ path: "src/core/clock.ts", text })).toEqual([]);
  });

  test.each([
    "clock.now()",
    "new Date(at)",
    "new Date(`${at}`)",
    "value instanceof Date",
    "const at: Date = given;",
    "setImmediate(go); queueMicrotask(go);",
    "server.setTimeout(0)",
    "clearTimeout(timer)",
    "// Date.now() is not read here",
    "/* setTimeout */",
    'throw new Error("do not call Date.now()");',
    "`Date.now() ${at} setTimeout`",
    "/Math.random()/.test(text)",
  ])("should allow %s", (text) => {
    expect(clockViolations({ path: "src/http/client.ts", text })).toEqual([]);
  });

  test("should refuse a circle of values and allow one of types", () => {
    const circle = (word: string): SourceFile[] => [
      { path: "src/core/a.ts", text: 'import { b } from "./b.ts";' },
      { path: "src/core/b.ts", text: `${word} { a } from "./a.ts";` },
    ];
    expect(cycles(circle("import"))).toHaveLength(1);
    expect(cycles(circle("export"))).toHaveLength(1);
    expect(cycles(circle("import type"))).toEqual([]);
  });

  test("should refuse star exports and allow named ones", () => {
    const stars = (text: string) => starExports({ path: "src/index.ts", text }).length;
    expect(stars('export * from "./engine.ts";')).toBe(1);
    expect(stars('export * as core from "./core/event.ts";')).toBe(1);
    expect(stars('export type * from "./core/event.ts";')).toBe(1);
    expect(stars('// export * from "./engine.ts"\nexport { SyncEngine } from "./engine.ts";')).toBe(0);
  });

  test("should see every form of import, and code after each kind of literal", () => {
    const text = [
      'import a, { type B } from "one";',
      'import type { C } from "two";',
      'import * as d from "three";',
      'import "four";',
      'export { e } from "five";',
      'type F = import("six").F;',
      "export interface Empty {}",
      'import type from "six and a half";',
      'import type Only from "six and three quarters";',
      "const quote = /['\"`]/; const url = 'https://example.test'; const g = await import('seven');",
      'const text = `import "eight" ${`nested ${1}`} import("nine")`;',
    ].join("\n");
    expect(importsOf(text)).toEqual([
      { specifier: "one", typeOnly: false },
      { specifier: "two", typeOnly: true },
      { specifier: "three", typeOnly: false },
      { specifier: "four", typeOnly: false },
      { specifier: "five", typeOnly: false },
      { specifier: "six", typeOnly: false },
      { specifier: "six and a half", typeOnly: false },
      { specifier: "six and three quarters", typeOnly: true },
      { specifier: "seven", typeOnly: false },
    ]);
    expect(codeOnly(text)).not.toMatch(/example|nested|eight/);
  });
});

function byDefault(a: unknown, b: unknown): number {
  return JSON.stringify(a).localeCompare(JSON.stringify(b));
}
