import { existsSync, globSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));
const INVARIANTS = Array.from({ length: 13 }, (_, i) => `I${i + 1}`);

interface Held {
  readonly invariant: string;
  readonly file: string;
  readonly title: string;
}

/** What test/INVARIANTS.md says: `## I4 …`, and below it lines of "- `file` › title". */
function listed(): Held[] {
  let invariant = "";
  return readFileSync(`${root}test/INVARIANTS.md`, "utf8")
    .split("\n")
    .flatMap((line) => {
      invariant = /^## (I\d+) /.exec(line)?.[1] ?? invariant;
      const [, file, title] = /^- `([^`]+)` › (.+)$/.exec(line) ?? [];
      return file === undefined || title === undefined ? [] : [{ invariant, file, title }];
    });
}

/** Texts of tests (of suites, of rows that name them) that end with or hold "(I4)", or "(I4, I5)". */
const CITING = /(["'`])((?:(?!\1)[^\\]|\\.)*?\((I\d+(?:, I\d+)*)\)(?:(?!\1)[^\\]|\\.)*?)\1/g;

function cited(): Held[] {
  return globSync("test/**/*.test.ts", { cwd: root }).flatMap((file) =>
    file === "test/invariants.test.ts"
      ? []
      : readFileSync(root + file, "utf8")
          .split("\n")
          .filter((line) => !/^\s*(?:\/\/|\*|\/\*)/.test(line))
          .flatMap((line) => [...line.matchAll(CITING)])
          .flatMap(([, , title = "", invariants = ""]) =>
            invariants.split(", ").map((invariant) => ({ invariant, file, title })),
          ),
  );
}

const lines = (all: readonly Held[]) =>
  [...new Set(all.map(({ invariant, file, title }) => `${invariant}: ${file} › ${title}`))].toSorted();

describe("test/INVARIANTS.md", () => {
  const inList = listed();

  test("has all invariants, in order, and each is held by a test", () => {
    expect([...new Set(inList.map(({ invariant }) => invariant))]).toEqual(INVARIANTS);
  });

  test("has every test that cites an invariant, and no line twice", () => {
    expect(lines(cited()).filter((line) => !lines(inList).includes(line))).toEqual([]);
    expect(lines(inList)).toHaveLength(inList.length);
  });

  test("names only tests that exist", () => {
    const missing = inList.filter(
      ({ file, title }) => !existsSync(root + file) || !readFileSync(root + file, "utf8").includes(title),
    );
    expect(lines(missing)).toEqual([]);
  });
});
