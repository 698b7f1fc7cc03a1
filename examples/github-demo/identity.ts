import type { Kind } from "./kinds.ts";
import { isObject, textOf, type Json, type JsonObject } from "./recordings.ts";

export interface Repository {
  readonly fullName: string;
  readonly id: number;
}

/** Who an object is: what stays the same while its state changes. */
export interface Identity {
  readonly kind: Kind;
  readonly repository: Repository;
  readonly id: number;
  readonly number: number;
  readonly name: string;
}

/** The object's path at the API, as in `/repos/Codertocat/Hello-World/issues/7`. */
export function pathOf(identity: Identity): string {
  return `/repos/${identity.repository.fullName}/${identity.kind.collection}/${encodeURIComponent(keyOf(identity))}`;
}

export function keyOf(identity: Identity): string {
  return String(identity[identity.kind.key]);
}

/**
 * The recordings show the same few objects again and again. This puts a recorded delivery under another identity:
 * another repository, and in it another object with its own id, number, links and node_id. Everything else stays as
 * GitHub recorded it.
 */
export function reidentify(recorded: JsonObject, identity: Identity): JsonObject {
  const { kind, repository } = identity;
  const object = objectOf(recorded, kind);
  const oldRepository = isObject(recorded["repository"]) ? recorded["repository"] : {};
  const moved = moveRepository(
    recorded,
    [oldRepository["full_name"], repositoryOf(object)],
    repository.fullName,
  );
  return {
    ...moved,
    ...(kind.key === "number" && "number" in moved ? { number: identity.number } : undefined),
    [kind.field]: renumber(objectOf(moved, kind), identity),
    repository: {
      ...swapId(isObject(moved["repository"]) ? moved["repository"] : {}, repository.id),
      name: repository.fullName.split("/")[1]!,
    },
  };
}

/** The object that a delivery is about. */
export function objectOf(payload: JsonObject, kind: Kind): JsonObject {
  const object = payload[kind.field];
  if (!isObject(object)) throw new Error(`a recorded ${kind.event} delivery without ${kind.field}`);
  return object;
}

function repositoryOf(object: JsonObject): string | undefined {
  return /\/repos\/([^/]+\/[^/]+)\//.exec(textOf(object["url"]))?.[1];
}

function moveRepository(payload: JsonObject, from: readonly (Json | undefined)[], to: string): JsonObject {
  const names = from.filter((name) => typeof name === "string");
  return mapStrings(payload, (text) =>
    names.reduce((result, name) => result.replaceAll(name, to), text),
  ) as JsonObject;
}

function renumber(object: JsonObject, identity: Identity): JsonObject {
  const { kind } = identity;
  const paths = kind.numberedPaths ?? [];
  const numbered = new RegExp(`/(${paths.join("|")})/${textOf(object["number"])}(?!\\d)`, "g");
  const renumbered = mapStrings(object, (text) =>
    paths.length === 0 ? text : text.replaceAll(numbered, `/$1/${identity.number}`),
  ) as JsonObject;
  return {
    ...swapId(renumbered, identity.id),
    url: `https://api.github.com${pathOf(identity)}`,
    ...(kind.key === "number" ? { number: identity.number } : undefined),
    ...(kind.key === "name" ? { name: identity.name } : undefined),
  };
}

/** Puts a new id where the old one stands: in the field, in links, and in the node_id, which is base64 around it. */
function swapId(object: JsonObject, id: number): JsonObject {
  const old = new RegExp(`(?<!\\d)${textOf(object["id"])}(?!\\d)`, "g");
  const swap = (text: string) => text.replaceAll(old, String(id));
  const node = Buffer.from(textOf(object["node_id"]), "base64").toString("latin1");
  return {
    ...(mapStrings(object, swap) as JsonObject),
    id,
    ...(node.search(old) < 0 ? undefined : { node_id: Buffer.from(swap(node), "latin1").toString("base64") }),
  };
}

function mapStrings(value: Json, change: (text: string) => string): Json {
  if (typeof value === "string") return change(value);
  if (Array.isArray(value)) return value.map((item) => mapStrings(item, change));
  if (!isObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, mapStrings(inner, change)]));
}
