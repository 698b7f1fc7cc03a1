/**
 * Checks the numbers of a provider's `api`, before the first request would trip over them.
 *
 * @module
 */

import { invalidOption } from "../core/errors.ts";
import type { ApiDefinition } from "../core/provider.ts";

type LimitFields = "rateLimit" | "timeoutMs" | "maxBodyBytes";

/** @throws TrueupError `OPTION_INVALID` naming the provider and the field */
export function requireApiLimits(provider: string, api: Pick<ApiDefinition<unknown>, LimitFields>): void {
  const { rateLimit } = api;
  const refuse = (field: string, what: string, value: unknown) =>
    invalidOption(`provider "${provider}": \`api.${field}\` must be ${what}, not ${String(value)}`);
  for (const name of ["requests", "concurrent"] as const) {
    const value = rateLimit?.[name];
    if (value !== undefined && !(Number.isSafeInteger(value) && value >= 1)) {
      throw refuse(`rateLimit.${name}`, "a whole number of at least 1", value);
    }
  }
  const positive = {
    "rateLimit.perMs": rateLimit?.perMs,
    timeoutMs: api.timeoutMs,
    maxBodyBytes: api.maxBodyBytes,
  };
  for (const [field, value] of Object.entries(positive)) {
    if (value !== undefined && !(Number.isFinite(value) && value > 0))
      throw refuse(field, "a number above 0", value);
  }
  const share = rateLimit?.repairShare;
  if (share !== undefined && !(share >= 0 && share <= 1))
    throw refuse("rateLimit.repairShare", "from 0 to 1", share);
}
