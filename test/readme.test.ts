import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { ReconcileOptions, ReconcileReport } from "trueup";

const root = fileURLToPath(new URL("..", import.meta.url));
const readme = readFileSync(`${root}README.md`, "utf8");

/** A TypeScript block of the README. */
interface Block {
  /** Of ```` ```ts file=name.ts ````; another block may import it. Others get a name after their line. */
  readonly file: string;
  /** As it stands, behind as many empty lines as make its line numbers those of the README. */
  readonly module: string;
  readonly code: string;
}

/** A comment `<!-- check: … -->` before a block is code that readers have from elsewhere; it goes to the first line. */
function blocksOf(markdown: string): Block[] {
  const lines = markdown.split("\n");
  const blocks: Block[] = [];
  for (let at = 0; at < lines.length; at += 1) {
    const fence = /^```ts(?: file=(\S+))?$/.exec(lines[at] ?? "");
    if (fence === null) continue;
    const end = lines.indexOf("```", at);
    const code = lines.slice(at + 1, end).join("\n");
    const prelude = /^<!-- check: (.*) -->$/.exec(lines[at - 2] ?? "")?.[1] ?? "";
    const module = `${prelude}${"\n".repeat(at + 1)}${code}\nexport {};\n`;
    blocks.push({ file: fence[1] ?? `readme-${at + 2}.ts`, module, code });
    at = end;
  }
  return blocks;
}

/** A project of a user's: the blocks as files, with the packages of this one. */
function projectOf(blocks: readonly Block[]): string {
  const folder = temporaryFolder();
  symlinkSync(`${root}node_modules`, join(folder, "node_modules"), "junction");
  writeFileSync(join(folder, "package.json"), JSON.stringify({ type: "module" }));
  const files = blocks.map((block) => block.file);
  writeFileSync(
    join(folder, "tsconfig.json"),
    JSON.stringify({ extends: `${root}tsconfig.json`, files, include: [] }),
  );
  for (const { file, module } of blocks) writeFileSync(join(folder, file), module);
  return folder;
}

/** What the project's compiler says. */
async function errorsIn(blocks: readonly Block[]): Promise<string[]> {
  const compiler = `${root}node_modules/typescript/bin/tsc`;
  const args = [compiler, "--project", projectOf(blocks), "--pretty", "false"];
  const run = promisify(execFile)(process.execPath, args);
  const { stdout } = await run.catch((error: unknown) => error as { stdout: string });
  return stdout.split("\n").filter((line) => line !== "");
}

const folders: string[] = [];

function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "trueup-readme-"));
  folders.push(folder);
  return folder;
}

afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

describe("the README's code", () => {
  test("is found", () => {
    expect(blocksOf(readme).map((block) => block.file)).toEqual(
      expect.arrayContaining(["crm.ts", "sync.ts", "copy.ts", "quill.ts", "shops.ts", "contact.test.ts"]),
    );
    expect(readme.match(/^```ts/gm)).toHaveLength(blocksOf(readme).length);
  });

  test("compiles", async () => {
    expect(await errorsIn(blocksOf(readme))).toEqual([]);
  });

  test("is really compiled: each mistake is told with its line", async () => {
    const wrong = readme.replaceAll(
      "versionOf: (contact) => contact.updated_at",
      "versionOf: (contact) => contact.updatedAt",
    );
    const line = wrong.split("\n").findIndex((text) => text.includes("contact.updatedAt")) + 1;
    const errors = await errorsIn(blocksOf(wrong));
    expect(errors[0]).toMatch(new RegExp(`sync\\.ts\\(${line},\\d+\\): error TS2551`));
  });
});

/** What the tests use of the README's engine. */
interface Engine {
  reconcile(route: string, options: ReconcileOptions): Promise<ReconcileReport>;
  stop(): Promise<void>;
}

test("the README's own tests pass, and end", async () => {
  const blocks = blocksOf(readme);
  const tests = blocks.map(({ file }) => file).filter((file) => file.endsWith(".test.ts"));
  expect(tests.length).toBeGreaterThan(2);
  const sources = pathToFileURL(join(root, "test/engine/simulation/from-sources.ts")).href;
  const args = ["--disable-warning=ExperimentalWarning", "--import", sources, "--test", ...tests];
  // A test's process that something keeps alive would run for ever.
  await promisify(execFile)(process.execPath, args, { cwd: projectOf(blocks), timeout: 60_000 });
}, 90_000);

describe("five minutes with the README", () => {
  let crm: string;
  let engine: Engine;
  const seen: string[] = [];
  const { log } = console;

  beforeAll(async () => {
    const [crmPort, hookPort] = await freePorts(2);
    crm = `http://127.0.0.1:${crmPort}/v1/contacts`;
    const blocks = blocksOf(readme).filter(({ file }) => file === "crm.ts" || file === "sync.ts");
    const replaced = (from: string, to: string, text: string) => {
      expect(text).toContain(from);
      return text.replaceAll(from, to);
    };
    const data = temporaryFolder();
    const folder = projectOf(
      blocks.map((block) => {
        const isCrm = block.file === "crm.ts";
        let module = replaced("4000", String(crmPort), block.module);
        module = replaced("3000", String(hookPort), module);
        if (isCrm) return { ...block, module };
        // A pass of the schedule could be faster than the webhook, so the tests run theirs by hand.
        module = replaced('"10s"', '"1h"', module);
        return { ...block, module: replaced('"sync.db"', JSON.stringify(join(data, "sync.db")), module) };
      }),
    );
    console.log = (...words: unknown[]) => void seen.push(words.join(" "));
    const load = (file: string) =>
      import(/* @vite-ignore */ pathToFileURL(join(folder, file)).href) as Promise<unknown>;
    await load("crm.ts");
    ({ engine } = (await load("sync.ts")) as { engine: Engine });
  });
  afterAll(async () => {
    console.log = log;
    await engine.stop();
  });

  const put = (url: string, email: string) => fetch(url, { method: "PUT", body: JSON.stringify({ email }) });

  test("lists what is there", async () => {
    await vi.waitFor(() =>
      expect(seen.toSorted()).toEqual(
        expect.arrayContaining(["c_1", "c_2"].map((id) => `reconcile upsert ${id} ${id}@example.com`)),
      ),
    );
  });

  test("handles a webhook", async () => {
    await put(`${crm}/c_1`, "new@example.com");
    await vi.waitFor(() => expect(seen.at(-1)).toBe("webhook upsert c_1 new@example.com"));
  });

  test("finds what no webhook told", async () => {
    await put(`${crm}/c_1?quiet`, "quiet@example.com");
    await engine.reconcile("crm.contact", { mode: "incremental" });
    expect(seen.at(-1)).toBe("reconcile upsert c_1 quiet@example.com");
  });

  test("handles a deletion, and holds one back where the list is empty", async () => {
    await fetch(`${crm}/c_2`, { method: "DELETE" });
    await vi.waitFor(() => expect(seen.at(-1)).toBe("webhook delete c_2 "));
    await fetch(`${crm}/c_1?quiet`, { method: "DELETE" });
    const report = await engine.reconcile("crm.contact", { mode: "full" });
    expect(report).toMatchObject({ listed: 0, deleted: 0, suppressedDeletes: 1 });
  });
});

describe("the README's tables", () => {
  const source = (file: string) => readFileSync(`${root}src/${file}`, "utf8");
  const fieldsOf = (file: string, name: string): string[] => {
    const [, body = ""] =
      new RegExp(`interface ${name}\\b[^{]*\\{\\n([\\s\\S]*?)\\n\\}`).exec(source(file)) ?? [];
    return [...body.matchAll(/^ {2}(?:readonly )?"?([\w.]+)"?\??:/gm)].map(([, field]) => field ?? "");
  };
  const named = (name: string) =>
    new RegExp(`\`(?:api\\.|webhook\\.)?${name.replace(".", "\\.")}[\`.]`).test(readme);

  test.each([
    ["core/options.ts", "EngineOptions", 16],
    ["core/resource.ts", "ResourceDefinition", 21],
    ["core/provider.ts", "ProviderDefinition", 6],
    ["core/provider.ts", "ApiDefinition", 6],
    ["core/provider.ts", "WebhookDefinition", 5],
    ["core/hooks.ts", "EventMap", 23],
    ["core/poll-source.ts", "PollSourceOptions", 7],
    ["core/poll-source.ts", "PollResult", 5],
    ["core/delivery-health.ts", "DeliveryStatus", 7],
    ["core/pass.ts", "PassCounts", 10],
    ["core/pass.ts", "DriftReport", 10],
    ["core/change.ts", "ChangeBase", 9],
    ["core/calls.ts", "ReconcileOptions", 8],
    ["core/event.ts", "SyncEvent", 8],
    ["core/dead-letters.ts", "DeadLetter", 9],
  ])("have all of %s: %s", (file, name, least) => {
    const fields = fieldsOf(file, name);
    expect(fields.length).toBeGreaterThanOrEqual(least);
    expect(fields.filter((field) => !named(field))).toEqual([]);
  });

  test("have all error codes, and no others", () => {
    const codes = [...source("core/errors.ts").matchAll(/^ {2}\| "([A-Z_]+)"/gm)].map(
      ([, code]) => code ?? "",
    );
    const section = readme.slice(readme.indexOf("### Error codes"), readme.indexOf("## What it is not"));
    const rows = [...section.matchAll(/^\| (`[A-Z_`, ]+`) \|/gm)].flatMap(
      ([, cell]) => cell?.match(/[A-Z_]+/g) ?? [],
    );
    expect(rows.toSorted()).toEqual(codes.toSorted());
    expect(codes.length).toBeGreaterThan(40);
  });

  test("lead to headings that exist", () => {
    const slugs = [...readme.matchAll(/^#+ (.+)$/gm)].map(([, title = ""]) =>
      title
        .toLowerCase()
        .replaceAll(/[^\w\- ]/g, "")
        .replaceAll(" ", "-"),
    );
    const links = [...readme.matchAll(/\]\(#([\w-]+)\)/g)].map(([, slug]) => slug);
    expect(links.length).toBeGreaterThan(20);
    expect(links.filter((slug) => !slugs.includes(slug ?? ""))).toEqual([]);
  });
});

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => new Promise((resolve) => server.once("listening", resolve))));
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
