import type { Identity, Repository } from "./identity.ts";
import { kinds } from "./kinds.ts";
import type { Random } from "./random.ts";

/** Enough objects in each that lists have several pages. */
export const repositories: readonly Repository[] = [
  { fullName: "Codertocat/Hello-World", id: 186_853_002 },
  { fullName: "Codertocat/Spoon-Knife", id: 186_853_901 },
  { fullName: "Codertocat/git-consortium", id: 186_853_902 },
];

/** The share of the objects that exist from the beginning, and the share that is deleted in the end. */
const BORN_EARLY = 0.6;
const DELETED = 0.12;

export interface Step {
  readonly kind: "create" | "update" | "delete";
  readonly object: Identity;
  /** By the world's own clock, whose hours pass in seconds of ours. GitHub counts in whole seconds. */
  readonly secondsLater: number;
}

export interface Plan {
  readonly cast: readonly Identity[];
  /** Those of the cast that exist from the beginning. */
  readonly born: readonly Identity[];
  readonly steps: readonly Step[];
}

/** Decides what will happen at GitHub: which object is created, updated and deleted, and in which order. */
export function makePlan(random: Random, updates: number): Plan {
  const cast = random.shuffled(everyObject());
  const early = Math.round(cast.length * BORN_EARLY);
  const born = cast.slice(0, early);
  const unborn = cast.slice(early);
  const alive = [...born];
  const mortal = () => alive.filter(({ kind }) => kind.goneStatus !== undefined);
  const order = random.shuffled([
    ...unborn.map(() => "create" as const),
    ...Array.from({ length: updates }, () => "update" as const),
    ...Array.from({ length: Math.round(cast.length * DELETED) }, () => "delete" as const),
  ]);
  const steps = order.map((kind): Step => {
    const object = kind === "create" ? unborn.pop()! : random.pick(kind === "delete" ? mortal() : alive);
    if (kind === "create") alive.push(object);
    if (kind === "delete") alive.splice(alive.indexOf(object), 1);
    return { kind, object, secondsLater: random.below(121) };
  });
  return { cast, born, steps };
}

function everyObject(): Identity[] {
  const objects: Identity[] = [];
  for (const repository of repositories) {
    let number = 0;
    for (const kind of kinds) {
      // Issues and pull requests share their numbers; milestones have their own.
      if (kind.resource === "milestone") number = 0;
      for (let i = 1; i <= kind.perRepository; i += 1) {
        if (kind.key === "number") number += 1;
        objects.push({
          kind,
          repository,
          id: 900_000_000 + objects.length,
          number,
          name: `:bug: Bugfix ${i}`,
        });
      }
    }
  }
  return objects;
}
