/**
 * Knows the secrets of the whole configuration, and frees what is told of them: errors, events, the log (I12).
 *
 * @module
 */

import type { ConnectionRegistry } from "./connections.ts";
import { type Redacting, scopeOf, toldError, toldEvent, type ToldScope } from "./failure.ts";
import type { Logger } from "./hooks.ts";
import type { AnyProvider } from "./provider.ts";
import { redactorOf, secretMembers, secretsOf, type Redact } from "./secrets.ts";

export interface RedactorOptions {
  readonly providers: ReadonlyMap<string, AnyProvider>;
  readonly connections: Pick<ConnectionRegistry, "secrets">;
  /** Sources and the store, which may have noted secrets of their own. */
  readonly owners?: readonly object[] | undefined;
  /** What the user named. */
  readonly secrets?: readonly string[] | undefined;
}

export class Redactor implements Redacting {
  readonly #options: RedactorOptions;
  /** Of what is configured once for all. */
  #own: readonly string[] | undefined;
  #redactOwn: Redact | undefined;

  constructor(options: RedactorOptions) {
    this.#options = options;
  }

  /** What frees texts about a connection of secrets: its own, and those of the configuration. Waits for no look-up. */
  of({ provider, connection }: ToldScope): Redact {
    this.#own ??= this.#configured();
    const theirs =
      provider === undefined || connection === undefined
        ? undefined
        : this.#options.connections.secrets(provider, connection);
    if (theirs === undefined || theirs.size === 0) return (this.#redactOwn ??= redactorOf(this.#own));
    return redactorOf([...this.#own, ...theirs]);
  }

  error(error: Error, scope: ToldScope): Error {
    return toldError(error, scope, this);
  }

  event<Event extends object>(event: Event): Event {
    return toldEvent(event, this);
  }

  /** A logger that passes on nothing secret. */
  logger(logger: Logger): Logger {
    const safely =
      (level: keyof Logger) =>
      (fields: object, message: string): void => {
        logger[level](this.event(fields), this.of(scopeOf(fields))(message));
      };
    return { debug: safely("debug"), info: safely("info"), warn: safely("warn"), error: safely("error") };
  }

  #configured(): string[] {
    const { owners = [], providers, secrets = [] } = this.#options;
    const found = [...secrets, ...owners.flatMap(secretsOf)];
    for (const { api, webhook } of providers.values()) {
      if (typeof api?.headers === "object") found.push(...secretMembers(api.headers));
      if (typeof webhook?.verify !== "function") found.push(...[webhook?.verify].flat().flatMap(secretsOf));
    }
    return found;
  }
}
