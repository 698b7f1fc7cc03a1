import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root } from "./mutant.ts";

/** A mutant can make a test wait for ever, and vitest with it. */
const HUNG_AFTER_MS = 180_000;

export interface TestRun {
  /** `"broken"`: no test failed, and yet the run did not pass. */
  readonly outcome: "passed" | "failed" | "hung" | "broken";
  readonly report: string;
  readonly seconds: number;
}

/** A copy of what tests need, in which sources can be changed. */
export class TreeCopy {
  readonly #path = mkdtempSync(join(tmpdir(), "trueup-mutants-"));
  /** Ends the tests that run now. */
  #end = () => {};

  constructor() {
    for (const name of ["src", "test", "package.json", "tsconfig.json", "tsup.config.ts"]) {
      cpSync(root + name, join(this.#path, name), { recursive: true });
    }
    symlinkSync(`${root}node_modules`, join(this.#path, "node_modules"), "dir");
  }

  write(file: string, text: string): void {
    writeFileSync(join(this.#path, file), text);
  }

  restore(file: string): void {
    cpSync(root + file, join(this.#path, file));
  }

  /** @param hungAfterMs after which the tests are taken to wait for ever */
  async test(files: readonly string[], hungAfterMs = HUNG_AFTER_MS): Promise<TestRun> {
    const began = performance.now();
    const output = join(this.#path, "report.json");
    rmSync(output, { force: true });
    const vitest = join(this.#path, "node_modules/vitest/vitest.mjs");
    const how = ["run", "--config", "test/vitest.config.ts", "--bail", "1", "--reporter", "json"];
    const child = spawn(process.execPath, [vitest, ...how, "--outputFile", output, ...files], {
      cwd: this.#path,
      stdio: ["ignore", "pipe", "pipe"],
      // That a run of a store against its model fails is enough: which part of it fails, nobody asks.
      env: { ...process.env, TRUEUP_MODEL_RAW: "1" },
      // A group of its own, so that with it end the processes that its tests have started.
      detached: true,
    });
    let said = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (said += String(text)));
    let hung = false;
    this.#end = () => void process.kill(-child.pid!, "SIGKILL");
    const watch = setTimeout(() => {
      hung = true;
      this.#end();
    }, hungAfterMs);
    const [code] = (await once(child, "close")) as [number | null];
    this.#end = () => {};
    clearTimeout(watch);
    const seconds = (performance.now() - began) / 1_000;
    if (hung) return { outcome: "hung", report: said, seconds };
    const { outcome, report } = outcomeOf(code, output, said);
    return { outcome, report, seconds };
  }

  [Symbol.dispose](): void {
    this.#end();
    rmSync(this.#path, { recursive: true, force: true });
  }
}

interface VitestReport {
  readonly numFailedTests: number;
  readonly numPassedTests: number;
  readonly testResults: readonly {
    readonly message?: string;
    readonly assertionResults: readonly { readonly fullName: string; readonly failureMessages?: string[] }[];
  }[];
}

function outcomeOf(code: number | null, output: string, said: string): Omit<TestRun, "seconds"> {
  let report: VitestReport;
  try {
    report = JSON.parse(readFileSync(output, "utf8")) as VitestReport;
  } catch {
    return { outcome: "broken", report: said };
  }
  const failures = report.testResults.flatMap(({ message, assertionResults }) => [
    ...(message === undefined || message === "" ? [] : [message]),
    ...assertionResults.flatMap(({ fullName, failureMessages = [] }) =>
      failureMessages.map((failure) => `${fullName}: ${failure}`),
    ),
  ]);
  const text = [...failures, said].join("\n");
  if (report.numFailedTests > 0) return { outcome: "failed", report: text };
  return { outcome: code === 0 && report.numPassedTests > 0 ? "passed" : "broken", report: text };
}
