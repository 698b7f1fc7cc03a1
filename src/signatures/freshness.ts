/**
 * Signed timestamps: how old, or how far ahead, a delivery may be.
 *
 * @module
 */

import { invalidOption, SignatureError } from "../core/errors.ts";

/** Five minutes to either side, as Standard Webhooks, Stripe and Slack have it for the past. */
export const DEFAULT_TOLERANCE_MS = 300_000;

/** Seconds or milliseconds since the epoch. */
export type TimestampUnit = "s" | "ms";

/** Digits alone: `parseInt` and `Number` would also take `"1674abc"`, `""`, `"1e9"` and `"0x10"`. */
const INTEGER = /^(?:0|[1-9][0-9]{0,14})$/;

/** @throws TrueupError `OPTION_INVALID` */
export function requireTolerance(scheme: string, toleranceMs: number | undefined): number {
  const tolerance = toleranceMs ?? DEFAULT_TOLERANCE_MS;
  if (typeof tolerance === "number" && tolerance > 0 && Number.isFinite(tolerance)) return tolerance;
  throw invalidOption(`${scheme}: \`toleranceMs\` must be a number of milliseconds above 0`);
}

/**
 * Refuses a timestamp that is too far from now, to either side: one from the future could be replayed until it is past.
 * @throws SignatureError
 */
export function requireFresh(timestamp: string, unit: TimestampUnit, now: number, toleranceMs: number): void {
  if (!INTEGER.test(timestamp)) throw new SignatureError("the signature's timestamp is not an integer");
  const ageMs = now - Number(timestamp) * (unit === "s" ? 1_000 : 1);
  if (Math.abs(ageMs) <= toleranceMs) return;
  const side = ageMs > 0 ? "old" : "ahead of this clock";
  throw new SignatureError(
    `the signature's timestamp is ${Math.abs(ageMs)} ms ${side}; ${toleranceMs} ms are allowed`,
  );
}
