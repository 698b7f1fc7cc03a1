import { objectOf, pathOf, reidentify, type Identity } from "./identity.ts";
import type { Kind } from "./kinds.ts";
import { makePlan, type Plan, type Step } from "./plan.ts";
import type { Random } from "./random.ts";
import { textOf, type JsonObject, type Recording } from "./recordings.ts";

/** What GitHub sends a webhook about. */
export interface Notice {
  readonly event: string;
  readonly payload: JsonObject;
}

export interface WorldOptions {
  /** How many updates there will be, beside creations and deletions. */
  readonly updates: number;
  /** How far what the API shows lies behind what has happened, in milliseconds: it reads from a replica. */
  readonly lagMs: number;
  /** Milliseconds that only grow; the replica's lag is measured on it. */
  readonly clock: () => number;
}

interface State {
  /** Since when it is so, by {@link WorldOptions.clock}. */
  readonly at: number;
  /** `undefined`: deleted. */
  readonly object: JsonObject | undefined;
}

/** These change an issue, at times without touching its `updated_at`, as some changes at GitHub do. */
const QUIET_ACTIONS = new Set(["labeled", "unlabeled"]);

/**
 * GitHub itself, as far as this demo goes: the objects of the recorded deliveries, and how they change over time. Each
 * state is one that GitHub recorded, under the object's own identity. What happens, and in which order, the seed alone
 * decides. In the end this is the truth that the copy is compared with.
 */
export class World {
  readonly #recordings: readonly Recording[];
  readonly #random: Random;
  readonly #options: WorldOptions;
  readonly #plan: Plan;
  readonly #byPath: ReadonlyMap<string, Identity>;
  /** Oldest first. An object that does not exist yet has none. */
  readonly #states = new Map<Identity, State[]>();
  #stepsDone = 0;
  #now = Date.parse("2024-03-01T09:00:00Z");

  constructor(recordings: readonly Recording[], random: Random, options: WorldOptions) {
    this.#recordings = recordings.filter(({ payload }) => payload["action"] !== "transferred");
    this.#random = random;
    this.#options = options;
    this.#plan = makePlan(random, options.updates);
    this.#byPath = new Map(this.#plan.cast.map((object) => [pathOf(object), object]));
    for (const object of this.#plan.born)
      this.#change({ kind: "create", object, secondsLater: 0 }, -Infinity);
  }

  /** The world's time, as the API says it in its Date header. */
  get now(): Date {
    return new Date(this.#now);
  }

  get done(): boolean {
    return this.#stepsDone === this.#plan.steps.length;
  }

  /** Objects that exist, or did. */
  get size(): number {
    return this.#states.size;
  }

  /** How many notices {@link step} gives in all. */
  get notices(): number {
    return this.#plan.steps.filter((step) => this.#announced(step)).length;
  }

  /** Lets the next change happen. @returns what GitHub tells about it; not every change is told */
  step(): Notice | undefined {
    const step = this.#plan.steps[this.#stepsDone];
    if (step === undefined) throw new Error("nothing more happens");
    this.#stepsDone += 1;
    this.#now += step.secondsLater * 1_000;
    const payload = this.#change(step, this.#options.clock());
    return this.#announced(step) ? { event: step.object.kind.event, payload } : undefined;
  }

  /** One object as the API shows it at present; `"deleted"`; or `undefined` where it knows of none. */
  read(path: string): JsonObject | "deleted" | undefined {
    const object = this.#byPath.get(path);
    const state = object === undefined ? undefined : this.#visible(object);
    return state === undefined ? undefined : (state.object ?? "deleted");
  }

  /** A repository's objects of one kind as the API shows them at present, oldest first. */
  list(repository: string, kind: Kind): JsonObject[] {
    return this.#plan.cast
      .filter((object) => object.kind === kind && object.repository.fullName === repository)
      .toSorted((a, b) => a.id - b.id)
      .map((object) => this.#visible(object)?.object)
      .filter((state) => state !== undefined);
  }

  /** Everything that exists, whatever the API shows at the moment. */
  truth(): { readonly identity: Identity; readonly object: JsonObject }[] {
    return [...this.#states].flatMap(([identity, states]) => {
      const object = states.at(-1)?.object;
      return object === undefined ? [] : [{ identity, object }];
    });
  }

  #visible(object: Identity): State | undefined {
    const until = this.#options.clock() - this.#options.lagMs;
    return this.#states.get(object)?.findLast((state) => state.at <= until);
  }

  /** GitHub has no webhook for the deletion of some kinds: there are no recordings of one. */
  #announced({ kind, object }: Step): boolean {
    return kind !== "delete" || this.#recorded(object.kind, "delete").length > 0;
  }

  #recorded(kind: Kind, step: Step["kind"]): Recording[] {
    return this.#recordings.filter(
      ({ event, payload }) => event === kind.event && stepOf(textOf(payload["action"])) === step,
    );
  }

  /** @returns the payload of the delivery about it */
  #change({ kind: step, object }: Step, at: number): JsonObject {
    const { kind } = object;
    const states = this.#states.get(object) ?? [];
    this.#states.set(object, states);
    const before = states.at(-1)?.object;
    const fitting = this.#recorded(kind, step);
    const recording = this.#random.pick(fitting.length > 0 ? fitting : this.#recorded(kind, "update"));
    const payload = reidentify(recording.payload, object);
    if (step === "delete") {
      states.push({ at, object: undefined });
      return { ...payload, [kind.field]: before! };
    }
    const quiet =
      QUIET_ACTIONS.has(textOf(payload["action"])) && kind.since === true && this.#random.chance(0.5);
    const after = this.#next(kind, objectOf(payload, kind), before, states.length + 1, quiet);
    states.push({ at, object: after });
    return { ...payload, [kind.field]: after };
  }

  #next(
    kind: Kind,
    recorded: JsonObject,
    before: JsonObject | undefined,
    revision: number,
    quiet: boolean,
  ): JsonObject {
    const now = this.now.toISOString().replace(".000Z", "Z");
    return {
      // Some recordings leave out what did not change.
      ...before,
      ...recorded,
      ...("created_at" in recorded ? { created_at: before?.["created_at"] ?? now } : undefined),
      ...("updated_at" in recorded
        ? { updated_at: (quiet ? before?.["updated_at"] : undefined) ?? now }
        : undefined),
      [kind.text]: `${textOf(recorded[kind.text] ?? kind.resource)} (revision ${revision})`,
    };
  }
}

function stepOf(action: string): Step["kind"] {
  if (action === "deleted") return "delete";
  return ["opened", "created", "published", "requested"].includes(action) ? "create" : "update";
}
