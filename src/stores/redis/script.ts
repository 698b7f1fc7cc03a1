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
  /** Whether it is sent at once, and does not wait for others. */
  readonly urgent: boolean;
}

/** A script on a partition. The libraries stand between the prelude and the script itself. */
export function script(body: string, ...libraries: readonly string[]): Script {
  const text = [PRELUDE, ...libraries, body].join("\n");
  return { text, digest: hash("sha1", text), urgent: false };
}

/** What leases objects: workers wait for it. */
export function urgentScript(body: string, ...libraries: readonly string[]): Script {
  return { ...script(body, ...libraries), urgent: true };
}
