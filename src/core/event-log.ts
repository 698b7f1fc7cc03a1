/**
 * Writes what goes wrong into the log of those who listen to nothing.
 *
 * @module
 */

import type { Clock } from "./clock.ts";
import { RetryLaterError } from "./errors.ts";
import type { EventMap, Hooks, Logger } from "./hooks.ts";

/**
 * While a database or an API is down each object fails: one of a route stands for them all. Without any, the log would
 * be silent until the first of them is given up, some minutes later.
 */
const TELL_FAILURE_EVERY_MS = 10_000;

export function logEvents(hooks: Hooks, logger: Logger, clock: Clock): void {
  hooks.on("error", ({ error, during }) =>
    logger.error({ error, during }, `${during} failed: ${error.message}`),
  );
  hooks.on("warning", ({ code, message, scope }) => logger.warn({ code, ...scope }, message));
  const timeToTell = nowAndThen(clock);
  hooks.on("change.failed", (failed) => {
    const { error, ref, retryInMs } = failed;
    const route = `${ref.provider}.${ref.resource}`;
    // A handler that asks for a later time has not failed.
    if (error instanceof RetryLaterError || !timeToTell(route)) return;
    logger.warn(failed, `${route} ${ref.id} failed, and is tried again in ${retryInMs} ms: ${error.message}`);
  });
  hooks.on("change.dead", ({ ref, attempt, error }) =>
    logger.error({ ref, attempt, error }, `gave up: ${error.message}`),
  );
  hooks.on("source.failed", ({ source, error, retryInMs }) =>
    logger.warn({ source, error, retryInMs }, `source ${source} failed: ${error.message}`),
  );
  hooks.on("poll.failed", ({ error, ...feed }) =>
    logger.warn({ ...feed, error }, `polling ${feed.source} failed: ${error.message}`),
  );
  hooks.on("connection.paused", (pause) =>
    logger.warn(
      pause,
      `connection ${pause.provider}/${pause.connection} is paused until ${endOf(pause)}: ${pause.reason}`,
    ),
  );
  hooks.on("webhooks.quiet", (quiet) =>
    logger.warn(
      quiet,
      `no event of ${quiet.provider}/${quiet.connection} came while passes found ${quiet.missed} changes: ${suspicion(quiet)}`,
    ),
  );
  hooks.on("deletes.suppressed", (held) =>
    logger.warn(
      held,
      `${held.count} deletions of ${held.provider}.${held.resource} look like a mistake and were held back`,
    ),
  );
}

/** Whether it is time for a line about something of this name. */
function nowAndThen(clock: Clock): (name: string) => boolean {
  const nextAt = new Map<string, number>();
  return (name) => {
    const now = clock.monotonic();
    if (now < (nextAt.get(name) ?? -Infinity)) return false;
    nextAt.set(name, now + TELL_FAILURE_EVERY_MS);
    return true;
  };
}

function endOf({ until }: EventMap["connection.paused"]): string {
  return until === null ? "it is resumed" : new Date(until).toISOString();
}

function suspicion({ signatureFailures }: EventMap["webhooks.quiet"]): string {
  return signatureFailures === 0
    ? "is its webhook still on?"
    : `the signatures of ${signatureFailures} deliveries did not fit; is the webhook's secret the one that is configured?`;
}
