import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startApiServer, type ApiServer } from "./api-server.ts";
import { compareCopy } from "./compare.ts";
import { nameOf, readCopy, readTally } from "./copy.ts";
import { Courier } from "./courier.ts";
import { keyOf, pathOf } from "./identity.ts";
import { kinds } from "./kinds.ts";
import { repositories } from "./plan.ts";
import type { Progress } from "./progress.ts";
import { Random } from "./random.ts";
import { loadRecordings, type Recording } from "./recordings.ts";
import type { Details } from "./report.ts";
import { resources } from "./resources.ts";
import { SyncService } from "./sync-service.ts";
import { planTraffic, signer, traffic } from "./traffic.ts";
import { World } from "./world.ts";

const SECRET = "the webhook's secret";
const TOKEN = "ghp_demo";
const UPDATES = 1_200;
const API_LAG_MS = 150;
const API_LATENCY_MS = 25;
const SENDERS = 16;
/** Deliveries that arrive between the kill and the new start, beside those that the kill interrupts. */
const SENT_TO_NOBODY = 20;
const DRAIN_WITHIN_MS = 30_000;

/**
 * Runs the whole story: GitHub changes and tells of it badly, the syncing process is killed halfway and started again,
 * then reconciliation runs, and the copy is held against the truth.
 */
export async function runDemo(seed: number, progress: Progress): Promise<Details> {
  const recordings = loadRecordings();
  const clock = () => performance.now();
  const world = new World(recordings, new Random(seed), { updates: UPDATES, lagMs: API_LAG_MS, clock });
  const api = await startApiServer(world, { token: TOKEN, latencyMs: API_LATENCY_MS });
  const directory = mkdtempSync(join(tmpdir(), "trueup-demo-"));
  // Also when the demo is interrupted. The syncing process ends by itself when its parent is gone.
  const removeFiles = () => rmSync(directory, { recursive: true, force: true });
  process.once("exit", removeFiles);
  const database = join(directory, "sync.db");
  const connections = repositories.map(({ fullName }) => fullName);
  const config = { database, apiUrl: api.url, secret: SECRET, token: TOKEN, repositories: connections };
  const service = new SyncService(config, (line) => progress.say(line));
  try {
    return await new Demo({ seed, recordings, world, api, service, database, progress }).run();
  } finally {
    await service.kill();
    await api.close();
    process.off("exit", removeFiles);
    removeFiles();
  }
}

interface Parts {
  readonly seed: number;
  readonly recordings: readonly Recording[];
  readonly world: World;
  readonly api: ApiServer;
  readonly service: SyncService;
  readonly database: string;
  readonly progress: Progress;
}

class Demo {
  readonly #parts: Parts;
  #kills = 0;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  async run(): Promise<Details> {
    const backfilled = await this.#backfill();
    const { courier, fates } = await this.#deliver();
    await this.#settle();
    const repairs = await this.#reconcile();
    const verified = await this.#verify();
    await this.#parts.service.stop();

    const { database, world } = this.#parts;
    const tally = readTally(database);
    const differences = compareCopy(this.#expected(), readCopy(database));
    const { told } = this.#parts.service;
    const { ledger } = this.#parts.api;
    return {
      differences,
      verified,
      backfilled,
      repairs,
      ...courier.ledger,
      unchanged: told.unchanged,
      lagging: told.lagging,
      pages: ledger.pages,
      result: {
        objects: world.size,
        deliveries: fates.length,
        dropped: fates.filter((fate) => fate === "dropped").length,
        duplicated: fates.filter((fate) => fate === "twice").length,
        coalesced: tally.coalesced + told.coalesced,
        fetches: ledger.fetches,
        notModified: ledger.notModified,
        handled: tally.handled,
        repaired: repairs.missing + repairs.stale + repairs.deleted,
        deleted: tally.deleted,
        kills: this.#kills,
        // Two judges: the rows of the copy, and the engine's index. Either may find fault.
        drift: Math.max(differences.length, verified),
      },
    };
  }

  /** The copy begins with what is there already: a pass over every list. */
  async #backfill(): Promise<number> {
    const { progress, service } = this.#parts;
    progress.step("starting, and listing what is there");
    await service.start();
    const reports = await service.ask({ name: "reconcile", mode: "full" });
    const backfilled = total(reports, "missing");
    progress.say(`listed ${backfilled} objects of ${repositories.length} repositories`);
    return backfilled;
  }

  async #deliver() {
    // Each decides with randomness of its own, so that more of the one changes nothing of the other.
    const { recordings, seed, world } = this.#parts;
    const random = new Random(seed + 1);
    const others = recordings.filter(({ event }) => !kinds.some((kind) => kind.event === event));
    const { fates, requests } = planTraffic(world.notices + others.length, random);
    const courier = new Courier(SENDERS);
    const halfway = Math.floor(requests / 2);
    this.#parts.progress.step("delivering");
    for (const delivery of traffic(world, others, fates, signer(SECRET), random)) {
      const { sent } = courier.ledger;
      if (sent === halfway) await this.#kill();
      if (sent === halfway + SENT_TO_NOBODY) await this.#restart();
      await courier.send(this.#parts.service.url, delivery);
      this.#parts.progress.update(
        `${sent} of ${requests} requests, ${this.#parts.api.ledger.fetches} fetches`,
      );
    }
    await courier.finish();
    this.#parts.progress.say(`sent ${requests} requests for ${fates.length} deliveries, in no order`);
    return { courier, fates };
  }

  /** While requests are under way, and work is leased. */
  async #kill(): Promise<void> {
    await this.#parts.service.kill();
    this.#kills += 1;
    this.#parts.progress.say("killed the syncing process with SIGKILL");
  }

  async #restart(): Promise<void> {
    await this.#parts.service.start();
    this.#parts.progress.say(`started it again; ${SENT_TO_NOBODY} requests had met nobody`);
    this.#parts.progress.step("delivering");
  }

  async #settle(): Promise<void> {
    this.#parts.progress.step("waiting until nothing is left to do");
    const idle = await this.#parts.service.ask({ name: "drain", timeoutMs: DRAIN_WITHIN_MS });
    const behind = compareCopy(this.#expected(), readCopy(this.#parts.database)).length;
    this.#parts.progress.say(
      `${idle ? "nothing is left to do" : "work is left"}; the copy is wrong about ${behind} objects`,
    );
  }

  /** First what lists can say cheaply, with `since`; then everything. */
  async #reconcile() {
    this.#parts.progress.step("reconciling");
    const incremental = await this.#parts.service.ask({ name: "reconcile", mode: "incremental" });
    const full = await this.#parts.service.ask({ name: "reconcile", mode: "full" });
    const reports = [...incremental, ...full];
    const sum = (name: "missing" | "stale" | "deleted") => total(reports, name);
    this.#parts.progress.say(
      `reconciled: ${total(incremental, "listed")} rows since the first pass, then all ${total(full, "listed")}`,
    );
    return { missing: sum("missing"), stale: sum("stale"), deleted: sum("deleted") };
  }

  async #verify(): Promise<number> {
    this.#parts.progress.step("verifying");
    const reports = await this.#parts.service.ask({ name: "verify" });
    this.#parts.progress.say(`verified ${total(reports, "listed")} objects`);
    return (
      total(reports, "missing") +
      total(reports, "stale") +
      total(reports, "extra") +
      total(reports, "pending")
    );
  }

  /** The truth, in the shape that the copy keeps it in. */
  #expected(): Map<string, Record<string, unknown>> {
    return new Map(
      this.#parts.world.truth().map(({ identity, object }) => {
        const { schema } = resources[identity.kind.resource as keyof typeof resources];
        const checked = schema["~standard"].validate(object);
        if (!("value" in checked))
          throw new Error(`GitHub has ${pathOf(identity)} in a shape that the schema refuses`);
        return [nameOf(identity.kind.resource, identity.repository.fullName, keyOf(identity)), checked.value];
      }),
    );
  }
}

function total<Name extends string>(reports: readonly Readonly<Record<Name, number>>[], name: Name): number {
  return reports.reduce((sum, report) => sum + report[name], 0);
}
