/**
 * Sends a fake provider's webhooks: signed, again after failures, and as badly as real ones come.
 *
 * @module
 */

import { createHmac } from "node:crypto";
import { type Clock, sleep } from "../../core/clock.ts";
import type { Chances } from "./faults.ts";

/** A webhook before it is signed: signatures have the time of the attempt in them. */
export interface FakeWebhook {
  readonly id: string;
  readonly body: string;
}

/** Where webhooks go: a URL, or a function such as `engine.webhook("crm").fetch`. */
export type WebhookTarget = string | ((request: Request) => Promise<Response>);

/** One webhook, and what became of it. */
export interface FakeDelivery {
  readonly id: string;
  readonly body: string;
  /** The status of each attempt's answer, in order; 0 where none came. */
  readonly statuses: number[];
  /** The bodies of the answers. */
  readonly answers: string[];
  /** `false` while it waits, or is under way. */
  ended: boolean;
}

/** Headers that prove a webhook. `at`: milliseconds since the epoch, by the provider's clock. */
export type Sign = (webhook: FakeWebhook, at: number) => Readonly<Record<string, string>>;

export interface CourierOptions {
  readonly clock: Clock;
  readonly chances: Chances;
  readonly sign: Sign;
  /** The provider's own clock. */
  readonly providerNow: () => number;
  /** Delays before each further attempt, in milliseconds. */
  readonly retryDelaysMs: readonly number[];
}

export class Courier {
  target: WebhookTarget | undefined;
  readonly deliveries: FakeDelivery[] = [];
  readonly #options: CourierOptions;
  readonly #underWay = new Set<Promise<void>>();
  #held: (() => void)[] = [];

  constructor(options: CourierOptions) {
    this.#options = options;
  }

  /** Sends a webhook, or does not. */
  post(webhook: FakeWebhook): void {
    const { chances } = this.#options;
    if (chances.hits("dropWebhook")) return;
    const overtaken = this.#held;
    this.#held = [];
    const copies = chances.hits("duplicateWebhook") ? 2 : 1;
    for (let copy = 0; copy < copies; copy += 1) {
      if (chances.hits("reorderWebhook")) this.#held.push(() => this.#begin(webhook, 0));
      else this.#begin(webhook, chances.hits("delayWebhook") ? chances.upTo("webhookDelayMs") : 0);
    }
    for (const begin of overtaken) begin();
  }

  /** Sends at once what waits to be overtaken. */
  flush(): void {
    const held = this.#held;
    this.#held = [];
    for (const begin of held) begin();
  }

  /** Resolves when nothing is under way. Under virtual time, time has to pass for that. */
  async settled(): Promise<void> {
    this.flush();
    while (this.#underWay.size > 0) await Promise.all(this.#underWay);
  }

  get busy(): boolean {
    return this.#underWay.size > 0 || this.#held.length > 0;
  }

  #begin(webhook: FakeWebhook, delayMs: number): void {
    const way = this.#deliver(webhook, delayMs).finally(() => this.#underWay.delete(way));
    this.#underWay.add(way);
  }

  async #deliver(webhook: FakeWebhook, delayMs: number): Promise<void> {
    const { clock, retryDelaysMs } = this.#options;
    const delivery: FakeDelivery = { ...webhook, statuses: [], answers: [], ended: false };
    this.deliveries.push(delivery);
    if (delayMs > 0) await sleep(clock, delayMs);
    for (const nextInMs of [...retryDelaysMs, undefined]) {
      const { status, text } = await this.#attempt(webhook);
      delivery.statuses.push(status);
      delivery.answers.push(text);
      if ((status >= 200 && status < 300) || nextInMs === undefined) break;
      await sleep(clock, nextInMs);
    }
    delivery.ended = true;
  }

  async #attempt(webhook: FakeWebhook): Promise<{ status: number; text: string }> {
    const { providerNow, sign } = this.#options;
    const { target } = this;
    if (target === undefined) return { status: 0, text: "" };
    const url = typeof target === "string" ? target : "http://receiver.example/";
    const headers = { "content-type": "application/json", ...sign(webhook, providerNow()) };
    const request = new Request(url, { method: "POST", headers, body: webhook.body });
    try {
      const response = await (typeof target === "string" ? fetch(request) : target(request));
      return { status: response.status, text: await response.text() };
    } catch {
      return { status: 0, text: "" };
    }
  }
}

/** Signs as Standard Webhooks has it. @param secret base64, with or without `whsec_` in front */
export function standardSignature(secret: string): Sign {
  const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
  return ({ id, body }, at) => {
    const timestamp = String(Math.floor(at / 1_000));
    const signature = createHmac("sha256", key).update(`${id}.${timestamp}.${body}`).digest("base64");
    return { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": `v1,${signature}` };
  };
}
