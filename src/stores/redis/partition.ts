/**
 * Partitions: everything of a connection lies in one, under keys with one hash tag, so that a script finds it on one
 * node of a cluster.
 *
 * @module
 */

import { hash } from "node:crypto";
import { PARTITION_KEYS } from "./prelude.ts";

export interface Partition {
  readonly n: number;
  readonly keys: readonly string[];
  /** The key of something else in the partition. */
  key(name: string): string;
}

export class Partitions {
  readonly all: readonly Partition[];

  constructor(prefix: string, count: number) {
    this.all = Array.from({ length: count }, (_, n) => {
      const key = (name: string) => `{${prefix}:p${n}}:${name}`;
      return { n, key, keys: PARTITION_KEYS.map(key) };
    });
  }

  of(provider: string, connection: string): Partition {
    return this.#at(`${provider}\0${connection}`);
  }

  /** Where a checkpoint or lock is: with the connection whose `connectionKey` its name starts with. */
  ofName(name: string): Partition {
    if (this.all.length === 1) return this.#at("");
    const [provider, connection] = connectionIn(name);
    return provider === undefined || connection === undefined
      ? this.#at(name)
      : this.of(provider, connection);
  }

  #at(text: string): Partition {
    const count = this.all.length;
    const n = count === 1 ? 0 : hash("sha1", text, "buffer").readUInt32BE() % count;
    return this.all[n] as Partition;
  }
}

/** The connection that a name belongs to, where it starts with a `connectionKey`. */
function connectionIn(name: string): [provider?: string, connection?: string] {
  const json = /^\["(?:[^"\\]|\\.)*","(?:[^"\\]|\\.)*"\](?=:)/.exec(name)?.[0];
  return json === undefined ? [] : (JSON.parse(json) as [string, string]);
}
