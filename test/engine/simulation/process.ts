import { SyncEngine, type AnyProvider, type Source, type Store } from "trueup";
import { queueSource } from "../../../src/sources/queue/source.ts";
import type { Transport } from "trueup/testing";
import type { SqliteTx } from "trueup/sqlite";
import { mortalStore, type StoreWitness } from "./boundary.ts";
import { accountsOf } from "./accounts.ts";
import type { Driver } from "./broker.ts";
import type { Copy } from "./copy.ts";
import type { Home } from "./homes.ts";
import type { Life } from "./life.ts";
import {
  ACCOUNT_HEADER,
  type AdapterMistake,
  ATTEMPTS,
  MOST_EVENTS,
  ROUTE,
  thingFeed,
  thingProvider,
} from "./provider.ts";
import type { Scenario } from "./scenario.ts";

export type ThingEngine = SyncEngine<readonly AnyProvider[], SqliteTx>;

export interface ProcessOptions {
  readonly life: Life;
  readonly scenario: Scenario;
  readonly home: Home;
  readonly copy: Copy;
  readonly transport: Transport;
  readonly random: () => number;
  readonly witness: StoreWitness;
  /** How a broken variant breaks its store. */
  readonly wrap: (store: Store<unknown>) => Store<unknown>;
  /** Its client of the broker, where webhooks come through one. */
  readonly driver: Driver | undefined;
  readonly mistake: AdapterMistake | undefined;
  readonly credentials: { readonly token: string };
  /** Writes into the trace. */
  readonly note: (line: string) => void;
  /** Works, or only receives. */
  readonly works: boolean;
}

/** One process with an engine, from its start to its death. */
export class Process {
  readonly life: Life;
  readonly engine: ThingEngine;
  readonly works: boolean;
  readonly receive: (request: Request) => Promise<Response>;
  /** When it asked the provider, in milliseconds of virtual time, and for which connection. */
  readonly requests: { readonly at: number; readonly connection: string }[] = [];
  readonly scenario: Scenario;
  readonly #onStartFailed: (error: unknown) => void;
  stopping = false;
  /** Works all the time, though it was to work in slices. */
  #started = false;

  constructor(options: ProcessOptions, onStartFailed: (error: unknown) => void) {
    const { copy, home, life, random, scenario, transport, witness, works, wrap } = options;
    this.life = life;
    this.works = works;
    this.scenario = scenario;
    this.#onStartFailed = onStartFailed;
    const store = home.open(life);
    const engine: ThingEngine = new SyncEngine(
      {
        providers: [thingProvider(scenario, options.mistake)],
        connections: {
          get: async (_provider, id) => ({ id, credentials: options.credentials }),
          ...(scenario.accounts === 1
            ? undefined
            : { list: async () => accountsOf(scenario).map(({ connection }) => connection) }),
        },
        store: mortalStore(wrap(store), store, life, witness) as Store<SqliteTx>,
        sources: sourcesOf(options),
        clock: life.clock,
        random,
        logger: quiet,
        leaseMs: LEASE_MS,
        pollMs: 20_000,
        concurrency: scenario.concurrency,
        maxEventsPerChange: MOST_EVENTS,
        eventTtlMs: scenario.eventTtlMs,
        retry: { attempts: ATTEMPTS, minDelayMs: 500, maxDelayMs: 20_000 },
      },
      (request) => {
        const connection = String(request.headers[ACCOUNT_HEADER]);
        this.requests.push({ at: life.clock.monotonic(), connection });
        return life.act("the API", () => transport(request));
      },
    );
    if (scenario.batches)
      engine.handleBatch(ROUTE, copy.batchHandler(life) as never, { size: 4, concurrency: 2 });
    else engine.handle(ROUTE, copy.handler(life) as never);
    if (scenario.schedules) {
      if (scenario.incremental)
        engine.schedule(ROUTE, { every: scenario.every.incremental, mode: "incremental" });
      engine.schedule(ROUTE, { every: scenario.every.full, mode: "full" });
    }
    engine.on("change.failed", ({ error, ref }) =>
      options.note(`${life.name}: ${ref.id} fails: ${error.message}`),
    );
    engine.on("change.dead", ({ error, ref }) =>
      options.note(`${life.name}: ${ref.id} is dead: ${error.message}`),
    );
    engine.on("pass.failed", ({ error, mode }) =>
      options.note(`${life.name}: a ${mode} pass fails: ${error.message}`),
    );
    engine.on("connection.paused", ({ reason, until }) =>
      options.note(`${life.name}: paused for ${reason} until ${until}`),
    );
    engine.on("error", ({ during, error }) => options.note(`${life.name}: ${during}: ${error.message}`));
    this.engine = engine;
    const { fetch } = engine.webhook("fake");
    this.receive = async (request) => {
      const response = await Promise.race([fetch(request), life.death]);
      return response;
    };
  }

  get ticks(): boolean {
    return this.scenario.ticks && this.works && !this.#started;
  }

  /** Begins to work all the time. */
  async start(): Promise<void> {
    await this.engine.start();
    this.#started = true;
  }

  begin(): void {
    if (this.ticks) return;
    const parts = this.works ? {} : { work: false, schedules: false };
    this.engine.start(parts).catch(this.#onStartFailed);
  }
}

/**
 * A store that survives nothing leaves a message to its broker for as long as the connection is paused, which may be an
 * hour; a broker that cannot hold it back brings it again after each of its leases.
 */
const MOST_DELIVERIES = 1_000;
export const LEASE_MS = 45_000;

function sourcesOf({ driver, mistake, scenario }: ProcessOptions): Source[] {
  const sources = scenario.polls ? [thingFeed(scenario, mistake)] : [];
  if (driver !== undefined)
    sources.push(queueSource("broker", driver, { provider: "fake", maxDeliveries: MOST_DELIVERIES }));
  return sources;
}

const quiet = { debug() {}, info() {}, warn() {}, error() {} };
