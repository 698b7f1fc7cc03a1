/**
 * Lanes by number: two a scope, one of each kind.
 *
 * @module
 */

import type { LaneKind } from "../../core/store.ts";

export function laneOf(scope: number, kind: LaneKind): number {
  return scope * 2 + Number(kind === "repair");
}

export function kindOf(lane: number): LaneKind {
  return lane % 2 === 0 ? "live" : "repair";
}

export function scopeOf(lane: number): number {
  return Math.floor(lane / 2);
}
