/**
 * The objects of a fake provider, with every state that each of them ever had.
 *
 * @module
 */

/** An object as the API returns it: your fields, and three that the provider fills in. */
export interface FakeObject {
  readonly [field: string]: unknown;
  readonly id: string;
  /** Grows with every change of any object. */
  readonly version: number;
  /** ISO 8601, by the provider's clock; later with every change of any object. */
  readonly updated_at: string;
}

/** One state that an object really had. */
export interface FakeState {
  /** Its place in the order of all changes. */
  readonly sequence: number;
  /** When the change was made, in milliseconds since the epoch, without the skew of the provider's clock. */
  readonly at: number;
  /** The same as the provider says it. */
  readonly changedAt: number;
  /** From when on the API shows it; as `at`. */
  readonly visibleAt: number;
  /** Its version; of a deletion, the deletion's. */
  readonly version: number;
  /** `undefined`: it was deleted. */
  readonly object: FakeObject | undefined;
}

/** A change, as it is announced. */
export interface FakeChange {
  readonly kind: "created" | "updated" | "deleted";
  readonly resource: string;
  readonly id: string;
  readonly state: FakeState;
}

/** How a change is made. */
export interface ChangeRequest {
  readonly resource: string;
  readonly id: string;
  /** `undefined` deletes. */
  readonly fields: Readonly<Record<string, unknown>> | undefined;
  readonly at: number;
  /** How much later the API shows it, in milliseconds. */
  readonly lagMs: number;
  /** What `updated_at` will say, in milliseconds since the epoch. */
  readonly providerTime: number;
  /** Neither `version` nor `updated_at` move. */
  readonly keepsVersion: boolean;
}

export class Objects {
  readonly #histories = new Map<string, Map<string, FakeState[]>>();
  #sequence = 0;
  #revealed = 0;
  #changedAt = -Infinity;

  /** Makes a change. `undefined`: it would be none. */
  apply(request: ChangeRequest): FakeChange | undefined {
    const { resource, id, fields, at } = request;
    const history = this.#historyOf(resource, id);
    const before = history.at(-1);
    if (fields === undefined && before?.object === undefined) return undefined;
    this.#sequence += 1;
    const keeps = request.keepsVersion && before?.object !== undefined;
    const version = keeps ? before.version : this.#sequence;
    // Its clock may jump, but two changes never have the same time: who orders by it can.
    this.#changedAt = Math.max(Math.floor(request.providerTime), this.#changedAt + 1);
    const updatedAt = keeps ? before.object.updated_at : new Date(this.#changedAt).toISOString();
    const state: FakeState = {
      sequence: this.#sequence,
      at,
      changedAt: this.#changedAt,
      // What was made later is never shown earlier.
      visibleAt: Math.max(at + request.lagMs, before?.visibleAt ?? 0),
      version,
      object:
        fields === undefined
          ? undefined
          : { ...before?.object, ...fields, id, version, updated_at: updatedAt },
    };
    history.push(state);
    const kind = fields === undefined ? "deleted" : before?.object === undefined ? "created" : "updated";
    return { kind, resource, id, state };
  }

  history(resource: string, id: string): readonly FakeState[] {
    return this.#histories.get(resource)?.get(id) ?? [];
  }

  /** What the object is in truth. */
  current(resource: string, id: string): FakeObject | undefined {
    return this.history(resource, id).at(-1)?.object;
  }

  /** All objects that are there in truth. */
  all(resource: string): FakeObject[] {
    return [...(this.#histories.get(resource)?.values() ?? [])].flatMap(
      (states) => states.at(-1)?.object ?? [],
    );
  }

  ids(resource: string): string[] {
    return [...(this.#histories.get(resource)?.keys() ?? [])];
  }

  /** The state that the API shows at a moment. @param back how many states further back a replica is */
  visible(resource: string, id: string, now: number, back = 0): FakeState | undefined {
    const history = this.history(resource, id);
    let at = history.length - 1;
    while (at >= 0 && !this.#shows(history[at] as FakeState, now)) at -= 1;
    const state = history[at];
    const older = history[at - back];
    // A replica that is behind shows an older object, but neither undoes a deletion nor invents one.
    return state?.object !== undefined && older?.object !== undefined ? older : state;
  }

  /** The API has caught up: it shows all that was changed so far. */
  reveal(): void {
    this.#revealed = this.#sequence;
  }

  #shows({ sequence, visibleAt }: FakeState, now: number): boolean {
    return sequence <= this.#revealed || visibleAt <= now;
  }

  #historyOf(resource: string, id: string): FakeState[] {
    const byId = this.#histories.get(resource) ?? new Map<string, FakeState[]>();
    this.#histories.set(resource, byId);
    const history = byId.get(id) ?? [];
    byId.set(id, history);
    return history;
  }
}
