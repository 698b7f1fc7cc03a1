/** The provider of the benchmarks. */
import { defineProvider, defineResource, hmacSignature, type Page } from "trueup";
import { z } from "zod";
import { SECRET } from "./load.ts";

export const thingSchema = z.object({ id: z.string(), version: z.number(), name: z.string() });
export type Thing = z.infer<typeof thingSchema>;

export function thingProvider(api: {
  fetch?: (id: string) => Promise<unknown>;
  list?: (cursor: string | undefined, limit: number) => Promise<Page>;
  pageSize?: number;
  fetchMany?: (ids: string[]) => Promise<unknown[]>;
  batchSize?: number;
}) {
  const { batchSize, fetchMany, list } = api;
  return defineProvider({
    name: "bench",
    webhook: {
      verify: hmacSignature({ secret: SECRET, header: "x-signature", algorithm: "sha256", encoding: "hex" }),
      events: ({ json }) => [
        { id: json.id, type: json.type, resource: "thing", objectId: json.object, version: json.version },
      ],
    },
    resources: {
      thing: defineResource({
        schema: thingSchema,
        idOf: (thing) => thing.id,
        versionOf: (thing) => thing.version,
        fetch: api.fetch ?? (async (id) => ({ id, version: 1, name: "a thing" })),
        ...(fetchMany === undefined ? undefined : { fetchMany, batchSize }),
        ...(list === undefined ? undefined : { list: ({ cursor, limit }) => list(cursor, limit) }),
        pageSize: api.pageSize ?? 1_000,
      }),
    },
  });
}

export const quiet = { debug() {}, info() {}, warn() {}, error() {} };
