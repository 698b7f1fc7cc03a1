/**
 * Lets `trueup` mean the sources, as it does in tests: what runs by itself then shares their classes with the parts of
 * `src` that it imports, and needs no build.
 *
 * @module
 */

import { readFileSync } from "node:fs";
import { registerHooks } from "node:module";

const root = new URL("../../../", import.meta.url);
const { exports } = JSON.parse(readFileSync(new URL("package.json", root), "utf8")) as {
  exports: Record<string, string | { readonly default: string }>;
};
const sources = new Map<string, string>(
  Object.entries(exports).flatMap(([subpath, target]) =>
    typeof target === "string"
      ? []
      : [[`trueup${subpath.slice(1)}`, target.default.replace(/^\.\/dist\/(.*)\.js$/, "src/$1.ts")] as const],
  ),
);

registerHooks({
  resolve(specifier, context, nextResolve) {
    const source = sources.get(specifier);
    return nextResolve(source === undefined ? specifier : new URL(source, root).href, context);
  },
});
