import { describe, expect, it } from "vitest";
import type { StandardSchemaV1 } from "@standard-schema/spec";
import type { Verifier, WebhookDelivery } from "trueup";
import { keyOf, objectOf } from "../../examples/github-demo/identity.ts";
import { kinds } from "../../examples/github-demo/kinds.ts";
import { githubProvider } from "../../examples/github-demo/provider.ts";
import { Random } from "../../examples/github-demo/random.ts";
import { loadRecordings, textOf } from "../../examples/github-demo/recordings.ts";
import { resources } from "../../examples/github-demo/resources.ts";
import { signer, type Delivery } from "../../examples/github-demo/traffic.ts";
import { World, type Notice } from "../../examples/github-demo/world.ts";

const recordings = loadRecordings();
const provider = githubProvider({ apiUrl: "http://127.0.0.1:1", secret: "secret" });
const webhook = provider.webhook!;

function received({ headers, body }: Delivery): WebhookDelivery {
  return {
    method: "POST",
    url: "http://127.0.0.1/",
    header: (name) => headers[name.toLowerCase()],
    body,
    json: JSON.parse(Buffer.from(body).toString()) as unknown,
    receivedAt: 0,
  };
}

function deliveryOf(notice: Notice): WebhookDelivery {
  return received(signer("secret")(notice, "an id"));
}

describe("the demo's provider", () => {
  it("accepts every recorded delivery as signed, and none with another body", async () => {
    const verifier = webhook.verify as Verifier;
    for (const recording of recordings) {
      const delivery = deliveryOf(recording);
      await verifier.verify(delivery, 0);
      const forged = { ...delivery, body: Buffer.concat([delivery.body, Buffer.from(" ")]) };
      await expect(async () => verifier.verify(forged, 0)).rejects.toMatchObject({
        code: "SIGNATURE_INVALID",
      });
    }
  });

  it("reads from each delivery of its kinds which object may have changed", async () => {
    for (const kind of kinds) {
      for (const recording of recordings.filter(({ event }) => event === kind.event)) {
        const object = objectOf(recording.payload, kind);
        const deleted = recording.payload["action"] === "deleted";
        expect(await webhook.events(deliveryOf(recording))).toEqual([
          {
            type: `${kind.event}.${textOf(recording.payload["action"])}`,
            resource: kind.resource,
            objectId: object[kind.key],
            hint: deleted ? "delete" : "upsert",
            version: object["updated_at"],
          },
        ]);
      }
    }
  });

  it("reads nothing from deliveries of other kinds", async () => {
    const others = recordings.filter(({ event }) => !kinds.some((kind) => kind.event === event));
    expect(others.length).toBeGreaterThan(200);
    for (const recording of others) expect(await webhook.events(deliveryOf(recording))).toEqual([]);
  });

  it("takes no object from a header that does not fit the body", async () => {
    const release = recordings.find(({ event }) => event === "release")!;
    expect(await webhook.events(deliveryOf({ ...release, event: "pull_request" }))).toEqual([]);
  });

  it("has schemas that every state of every object satisfies, and finds its id", async () => {
    const world = new World(recordings, new Random(1), { updates: 1_500, lagMs: 0, clock: () => 0 });
    while (!world.done) world.step();
    for (const { identity, object } of world.truth()) {
      const resource = resources[identity.kind.resource as keyof typeof resources];
      const checked = await (resource.schema as StandardSchemaV1)["~standard"].validate(object);
      expect(checked.issues).toBeUndefined();
      expect(String((resource.idOf as (object: unknown) => unknown)(object))).toBe(keyOf(identity));
    }
  });
});
