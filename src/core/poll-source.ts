/**
 * What a poller is given: which feed, how often, and the function that reads a page of it.
 *
 * @module
 */

import type { Context } from "./api.ts";
import { invalidOption, TrueupError } from "./errors.ts";
import type { SyncEvent } from "./event.ts";
import { durationMs } from "./options.ts";
import { type Pace, paceOf } from "./pace.ts";
import type { Source } from "./source.ts";

export interface PollArguments {
  /** Where the last page ended, as `next` said; `undefined` at first, and after the feed's cursor was lost. */
  readonly cursor: string | undefined;
}

/** One page of a feed. */
export interface PollResult<Resource extends string = string> {
  readonly events: readonly SyncEvent<Resource>[];
  /**
   * The cursor of the next poll; it is kept once the events are. `undefined`: as before. `null`: none, the next poll
   * begins anew.
   */
  readonly next?: string | null | undefined;
  /**
   * Whether the next page can be had at once. Left out: yes, where there were events and the cursor moved; which costs
   * one request that finds nothing after each that finds something.
   */
  readonly more?: boolean | undefined;
  /**
   * The provider does not know the cursor any more, or what happened behind it: events may be missing, and full passes
   * must find what they would have told. Without a `next`, the feed is asked again without a cursor.
   */
  readonly expired?: boolean | undefined;
  /** Not to be polled again before, in milliseconds. Where it is left out, the API's `X-Poll-Interval` counts. */
  readonly pollAfterMs?: number | undefined;
}

export interface PollSourceOptions<Resource extends string = string> {
  readonly provider: string;
  /** One connection, or several. @default all that are listed, and all that the store has heard of */
  readonly connection?: string | readonly string[] | undefined;
  /** How often, about: milliseconds, or `"30s"`, `"5m"`. Less often while nothing happens, more often while much does. */
  readonly every: number | string;
  /** The shortest interval. @default a quarter of `every`, and not under a second */
  readonly minEvery?: number | string | undefined;
  /** The longest interval. @default twice `every` */
  readonly maxEvery?: number | string | undefined;
  /** The cursor is kept under it: two feeds of one provider need two names. @default "poll:" and the provider's name */
  readonly name?: string | undefined;
  /**
   * Reads one page. A status 400, 404, 410 or 422 to a request with a cursor is taken for an expired cursor, if the
   * feed answers without one.
   */
  readonly poll: (
    context: Context,
    args: PollArguments,
  ) => PollResult<Resource> | Promise<PollResult<Resource>>;
}

/** A feed, with its defaults filled in. */
export interface PollDefinition {
  readonly name: string;
  readonly provider: string;
  /** `undefined`: all. */
  readonly connections: readonly string[] | undefined;
  readonly pace: Pace;
  readonly poll: PollSourceOptions["poll"];
}

/** By which the engine knows a poll source, also one that another copy of this package made. */
const DEFINITION = Symbol.for("trueup.poll");

const NAME = /^[\w:.-]{1,128}$/;

/**
 * A source that polls an event feed, or a list, from a durable cursor: for each connection, and in one process at a
 * time. Its events are hints as any others, and go the same way.
 *
 * @example
 * pollSource({
 *   provider: "crm",
 *   every: "1m",
 *   poll: async ({ api }, { cursor }) => {
 *     const { data } = await api.get("events", { query: { after: cursor } });
 *     return { events: data.map(eventOf), next: data.at(-1)?.id };
 *   },
 * });
 * @throws TrueupError `OPTION_INVALID`, naming the option
 */
export function pollSource<Resource extends string = string>(options: PollSourceOptions<Resource>): Source {
  const { connection, poll, provider } = options;
  if (typeof provider !== "string" || provider === "")
    throw invalidOption("pollSource: `provider` must be the name of a provider");
  if (typeof poll !== "function") throw invalidOption("pollSource: `poll` must be a function");
  const name = options.name ?? `poll:${provider}`;
  if (typeof name !== "string" || !NAME.test(name))
    throw invalidOption('pollSource: `name` must be 1 to 128 letters, digits, "-", "_", "." or ":"');
  const connections = typeof connection === "string" ? [connection] : connection;
  if (connections?.length === 0 || connections?.some((id) => typeof id !== "string" || id === ""))
    throw invalidOption("pollSource: `connection` must name connections");
  const definition: PollDefinition = {
    name,
    provider,
    connections,
    pace: paceOf(optionsInMs(options)),
    poll,
  };
  const source: Source & { readonly [DEFINITION]: PollDefinition } = {
    name,
    [DEFINITION]: definition,
    run: () =>
      Promise.reject(
        new TrueupError("NOT_SUPPORTED", "a poll source runs in an engine: give it to `sources`"),
      ),
  };
  return source;
}

/** What a source polls; `undefined` for sources of other kinds. */
export function pollDefinition(source: Source): PollDefinition | undefined {
  return (source as { readonly [DEFINITION]?: PollDefinition })[DEFINITION];
}

function optionsInMs({ every, maxEvery, minEvery }: PollSourceOptions): Partial<Pace> & { everyMs: number } {
  return {
    everyMs: durationMs(every, "every"),
    ...(minEvery === undefined ? undefined : { minMs: durationMs(minEvery, "minEvery") }),
    ...(maxEvery === undefined ? undefined : { maxMs: durationMs(maxEvery, "maxEvery") }),
  };
}
