/**
 * What the events of one object announce together.
 *
 * @module
 */

import type { Hint } from "./event.ts";
import type { EncodedVersion } from "./version.ts";

/** A hint, the highest announced version, and that version's `versionOrder`. */
export interface MergedHint {
  readonly hint: Hint | null;
  readonly version: EncodedVersion | null;
  readonly order: string | null;
}

export const NO_HINT: MergedHint = { hint: null, version: null, order: null };

/**
 * Of two announcements the one with the higher version counts; where nothing orders them, the later one. One without a
 * version keeps the version that was announced before it, and one that says nothing takes nothing away.
 */
export function mergeHints(earlier: MergedHint, later: MergedHint): MergedHint {
  if (later.version === null) return { ...earlier, hint: later.hint ?? earlier.hint };
  // The first letter is the kind of version; different kinds are not ordered.
  const ordered = earlier.order !== null && later.order !== null && later.order[0] === earlier.order[0];
  if (ordered && (later.order ?? "") < (earlier.order ?? "")) return earlier;
  const newer = ordered && later.order !== earlier.order;
  return newer ? later : { ...later, hint: later.hint ?? earlier.hint };
}
