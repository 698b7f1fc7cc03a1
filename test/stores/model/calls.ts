/** From an operation as it was drawn to the call of the store, and to what the model is to make of the answer. */
import assert from "node:assert/strict";
import { dedupeKey, type ObjectRef, type Scope } from "../../../src/core/event.ts";
import type { AppendEntry, Claim, FailureRecord, IndexEntry, Settlement } from "../../../src/core/store.ts";
import { encodeVersion, versionOrder } from "../../../src/core/version.ts";
import type { Driver } from "./driver.ts";
import { scopeKey, type Model } from "./model.ts";
import { CONNECTIONS, expectUnseen, IDS, LOCKS, PASSES, PROVIDER, RESOURCES, SCOPES } from "./observe.ts";
import type { Alone, Operation, SettlementDrawn, Shareable } from "./operations.ts";

/** Tells a model what was answered; fails where it does not allow it. */
export type Check = (model: Model, now: number) => void;
type Call = () => Promise<Check>;
type Of<Kind extends Operation["kind"]> = Extract<Operation, { kind: Kind }>;
type Single = Exclude<Alone, { kind: "advance" | "release" | "crash" | "overtake" }>;

/** `undefined`: there is nothing yet to do it with. */
export function prepare<Tx>(driver: Driver<Tx>, operation: Shareable | Single): Call | undefined {
  const call = callOf(driver, operation);
  if (call === undefined) return undefined;
  return async () => {
    const check = await call();
    driver.trace.push(JSON.stringify(operation));
    return check;
  };
}

function callOf<Tx>(driver: Driver<Tx>, operation: Shareable | Single): Call | undefined {
  switch (operation.kind) {
    case "append":
      return append(driver, operation);
    case "claim":
      return claim(driver, operation);
    case "settle":
      return settle(driver, operation);
    case "commit":
      return commit(driver, operation);
    case "page":
      return recordPage(driver, operation);
    case "endPass":
      return endPass(driver, operation);
    case "unseen":
      return unseen(driver, operation);
    case "record":
      return record(driver, operation);
    case "lock":
      return lock(driver, operation);
    case "unlock": {
      const held = driver.locks.at(-1 - operation.lock);
      return (
        held && (async () => (await door(driver, operation).unlock(held), (model) => model.unlock(held)))
      );
    }
    case "mark": {
      const scope = SCOPES[operation.scope]!;
      return async () => {
        const value = await door(driver, operation).counter(scope);
        return (model) => model.mark(scope, value);
      };
    }
    case "pause":
      return pause(driver, operation);
    case "resume": {
      const connection = CONNECTIONS[operation.connection]!;
      return async () => {
        await door(driver, operation).resume(PROVIDER, connection);
        return (model) => void model.pauses.delete(connection);
      };
    }
    case "permits":
      return takePermits(driver, operation);
    case "retryDead":
    case "discardDead": {
      const filter = {
        connection: CONNECTIONS[operation.filter.connection ?? -1],
        ids: operation.filter.ids?.map((id) => IDS[id]!),
      };
      return async () => {
        const count = await door(driver, operation)[operation.kind](filter);
        return (model, now) => model[operation.kind](now, filter, count);
      };
    }
    case "forget": {
      const connection = CONNECTIONS[operation.connection]!;
      return async () => {
        await door(driver, operation).forget(PROVIDER, connection);
        return (model) => model.forget(PROVIDER, connection);
      };
    }
    case "sweep":
      return async () => {
        for (let slices = 0; await door(driver, operation).sweep(); slices += 1) {
          assert.ok(slices < 1_000, "sweep never says that it is through");
        }
        return (model, now) => model.sweep(now);
      };
  }
}

/** Of every connection's rate. */
const REQUESTS = 5;

function takePermits<Tx>(driver: Driver<Tx>, operation: Of<"permits">): Call | undefined {
  const store = door(driver, operation);
  if (store.takePermits === undefined) return undefined;
  const connection = CONNECTIONS[operation.connection]!;
  const budget = { provider: PROVIDER, connection, requests: REQUESTS, perMs: operation.perMs };
  return async () => {
    const grant = await store.takePermits!(budget, operation.wanted);
    return (model, now) => model.takePermits(now, budget, operation.wanted, grant);
  };
}

function append<Tx>(driver: Driver<Tx>, operation: Of<"append">): Call {
  const entries = operation.entries.map((drawn): AppendEntry => {
    const ref: ObjectRef = { ...SCOPES[drawn.scope]!, id: IDS[drawn.id]! };
    const version = encodeVersion(drawn.version);
    return {
      ref,
      dedupeKey: drawn.eventId === undefined ? undefined : dedupeKey(ref, `event ${drawn.eventId}`),
      event: drawn.event
        ? { id: `n${driver.serial()}`, origin: drawn.origin, receivedAt: 0, data: { ä: [drawn.id] } }
        : undefined,
      origin: drawn.origin,
      lane: drawn.lane,
      force: drawn.force,
      hint: drawn.hint,
      version: version ?? undefined,
      versionOrder: versionOrder(version) ?? undefined,
    };
  });
  return async () => {
    const results = await door(driver, operation).append(entries);
    return (model, now) => model.append(now, entries, results);
  };
}

function claim<Tx>(driver: Driver<Tx>, operation: Of<"claim">): Call {
  const { holder, session } = worker(driver, operation);
  const except = CONNECTIONS[operation.except ?? -1];
  const request = {
    provider: PROVIDER,
    resource: RESOURCES[operation.resource]!,
    limit: operation.limit,
    exceptConnections: except === undefined ? undefined : [except],
  };
  return async () => {
    const claims = await session.claim(request);
    remember(driver, claims, holder);
    return (model, now) => model.claim(now, request, holder, claims);
  };
}

function settle<Tx>(driver: Driver<Tx>, operation: Of<"settle">): Call | undefined {
  const chosen = settlementsOf(driver, operation.settlements);
  if (chosen.length === 0) return undefined;
  // What an ended session still settles is lost, and what a living one settles of another's is too.
  const { holder } = chosen[0]!;
  const live = driver.workers.find((one) => one.holder === holder);
  const session =
    live?.session ??
    (operation.stale ? driver.ended.at(-1)?.session : undefined) ??
    worker(driver, operation).session;
  const settlements = chosen.filter((one) => one.holder === holder).map((one) => one.settlement);
  return async () => {
    const outcomes = await session.settle(settlements);
    return (model, now) => model.settle(now, settlements, outcomes);
  };
}

function commit<Tx>(driver: Driver<Tx>, operation: Of<"commit">): Call | undefined {
  const { transaction } = driver.options;
  const chosen = settlementsOf(driver, operation.settlements);
  const { holder } = chosen[0] ?? {};
  const session =
    driver.workers.find((one) => one.holder === holder)?.session ?? worker(driver, operation).session;
  if (transaction === undefined || session.commit === undefined || chosen.length === 0) return undefined;
  const mine = chosen.filter((one) => one.holder === holder).map((one) => one.settlement);
  // One object twice has no meaning within one transaction of the user's.
  const settlements = mine.filter(
    ({ claim: one }, i) => mine.findIndex((other) => other.claim === one) === i,
  );
  const line = `line ${driver.serial()}`;
  return async () => {
    let told: readonly boolean[] | undefined;
    const write = async (tx: Tx, live: readonly boolean[]) => {
      told = live;
      await transaction.write(tx, line);
      if (operation.fails) throw Object.assign(new Error("refused"), { code: "REFUSED" });
    };
    const answer = await session.commit!(settlements, write, { timeoutMs: 1_000 }).then(
      (outcomes) => ({ outcomes }),
      (error: unknown) => ({ error: (error as { code?: string }).code ?? String(error as Error) }),
    );
    if ("outcomes" in answer) driver.lines.add(line);
    const seen = new Set(await transaction.read(driver.store));
    return (model, now) => {
      assert.equal(
        seen.has(line),
        driver.lines.has(line),
        "the user's line is there exactly if it was committed",
      );
      model.commit(now, settlements, operation.fails, { ...answer, ...(told && { live: told }) });
    };
  };
}

function recordPage<Tx>(driver: Driver<Tx>, operation: Of<"page">): Call | undefined {
  const { holder, session } = worker(driver, operation);
  const scope = SCOPES[operation.scope]!;
  const held = driver.locks.at(-1 - operation.lock);
  const mark = markOf(driver, scope, operation.mark);
  if (held === undefined) return undefined;
  const page = {
    scope,
    pass: PASSES[operation.pass]!,
    lock: held,
    mark: driver.model.marks[mark]!.value,
    seen: operation.seen.map((id) => IDS[id]!),
    differing: operation.differing.map((id) => IDS[id]!),
    lease: operation.lease,
    checkpoint: JSON.stringify(driver.serial()),
  };
  return async () => {
    const claims = await orLost(session.recordPage(page));
    if (claims !== "LEASE_LOST") remember(driver, claims, holder);
    return (model, now) => model.recordPage(now, page, mark, holder, claims);
  };
}

function endPass<Tx>(driver: Driver<Tx>, operation: Of<"endPass">): Call | undefined {
  const scope = SCOPES[operation.scope]!;
  const pass = PASSES[operation.pass]!;
  const held = driver.locks.at(-1 - operation.lock);
  const checkpoint = operation.keep ? `ended ${driver.serial()}` : null;
  if (held === undefined) return undefined;
  return async () => {
    const ended = await orLost(door(driver, operation).endPass(scope, pass, held, checkpoint));
    return (model) => model.endPass(scope, pass, held, checkpoint, ended === "LEASE_LOST");
  };
}

function unseen<Tx>(driver: Driver<Tx>, operation: Of<"unseen">): Call {
  const scope = SCOPES[operation.scope]!;
  const pass = PASSES[operation.pass]!;
  const mark = markOf(driver, scope, operation.mark);
  return async () => {
    const ids: string[] = [];
    for (let after: string | undefined; ;) {
      const options = { mark: driver.model.marks[mark]!.value, after, limit: operation.limit };
      const found = await door(driver, operation).unseen(scope, pass, options);
      assert.ok(found.length <= operation.limit, "no more than `limit`");
      ids.push(...found.map(({ id }) => id));
      after = found.at(-1)?.position;
      if (after === undefined || ids.length > IDS.length) break;
    }
    return (model, now) => expectUnseen(model, now, scope, pass, mark, ids);
  };
}

function record<Tx>(driver: Driver<Tx>, operation: Of<"record">): Call {
  const scope = SCOPES[operation.scope]!;
  const entries = [...new Set(operation.ids)].map((id) => ({
    id: IDS[id]!,
    index: indexOf(driver, operation.index, operation.newest ? NEWEST : 1),
  }));
  return async () => {
    const written = await door(driver, operation).record(scope, entries);
    const refs = entries.map(({ id, index }) => ({ ref: { ...scope, id }, index }));
    return (model, now) => model.record(refs, written, now);
  };
}

function lock<Tx>(driver: Driver<Tx>, operation: Of<"lock">): Call | undefined {
  const held = operation.held === undefined ? undefined : driver.locks.at(-1 - operation.held);
  const name = held?.name ?? LOCKS[operation.name]!;
  return async () => {
    const given = await door(driver, operation).lock(name, operation.ttlMs, held);
    if (given !== undefined) driver.locks.push(given);
    return (model, now) => model.lock(now, name, operation.ttlMs, held, given);
  };
}

function pause<Tx>(driver: Driver<Tx>, operation: Of<"pause">): Call {
  const until = operation.forMs === null ? null : driver.clock.now() + operation.forMs;
  const pausing = {
    provider: PROVIDER,
    connection: CONNECTIONS[operation.connection]!,
    until,
    reason: `${driver.serial()}`,
  };
  return async () => {
    await door(driver, operation).pause(pausing);
    return (model, now) => model.pause(now, pausing);
  };
}

function settlementsOf<Tx>(driver: Driver<Tx>, drawn: readonly SettlementDrawn[]) {
  return drawn.flatMap((one) => {
    const { claims } = driver;
    const chosen = claims.at(-1 - (one.claim % Math.max(1, claims.length)));
    return chosen === undefined
      ? []
      : [{ holder: chosen.holder, settlement: settlementOf(driver, chosen.claim, one) }];
  });
}

function settlementOf<Tx>(driver: Driver<Tx>, of: Claim, drawn: SettlementDrawn): Settlement {
  const now = driver.clock.now();
  const error: FailureRecord = { code: "HANDLER_FAILED", message: `failure ${driver.serial()}`, at: now };
  switch (drawn.how) {
    case "done": {
      const index = drawn.index === null ? null : indexOf(driver, drawn.index, of.fence);
      return { claim: of, kind: "done", index, notBefore: drawn.inMs === 0 ? undefined : now + drawn.inMs };
    }
    case "retry": {
      const attempts = of.attempt - Number(!drawn.counted);
      const given = {
        claim: of,
        kind: "retry",
        due: now + drawn.inMs,
        attempts,
        lags: drawn.lags,
        begun: drawn.begun,
      } as const;
      return drawn.error ? { ...given, error } : given;
    }
    case "dead":
      return { claim: of, kind: "dead", begun: drawn.begun, error };
  }
}

/** Evidence that nothing is newer than. */
const NEWEST = 2 ** 40;

function indexOf<Tx>(driver: Driver<Tx>, state: IndexEntry["state"], evidence = 1): IndexEntry {
  return { state, version: "n:1", hash: `h${driver.serial()}`, rowHash: null, revision: 1, evidence };
}

function door<Tx>({ doors }: Driver<Tx>, operation: { readonly door: number }) {
  return doors[operation.door % doors.length]!;
}

function worker<Tx>({ workers }: Driver<Tx>, operation: { readonly worker: number }) {
  return workers[operation.worker % workers.length]!;
}

/** The number of a mark of the scope, the newest being 0. */
function markOf<Tx>({ model }: Driver<Tx>, scope: Scope, nth: number): number {
  const ofScope = [...model.marks.keys()].filter((i) => model.marks[i]!.scope === scopeKey(scope));
  return ofScope.at(-1 - (nth % ofScope.length))!;
}

function remember<Tx>({ claims: known }: Driver<Tx>, claims: readonly Claim[], holder: number): void {
  known.push(...claims.map((one) => ({ claim: one, holder })));
}

async function orLost<T>(call: Promise<T>): Promise<T | "LEASE_LOST"> {
  try {
    return await call;
  } catch (error) {
    if ((error as { code?: string }).code === "LEASE_LOST") return "LEASE_LOST";
    throw error;
  }
}
