import type { Store } from "trueup";
import { FakeProvider, type FakeState, TestClock } from "trueup/testing";
import { type Account, accountOf, accountsOf, ownerOf, RESOURCE } from "./accounts.ts";
import { Broker, type Driver } from "./broker.ts";
import { Copy } from "./copy.ts";
import { Dice } from "./dice.ts";
import { type CopyRow, keyvHome, sqliteHome, type Home } from "./homes.ts";
import { Ledger } from "./ledger.ts";
import { Killed, type Fate, Life } from "./life.ts";
import { Process, LEASE_MS } from "./process.ts";
import { type AdapterMistake, CANARY } from "./provider.ts";
import type { Scenario } from "./scenario.ts";
import { sharedHome } from "./shared-home.ts";
import { Trace } from "./trace.ts";

export interface Violation {
  readonly invariant: string;
  readonly what: string;
}

export interface WorldOptions {
  /** Breaks the store that a process gets. */
  readonly wrapStore?: ((store: Store<unknown>) => Store<unknown>) | undefined;
  /** Breaks the client of the broker. */
  readonly wrapDriver?: ((driver: Driver) => Driver) | undefined;
  /** Breaks the adapter. */
  readonly mistake?: AdapterMistake | undefined;
  /** What the connection has to prove itself by. @default the secret that nobody must be told */
  readonly credentials?: { readonly token: string } | undefined;
  /** How many lines of the trace are kept. */
  readonly traceLines?: number | undefined;
}

export interface Touched {
  /** Up to which change of the provider. */
  readonly upTo: number;
  /** When it was sent. */
  readonly asked: number;
}

/** A run is a test of seconds, not of how often one can die. */
const MOST_CRASHES = 7;
/** Crossings at which a process has claims in its hands. */
const AMID_WORK = new Set(["the API )", "handler", "batch handler"]);
/** How often a call of the broker fails, until the faults end. */
const BROKER_FAILURE = 0.1;
/** Rounds of waiting for a store, before it counts as hung. */
const MOST_ROUNDS = 400;

/** Everything that a run consists of: the provider, the processes, and what lasts beyond them. */
export class World {
  readonly scenario: Scenario;
  readonly clock = new TestClock();
  /** What the wall clock showed at the beginning. */
  readonly startedAt = this.clock.now();
  readonly fake: FakeProvider;
  readonly home: Home;
  readonly copy: Copy;
  readonly ledger: Ledger;
  /** Where webhooks come through one. */
  readonly broker: Broker | undefined;
  readonly trace: Trace;
  readonly violations: Violation[] = [];
  processes: Process[] = [];
  /** What an operator has the index told of at this moment. */
  readonly adopting = new Set<{ readonly worker: Process; readonly connection: string }>();
  crashes = 0;
  /** The last event of the first account that named no object and was answered with success. */
  touched: Touched | undefined;
  /** Whether processes die and fail. */
  chaos = true;
  /** The most that the wall clock was ever ahead of the time that has passed. */
  #furthestAheadMs = 0;
  readonly #mistake: AdapterMistake | undefined;
  readonly #credentials: { readonly token: string };
  readonly #wrapStore: (store: Store<unknown>) => Store<unknown>;
  readonly #wrapDriver: (driver: Driver) => Driver;
  readonly #fateDice: Dice;
  readonly #engineDice: Dice;
  readonly #routeDice: Dice;
  readonly #wayDice: Dice;
  readonly #fate: Fate;
  readonly #restarts: { readonly at: number; readonly works: boolean }[] = [];
  readonly #dying: Process[] = [];
  #stallAtWork: { readonly victim: Process; readonly ms: number } | undefined;
  /** What the dead do when all is over is nobody's concern. */
  #over = false;
  #births = 0;
  #counter = 0;

  constructor(scenario: Scenario, options: WorldOptions = {}) {
    const { seed } = scenario;
    this.scenario = scenario;
    this.#mistake = options.mistake;
    this.#credentials = options.credentials ?? { token: CANARY };
    this.#wrapStore = options.wrapStore ?? ((store) => store);
    this.#wrapDriver = options.wrapDriver ?? ((driver) => driver);
    this.#fateDice = new Dice(seed, "fate");
    this.#engineDice = new Dice(seed, "engine");
    this.#routeDice = new Dice(seed, "routing");
    this.#wayDice = new Dice(seed, "ways");
    this.trace = new Trace(options.traceLines ?? 0);
    this.home = homeOf(scenario);
    const violated = (invariant: string, what: string) => this.violated(invariant, what);
    this.ledger = new Ledger({
      scenario,
      clock: this.clock,
      history: (id) => this.history(id),
      ids: (connection) => this.fake.ids(accountOf(connection).resource),
      violated,
    });
    this.fake = new FakeProvider({
      resources: this.accounts.map(({ resource }) => resource),
      seed: seed ^ 0x5bd1e995,
      clock: this.clock,
      faults: scenario.faults,
      latencyMs: scenario.latencyMs,
      clockSkewMs: scenario.clockSkewMs,
      webhookRetryDelaysMs: scenario.webhookRetryDelaysMs,
    });
    this.broker = scenario.queue
      ? new Broker(this.clock, {
          dice: new Dice(seed, "broker"),
          failure: () => (this.chaos ? BROKER_FAILURE : 0),
          isRecorded: (event) => this.ledger.isRecorded(event),
          violated: (what) => this.violated("I8", what),
        })
      : undefined;
    const { broker } = this;
    this.fake.deliverTo((request) =>
      broker === undefined ? this.#receive(request) : passOn(request, broker),
    );
    this.copy = new Copy({
      commits: scenario.commits,
      dice: new Dice(seed, "handlers"),
      failure: () => (this.chaos ? scenario.handlerFailure : 0),
      trace: (line) => this.note(line),
      write: (tx, row: CopyRow) => this.home.write?.(tx, row),
      begun: (handed, handling) => this.ledger.begun(handed, handling),
      violated,
    });
    this.#fate = {
      crossing: (life, where) => this.#crossing(life, where),
      wayMs: () => (scenario.storeLatencyMs === 0 ? 0 : this.#wayDice.random() * scenario.storeLatencyMs),
      storeFails: () => this.chaos && this.#fateDice.chance(scenario.storeFailure),
    };
  }

  note(line: string): void {
    if (this.#over) return;
    // What is told of failures ends up here; a handler's error has the secret in it.
    if (line.includes(CANARY)) this.violations.push({ invariant: "I12", what: line });
    this.trace.add(`${this.clock.monotonic()} ${line}`);
  }

  violated(invariant: string, what: string): void {
    this.note(`VIOLATED ${invariant}: ${what}`);
    this.violations.push({ invariant, what });
  }

  get accounts(): readonly Account[] {
    return accountsOf(this.scenario);
  }

  /** Whether somebody who may do so has let go of it since. */
  isTouchWaived({ asked }: Touched): boolean {
    const [{ connection }] = this.accounts as [Account];
    return this.ledger.forgettings.since(connection, asked) || this.ledger.wasDropped(connection, asked);
  }

  /** The ids of all objects that there are or ever were. */
  ids(): string[] {
    return this.accounts.flatMap(({ resource }) => this.fake.ids(resource));
  }

  /** Every state that an object ever had. */
  history(id: string): readonly FakeState[] {
    return this.fake.history(ownerOf(id).resource, id);
  }

  /** The last change of any object of the first account. */
  lastSequence(): number {
    return Math.max(0, ...this.fake.ids(RESOURCE).map((id) => this.history(id).at(-1)?.sequence ?? 0));
  }

  /** Changes an object so that no other state of any object is like it. */
  put(id: string, options: { quiet?: boolean; keepVersion?: boolean } = {}): void {
    this.#counter += 1;
    const mark = `m${this.#counter}`;
    this.note(`put ${id} ${mark} ${JSON.stringify(options)}`);
    this.fake.put(ownerOf(id).resource, id, { mark }, options);
    this.#told(id, options);
  }

  delete(id: string, options: { quiet?: boolean } = {}): void {
    this.note(`delete ${id} ${JSON.stringify(options)}`);
    if (this.fake.delete(ownerOf(id).resource, id, options)) this.#told(id, options);
  }

  /** What is not done quietly is in the feed. */
  #told(id: string, { quiet = false }: { quiet?: boolean }): void {
    const last = this.history(id).at(-1);
    if (!quiet && last !== undefined) this.ledger.feed.tells(last.sequence, ownerOf(id).connection);
  }

  spawn(works: boolean): Process {
    this.#births += 1;
    const life = new Life(`${works ? "worker" : "receiver"} ${this.#births}`, this.clock, this.#fate);
    const spawned: Process = new Process(
      {
        life,
        scenario: this.scenario,
        home: this.home,
        copy: this.copy,
        transport: this.fake.transport,
        random: this.#engineDice.random,
        witness: this.ledger.witness,
        wrap: this.#wrapStore,
        driver: this.broker === undefined ? undefined : this.#wrapDriver(this.broker.driver(life)),
        mistake: this.#mistake,
        credentials: this.#credentials,
        note: (line) => this.note(line),
        works,
      },
      (error) => {
        if (life.dead) return;
        this.note(`${life.name} cannot start: ${String(error)}`);
        life.kill(); // whoever runs it starts it again
      },
    );
    this.note(`${life.name} begins`);
    this.processes.push(spawned);
    spawned.begin();
    return spawned;
  }

  /** The processes that work, those aside that stand still. */
  get workers(): Process[] {
    return this.processes.filter(
      ({ life, works, stopping }) => works && !stopping && !life.dead && !life.stalling,
    );
  }

  /** One of them, if there are any. */
  get worker(): Process | undefined {
    return this.workers[0];
  }

  kill(victim: Process): void {
    if (victim.life.dead) return;
    this.crashes += 1;
    this.note(`${victim.life.name} is killed`);
    victim.life.kill();
  }

  /** The process stands still. Where only one works and it does so for longer than its lease, another takes its place. */
  stall(victim: Process, ms: number): void {
    this.note(`${victim.life.name} stands still for ${ms} ms`);
    victim.life.sleep();
    this.clock.setTimer(() => {
      this.note(`${victim.life.name} wakes`);
      victim.life.wake();
    }, ms);
    if (ms > LEASE_MS && victim.works && this.scenario.store !== "shared")
      this.#restarts.push({ at: this.clock.monotonic() + LEASE_MS, works: true });
  }

  /** The same, but amid its work: when it next has an answer of the API, or has begun to handle. */
  stallAtWork(victim: Process, ms: number): void {
    this.#stallAtWork = { victim, ms };
  }

  wakeAll(): void {
    this.#stallAtWork = undefined;
    for (const { life } of this.processes) life.wake();
  }

  /** What an administrator, or NTP, does to the clock on the wall. */
  turnClock(byMs: number): void {
    this.note(`the clock is set by ${byMs} ms`);
    this.clock.setWallClock(this.clock.now() + byMs);
    this.#furthestAheadMs = Math.max(this.#furthestAheadMs, this.#aheadMs);
  }

  /**
   * How far the wall clock has been set back behind what it once showed. A moment that was written down by then (the end
   * of a pause, an object's due date) comes so much later than was meant.
   */
  get setBackMs(): number {
    return this.#furthestAheadMs - this.#aheadMs;
  }

  get #aheadMs(): number {
    return this.clock.now() - this.startedAt - this.clock.monotonic();
  }

  /** Lets time pass. Processes that died are buried on the way, and begin again. */
  async advance(ms: number): Promise<void> {
    const end = this.clock.monotonic() + ms;
    for (;;) {
      await this.quiesce();
      const now = this.clock.monotonic();
      const next = Math.min(
        this.clock.nextTimerInMs ?? Infinity,
        ...this.#restarts.map(({ at }) => at - now),
      );
      if (now + next > end) break;
      await this.clock.advance(Math.max(0, next));
    }
    await this.clock.advance(end - this.clock.monotonic());
  }

  /**
   * Lets time pass until a promise is settled.
   * @returns its value; `undefined` where it rejected, or had not settled in time
   */
  async drive<T>(
    promise: Promise<T>,
    limitMs: number,
  ): Promise<{ readonly value?: T; readonly error?: unknown; readonly late: boolean }> {
    let outcome: { readonly value?: T; readonly error?: unknown } | undefined;
    promise.then(
      (value) => (outcome = { value }),
      (error: unknown) => (outcome = { error }),
    );
    const end = this.clock.monotonic() + limitMs;
    for (let idle = 0; idle < 3;) {
      await this.quiesce();
      if (outcome !== undefined) return { ...(outcome as { value?: T; error?: unknown }), late: false };
      const next = this.clock.nextTimerInMs;
      idle = next === undefined ? idle + 1 : 0;
      if (next === undefined) continue;
      if (this.clock.monotonic() + next > end) break;
      await this.clock.advance(next);
    }
    return { late: true };
  }

  /** Waits until the stores have answered: how long they take on this machine must not be seen in virtual time. */
  async quiesce(): Promise<void> {
    for (let round = 0; round < MOST_ROUNDS; round += 1) {
      await this.clock.settle();
      await this.#tend();
      const busy = this.processes.some(({ life }) => !life.dead && !life.stalling && life.storeCalls > 0);
      if (!busy) return;
    }
    this.violated("I5", "a call of the store never came back");
  }

  async dispose(): Promise<void> {
    for (const { life } of this.processes) life.kill();
    await this.#tend();
    this.#over = true;
    // Node keeps signals made of others for as long as somebody listens, and with them the whole process of whoever was
    // killed amid a request. An abort lets them go.
    for (const { engine } of this.#dying) engine.stop().catch(() => {});
    await this.home.dispose();
  }

  /** Buries the dead, and starts what is to be started. Never from within a call of an engine. */
  async #tend(): Promise<void> {
    const dead = this.processes.filter(({ life }) => life.dead);
    this.processes = this.processes.filter(({ life }) => !life.dead);
    for (const one of dead) {
      if (this.#dying.includes(one)) continue;
      this.#dying.push(one);
      await this.home.bury(one.life);
      const delay = this.chaos ? this.#fateDice.between(1, 8_000) : 1;
      this.#restarts.push({ at: this.clock.monotonic() + delay, works: one.works });
    }
    const now = this.clock.monotonic();
    for (const due of this.#restarts.filter(({ at }) => at <= now)) {
      this.#restarts.splice(this.#restarts.indexOf(due), 1);
      this.spawn(due.works);
    }
  }

  #crossing(life: Life, where: string): void {
    if (this.#over) return;
    this.note(`${life.name}: ${where}`);
    const stall = this.#stallAtWork;
    if (stall?.victim.life === life && AMID_WORK.has(where)) {
      this.#stallAtWork = undefined;
      this.stall(stall.victim, stall.ms);
    }
    if (!this.chaos || life.dead || this.crashes >= MOST_CRASHES) return;
    if (!this.#fateDice.chance(this.scenario.crash)) return;
    this.crashes += 1;
    this.note(`${life.name} dies at ${where}`);
    life.kill();
  }

  /** One of the processes gets a webhook; the sender sees an error where none can. */
  async #receive(request: Request): Promise<Response> {
    const open = this.processes.filter(({ life }) => !life.dead && !life.stalling);
    if (open.length === 0) throw new Killed("connection refused");
    const { life, receive } = this.#routeDice.pick(open);
    const response = await receive(request);
    this.note(`${life.name} answers ${response.status}`);
    const spared = !this.chaos || this.crashes >= MOST_CRASHES;
    if (!spared && response.ok && this.#fateDice.chance(this.scenario.crashAfterAnswer)) {
      this.crashes += 1;
      this.note(`${life.name} dies right after its answer`);
      life.kill();
    }
    return response;
  }
}

function homeOf({ store }: Scenario): Home {
  switch (store) {
    case "sqlite":
      return sqliteHome();
    case "keyv":
      return keyvHome();
    case "shared":
      return sharedHome();
  }
}

/** What stands before a broker says yes to every webhook: it keeps them safe. */
async function passOn(request: Request, broker: Broker): Promise<Response> {
  broker.send(request.headers.get("webhook-id") ?? "", await request.text());
  return Response.json({ status: "accepted" });
}
