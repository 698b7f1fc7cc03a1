import { posix } from "node:path";
import { codeOnly, importsOf } from "./source.ts";

/** A file of src/: its path from the repository's root with forward slashes, and its text. */
export interface SourceFile {
  readonly path: string;
  readonly text: string;
}

/** A file or folder directly below src/, and what it may import besides itself. Arrows point down only. */
const mayImport: Record<string, readonly string[]> = {
  index: ["engine", "sources", "stores", "http", "signatures", "core"],
  engine: ["composition", "sources", "http", "core"],
  composition: ["sources", "stores", "http", "core"],
  // Entries of their own, which build engines; nothing may import them.
  testing: ["engine", "sources", "stores", "http", "signatures", "core"],
  cli: ["engine", "sources", "stores", "observe", "http", "signatures", "core"],
  sources: ["http", "signatures", "core"],
  stores: ["http", "signatures", "core"],
  providers: ["http", "signatures", "core"],
  observe: ["http", "signatures", "core"],
  http: ["core"],
  signatures: ["core"],
  core: [],
};

/** Inside core the path (worker, reconciler, …) stands on the contracts, never the other way round. */
const contracts = [
  "event",
  "resource",
  "provider",
  "source",
  "store",
  "errors",
  "clock",
  "hooks",
  "options",
  "retry",
];
const pathParts = ["worker", "reconciler", "scheduler", "lifecycle"];

const coreMayImport = {
  types: ["@standard-schema/spec"],
  builtins: ["node:crypto", "node:async_hooks", "node:util"],
};

const clockFile = "src/core/clock.ts";

/** `server.setTimeout()` and the like are other things; the globals are meant. */
const clockReaders = [
  /(?<![\w$])Date\s*\.\s*now\b/g,
  /(?<![\w$])new\s+Date(?![\w$])\s*(?:\(\s*\)|(?!\s*\())/g,
  /(?<!new\s+)(?<![.\w$])Date\s*\(/g,
  /(?<![\w$])Math\s*\.\s*random\b/g,
  /(?<![\w$])performance\s*\.\s*(?:now|timeOrigin)\b/g,
  /(?<![\w$])process\s*\.\s*(?:hrtime|uptime)\b/g,
  /(?<![\w$])Temporal\s*\.\s*Now\b/g,
  /(?<![\w$])AbortSignal\s*\.\s*timeout\b/g,
  /(?:(?<![.\w$])|(?<![\w$])globalThis\s*\.\s*)set(?:Timeout|Interval)\b/g,
];
const clockModules = [
  "node:timers",
  "node:timers/promises",
  "node:perf_hooks",
  "timers",
  "timers/promises",
  "perf_hooks",
];

export function importViolations(file: SourceFile, packages: readonly string[]): string[] {
  const unit = unitOf(file.path);
  const found: string[] = [];
  for (const { specifier, typeOnly } of importsOf(file.text)) {
    const refuse = (why: string) => found.push(`${file.path}: imports ${specifier}: ${why}`);
    if (specifier.startsWith(".")) {
      const target = resolve(file.path, specifier);
      if (!target.startsWith("src/")) refuse("outside src");
      else if (!allowed(unit, unitOf(target))) refuse(`${unit} may not import ${unitOf(target)}`);
      else if (isContract(file.path) && isPath(target)) refuse("a contract may not import the path");
      if (!specifier.endsWith(".ts")) refuse("relative imports name the .ts file");
    } else if (clockModules.includes(specifier) && file.path !== clockFile) {
      refuse("only clock.ts reads the clock");
    } else if (specifier.startsWith("node:")) {
      if (unit === "core" && !coreMayImport.builtins.includes(specifier)) refuse("core does no I/O");
    } else if (unit === "core") {
      if (!typeOnly || !coreMayImport.types.includes(specifier)) refuse("core imports no package");
    } else if (!packages.includes(packageOf(specifier))) {
      refuse("is not a dependency");
    }
  }
  return found;
}

export function clockViolations(file: SourceFile): string[] {
  if (file.path === clockFile) return [];
  const code = codeOnly(file.text);
  return clockReaders
    .flatMap((reader) => [...code.matchAll(reader)])
    .toSorted((a, b) => a.index - b.index)
    .map((match) => {
      const line = code.slice(0, match.index).split("\n").length;
      return `${file.path}:${line}: ${match[0].trim()}: only clock.ts reads the clock`;
    });
}

export function starExports(file: SourceFile): string[] {
  return /(?<![.\w$])export\s*(?:type\s*)?\*/.test(codeOnly(file.text))
    ? [`${file.path}: export * hides the surface`]
    : [];
}

/** Files that load one another in a circle; imports of types alone load nothing and do not count. */
export function cycles(files: readonly SourceFile[]): string[] {
  const edges = new Map(
    files.map((file) => [
      file.path,
      importsOf(file.text)
        .filter(({ specifier, typeOnly }) => specifier.startsWith(".") && !typeOnly)
        .map(({ specifier }) => resolve(file.path, specifier)),
    ]),
  );
  const found: string[] = [];
  const done = new Set<string>();
  const visit = (file: string, trail: readonly string[]): void => {
    if (trail.includes(file)) {
      found.push(`${[...trail.slice(trail.indexOf(file)), file].join(" -> ")}: a circle of imports`);
    } else if (!done.has(file)) {
      for (const next of edges.get(file) ?? []) visit(next, [...trail, file]);
      done.add(file);
    }
  };
  for (const file of edges.keys()) visit(file, []);
  return found;
}

function allowed(from: string, to: string): boolean {
  return from === to || (mayImport[from]?.includes(to) ?? false);
}

function unitOf(file: string): string {
  return file.split("/")[1]?.replace(/\.ts$/, "") ?? "";
}

function resolve(file: string, specifier: string): string {
  return posix.join(posix.dirname(file), specifier);
}

function packageOf(specifier: string): string {
  return specifier.split("/", specifier.startsWith("@") ? 2 : 1).join("/");
}

function isContract(file: string): boolean {
  return contracts.some((name) => file === `src/core/${name}.ts`);
}

function isPath(file: string): boolean {
  return pathParts.some((name) => file === `src/core/${name}.ts` || file.startsWith(`src/core/${name}/`));
}
