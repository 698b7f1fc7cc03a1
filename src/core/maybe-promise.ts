/**
 * What may come at once or later. Awaiting what is there already costs a turn of the microtask queue and some memory,
 * which is nothing anywhere but on the way of each webhook.
 *
 * @module
 */

export type MaybePromise<T> = T | PromiseLike<T>;

export function isPromise<T>(value: MaybePromise<T>): value is PromiseLike<T> {
  return typeof (value as PromiseLike<T> | null | undefined)?.then === "function";
}
