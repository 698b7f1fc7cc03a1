import type { ObjectRef } from "trueup";

interface Recorded {
  readonly ref: Pick<ObjectRef, "connection" | "id">;
  /** How often the store said of it that it is a new one, since its connection was forgotten. */
  accepted: number;
  /** When it was last accepted as new. */
  at: number;
  /** Whether it is certain that something has to come of it. */
  owed: boolean;
}

/** The events that the store has said that it has. */
export class RecordedEvents {
  readonly #events = new Map<string, Recorded>();

  /** @param certain its connection was not forgotten meanwhile */
  appended(
    event: string,
    ref: Recorded["ref"],
    { certain, isNew, step }: { readonly isNew: boolean; readonly certain: boolean; readonly step: number },
  ): void {
    const recorded = this.#events.get(event) ?? { ref, accepted: 0, at: step, owed: certain };
    this.#events.set(event, recorded);
    if (!isNew || !certain) return;
    recorded.accepted += 1;
    recorded.at = step;
    recorded.owed = true;
  }

  has(event: string): boolean {
    return this.#events.has(event);
  }

  /** When an event was accepted. */
  acceptedAt(event: string): number | undefined {
    return this.#events.get(event)?.at;
  }

  get size(): number {
    return this.#events.size;
  }

  /** Whether somebody who may do so has let go of it: a connection was forgotten, or a dead letter discarded. */
  isWaived(event: string): boolean {
    return this.#events.get(event)?.owed === false;
  }

  /** How often each was accepted as new. */
  *accepted(): Generator<[string, number]> {
    for (const [event, { accepted }] of this.#events) yield [event, accepted];
  }

  forgotten(connection: string): void {
    for (const recorded of this.#events.values()) {
      if (recorded.ref.connection !== connection) continue;
      recorded.accepted = 0;
      recorded.owed = false;
    }
  }

  /** @param key of an object; of a connection, where it is the mark that something of it changed */
  dropped(key: string): void {
    for (const recorded of this.#events.values()) {
      const { connection, id } = recorded.ref;
      if ((id === "" ? connection : id) === key) recorded.owed = false;
    }
  }
}
