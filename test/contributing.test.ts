import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));
const guide = readFileSync(`${root}CONTRIBUTING.md`, "utf8");

const filesIn = (folder: string): string[] =>
  readdirSync(root + folder, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts"))
    .map((file) => file.replaceAll("\\", "/"));

const sources = filesIn("src");
const named = [...guide.matchAll(/`([\w./-]+\.ts)`/g)].map(([, file = ""]) => file);
const names = new Set(named.map((file) => basename(file)));

/** Folders that the map names as a whole: many small files of one kind. */
const WHOLE = ["stores/postgres/sql", "testing/fake-provider", "testing/source-suite", "testing/store-suite"];

describe("the map of the house", () => {
  test("has every file of src", () => {
    const missing = sources.filter(
      (file) =>
        !names.has(basename(file)) &&
        !WHOLE.includes(dirname(file)) &&
        !["index.ts", "engine.ts", "composition.ts"].includes(basename(file)),
    );
    expect(missing).toEqual([]);
  });

  test("has no file that is gone", () => {
    const known = new Set([...sources, ...filesIn("test"), "tsup.config.ts"].map((file) => basename(file)));
    expect(named.length).toBeGreaterThan(100);
    expect(named.filter((file) => !known.has(basename(file)))).toEqual([]);
    const paths = named.filter((file) => file.startsWith("src/") || file.startsWith("test/"));
    expect(paths.length).toBeGreaterThan(5);
    expect(paths.filter((file) => !existsSync(root + file))).toEqual([]);
  });
});
