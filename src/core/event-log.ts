/**
 * Writes what goes wrong into the log of those who listen to nothing.
 *
 * @module
 */

import type { Hooks, Logger } from "./hooks.ts";

export function logEvents(hooks: Hooks, logger: Logger): void {
  hooks.on("error", ({ error, during }) =>
    logger.error({ error, during }, `${during} failed: ${error.message}`),
  );
  hooks.on("warning", ({ code, message, scope }) => logger.warn({ code, ...scope }, message));
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
    logger.warn(pause, `connection ${pause.provider}/${pause.connection} is paused: ${pause.reason}`),
  );
  hooks.on("webhooks.quiet", (quiet) =>
    logger.warn(
      quiet,
      `no event of ${quiet.provider}/${quiet.connection} came while passes found ${quiet.missed} changes: is its webhook still on?`,
    ),
  );
  hooks.on("deletes.suppressed", (held) =>
    logger.warn(
      held,
      `${held.count} deletions of ${held.provider}.${held.resource} look like a mistake and were held back`,
    ),
  );
}
