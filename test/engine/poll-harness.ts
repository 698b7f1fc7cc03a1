/** What the tests of pollers share: a feed that stands still, and an engine that polls it. */

import { onTestFinished } from "vitest";
import {
  type Context,
  defineProvider,
  defineResource,
  type EngineOptions,
  pollSource,
  type PollArguments,
  type PollResult,
  type PollSourceOptions,
} from "trueup";
import { type RecordedEvent, testEngine } from "trueup/testing";
import { z } from "zod";

export type Poll = (args: PollArguments, count: number, context: Context) => PollResult | Promise<PollResult>;

export interface PollingOptions {
  readonly source?: Partial<PollSourceOptions>;
  readonly engine?: Partial<Omit<EngineOptions, "clock">>;
  /** Objects that `list` shows. Without any, the resource has no list. */
  readonly listed?: readonly { id: string; rev: number }[];
}

/** An engine that polls a provider "feed" of things every minute, on virtual time. Not started. */
export function pollingEngine(poll: Poll, { engine: more, listed, source }: PollingOptions = {}) {
  const asked: (PollArguments & { readonly at: number; readonly connection: string })[] = [];
  const lists: (Date | undefined)[] = [];
  const fetched: string[] = [];
  const thing = defineResource({
    schema: z.object({ id: z.string(), rev: z.number() }),
    idOf: ({ id }) => id,
    fetch: async (id) => {
      fetched.push(id);
      return { id, rev: fetched.length };
    },
    ...(listed === undefined
      ? undefined
      : {
          list: async ({ since }) => {
            lists.push(since);
            return { items: listed };
          },
        }),
  });
  const made = testEngine({
    providers: [defineProvider({ name: "feed", resources: { thing } })],
    sources: [
      pollSource({
        provider: "feed",
        every: "1m",
        ...source,
        poll: (context, args) => {
          const { clock } = made;
          asked.push({ ...args, at: clock.monotonic(), connection: context.connection.id });
          return poll(args, asked.length, context);
        },
      }),
    ],
    ...more,
  });
  made.engine.handle("feed.thing", () => {});
  onTestFinished(() => made.engine.stop());
  const named = <Name extends RecordedEvent["name"]>(name: Name) =>
    made.told.flatMap((one) =>
      one.name === name ? [one.event as (RecordedEvent & { name: Name })["event"]] : [],
    );
  return { ...made, asked, fetched, lists, named };
}

/** Waits for a fact, turn by turn of the event loop; no virtual time passes. */
export async function until(fact: () => boolean): Promise<void> {
  for (let turns = 0; !fact(); turns += 1) {
    if (turns > 100_000) throw new Error("gave up waiting");
    await new Promise((resolve) => void setImmediate(resolve));
  }
}

/** An event about a thing, as a feed tells it. */
export function about(objectId: string, id?: string) {
  return { resource: "thing", objectId, ...(id === undefined ? undefined : { id }) };
}
