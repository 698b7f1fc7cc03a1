/**
 * The work of a whole resource: an event said that something of it changed, and not what. A pass finds out.
 *
 * @module
 */

import { stopped } from "./errors.ts";
import type { Route } from "./registry.ts";
import { asError } from "./retry.ts";
import type { Shift } from "./shift.ts";
import type { Claim } from "./store.ts";

/** Runs the pass, and ends its claim. @param signal ends it early: the claim then goes back as it came */
export async function runHintedPass(
  { endings, reconciler }: Pick<Shift, "endings" | "reconciler">,
  route: Route,
  claim: Claim,
  signal: AbortSignal,
): Promise<void> {
  if (endings.isWornOut(claim)) {
    await endings.giveUp(route, claim);
    return;
  }
  try {
    const { forced, generation, ref } = claim;
    if (route.resource.list !== undefined) {
      const { provider, connection, resource } = ref;
      const mode = forced ? "full" : route.resource.onHint;
      const scope = { provider, connection, resource };
      const request = { mode, handle: "changed", signal } as const;
      const report = await reconciler.reconcileAfter(route, scope, request, generation);
      if (!report.complete) throw stopped();
    }
    await endings.done(route, { claim, kind: "done", index: null });
  } catch (thrown) {
    await endings.fail(route, claim, asError(thrown), false);
  }
}
