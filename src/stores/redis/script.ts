/**
 * Scripts: each a text that Redis knows by its digest.
 *
 * @module
 */

import { hash } from "node:crypto";
import { PRELUDE } from "./prelude.ts";

export interface Script {
  readonly text: string;
  /** What `EVALSHA` wants. */
  readonly digest: string;
}

/** A script on a partition. The libraries stand between the prelude and the script itself. */
export function script(body: string, ...libraries: readonly string[]): Script {
  const text = [PRELUDE, ...libraries, body].join("\n");
  return { text, digest: hash("sha1", text) };
}
