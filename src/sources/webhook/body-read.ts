/**
 * What reading a body can come to, in every adapter.
 *
 * @module
 */

import type { RefusalCode } from "./answer.ts";

/** The bytes, or why there are none. */
export type BodyRead =
  | Uint8Array
  | Extract<RefusalCode, "BODY_CONSUMED" | "BODY_TOO_LARGE" | "BODY_TIMEOUT" | "BODY_INCOMPLETE">;

/** How much of a refused body is read and dropped, so that the sender gets to see the refusal. */
export const DRAIN_BYTES = 16_777_216;
