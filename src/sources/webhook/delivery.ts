/**
 * A webhook request as signature schemes and adapters see it.
 *
 * @module
 */

import { TrueupError } from "../../core/errors.ts";
import type { WebhookDelivery } from "../../core/source.ts";
import { parseBody } from "./body.ts";

/** What each kind of server knows of a request before its body. Read only where it is asked for. */
export interface RequestHead {
  /** Upper case. */
  readonly method: string;
  /**
   * @param name in any case
   * @throws TrueupError `HEADER_REPEATED`
   */
  header(name: string): string | undefined;
  url(): string;
}

const UNREAD = Symbol("unread");

/** A request that was read to its end. */
export class ReceivedDelivery implements WebhookDelivery {
  /** Set once a signature scheme has vouched for it. */
  id: string | undefined;
  readonly body: Uint8Array;
  readonly receivedAt: number;
  readonly #head: RequestHead;
  #json: unknown = UNREAD;

  constructor(head: RequestHead, body: Uint8Array, receivedAt: number) {
    this.#head = head;
    this.body = body;
    this.receivedAt = receivedAt;
  }

  get method(): string {
    return this.#head.method;
  }

  get url(): string {
    return this.#head.url();
  }

  header(name: string): string | undefined {
    return this.#head.header(name);
  }

  // oxlint-disable-next-line typescript/no-explicit-any -- as in WebhookDelivery
  get json(): any {
    if (this.#json === UNREAD) this.#json = parseBody(this.body, this.header("content-type"));
    return this.#json;
  }
}

/** Longer ids name nothing; a delivery's id may stem from a header that nobody signed. */
const MAX_ID_LENGTH = 1_024;

/** Whether something from outside can be the id of a connection or a delivery. */
export function isUsableId(id: unknown): id is string {
  return (
    typeof id === "string" &&
    id !== "" &&
    id.length <= MAX_ID_LENGTH &&
    !id.includes("\0") &&
    id.isWellFormed()
  );
}

/**
 * What `webhook.connection` returned as a connection's id; `undefined` for what can be none.
 * @throws TrueupError `EVENTS_FAILED`
 */
export function connectionIdText(id: unknown): string | undefined {
  // `json` is untyped, so the number that many providers use here gets past the compiler.
  const text = Number.isSafeInteger(id) ? String(id) : id;
  if (text === undefined || text === null) return undefined;
  if (typeof text !== "string")
    throw new TrueupError("EVENTS_FAILED", "`webhook.connection` returned no string");
  return isUsableId(text) ? text : undefined;
}
