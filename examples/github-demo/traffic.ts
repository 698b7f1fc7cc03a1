import { createHmac } from "node:crypto";
import type { Random } from "./random.ts";
import type { Recording } from "./recordings.ts";
import type { Notice, World } from "./world.ts";

/** One webhook, as it goes over the wire. */
export interface Delivery {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
}

/** What the network does to a delivery. */
export type Fate = "dropped" | "once" | "twice";

export interface TrafficPlan {
  /** One for each delivery that GitHub makes, in the order of what happens there. */
  readonly fates: readonly Fate[];
  /** How many requests that makes. */
  readonly requests: number;
}

/** 30 % are dropped and 20 % come twice: exactly so many, and the seed says which. */
export function planTraffic(deliveries: number, random: Random): TrafficPlan {
  const dropped = Math.round(deliveries * 0.3);
  const twice = Math.round(deliveries * 0.2);
  const fates = Array.from({ length: deliveries }, (_, i): Fate => {
    if (i < dropped) return "dropped";
    return i < dropped + twice ? "twice" : "once";
  });
  return { fates: random.shuffled(fates), requests: deliveries - dropped + twice };
}

/**
 * Lets things happen in the world, and yields the deliveries about them in the order of their arrival. Each waits for
 * a random while, so that they arrive shuffled, and some of them long after they were true; but none arrives before
 * what it tells of has happened. The recordings of `others`, which are about things that nobody here keeps a copy of,
 * are strewn between.
 */
export function* traffic(
  world: World,
  others: readonly Recording[],
  fates: readonly Fate[],
  sign: (notice: Notice, id: string) => Delivery,
  random: Random,
): Generator<Delivery> {
  const waiting: Delivery[] = [];
  const fateOf = fates.values();
  const waitingOthers = random.shuffled(others);
  const otherShare = others.length / fates.length;
  while (!world.done || waitingOthers.length > 0) {
    const other = world.done || random.chance(otherShare) ? waitingOthers.pop() : undefined;
    const notice = other ?? (world.done ? undefined : world.step());
    if (notice !== undefined) {
      const fate = fateOf.next().value;
      // A delivery that comes twice is the same one: same id, same bytes.
      const delivery = sign(notice, random.uuid());
      if (fate !== "dropped") waiting.push(delivery);
      if (fate === "twice") waiting.push(delivery);
    }
    // Fewer arrive than are made, so that a backlog grows which arrives when all is over.
    if (waiting.length > 0 && random.chance(0.7)) yield random.takeFrom(waiting);
  }
  while (waiting.length > 0) yield random.takeFrom(waiting);
}

/** Signs a delivery as GitHub does: HMAC-SHA256 over the very bytes of the body. */
export function signer(secret: string): (notice: Notice, id: string) => Delivery {
  return ({ event, payload }, id) => {
    const body = Buffer.from(JSON.stringify(payload));
    const signature = createHmac("sha256", secret).update(body).digest("hex");
    return {
      body,
      headers: {
        "content-type": "application/json",
        "user-agent": "GitHub-Hookshot/044aadd",
        "x-github-event": event,
        "x-github-delivery": id,
        "x-github-hook-id": "292430182",
        "x-hub-signature-256": `sha256=${signature}`,
      },
    };
  };
}
