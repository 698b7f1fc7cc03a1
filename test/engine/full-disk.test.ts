import { randomBytes } from "node:crypto";
import { describe, expect, it, onTestFinished } from "vitest";
import { SyncEngine } from "trueup";
import { postgresStore } from "trueup/postgres";
import { describeWith } from "../services.ts";
import { type Disk, disks, SCHEMA } from "../stores/full-disk.ts";
import { PostgresServer } from "../stores/postgres-server.ts";
import { silentLogger } from "../stores/sqlite-fixture.ts";
import { notesProvider, signedRequest, World } from "./world.ts";

const codeOf = (error: unknown) => (error as { code?: string }).code;

describeWith("postgres")("an engine on a postgresStore", () => {
  describe.each(Object.entries(disks))("with %s", (_, diskOf) => {
    async function withDisk(skip: (why: string) => void, run: (disk: Disk) => Promise<void>): Promise<void> {
      await using server = await PostgresServer.start();
      await using disk = await diskOf(server);
      if (disk === undefined) skip("this machine lets nothing be mounted");
      else await run(disk);
    }

    function engineOn(disk: Disk, world: World): SyncEngine {
      const engine = new SyncEngine({
        providers: [notesProvider(world)],
        store: postgresStore({ url: disk.url, schema: SCHEMA }),
        logger: silentLogger,
        pollMs: 50,
      }) as unknown as SyncEngine;
      onTestFinished(() => engine.stop());
      return engine;
    }

    it(
      "should say at start what to do, and start once that is done",
      { timeout: 60_000 },
      async ({ skip }) => {
        await withDisk(skip, async (disk) => {
          const world = new World();
          world.put("a", "text");
          const engine = engineOn(disk, world);
          const handled = Promise.withResolvers<string>();
          engine.handle("notes.note", (change) => handled.resolve(change.ref.id));
          await disk.fill();
          const refused = engine.start();
          await expect(refused).rejects.toThrow(/No space left on device.*Free some space/s);
          await expect(refused).rejects.toMatchObject({ code: "STORE_FAILED" });
          await disk.free();
          await engine.start();
          await engine.trigger("notes.note", ["a"]);
          expect(await handled.promise).toBe("a");
          await engine.stop(); // before its server
        });
      },
    );

    it(
      "should take no more than it can keep, say so, and lose nothing (I1, I2)",
      { timeout: 60_000 },
      async ({ skip }) => {
        await withDisk(skip, async (disk) => {
          const world = new World();
          const engine = engineOn(disk, world);
          const errors: Error[] = [];
          engine.on("error", ({ error }) => errors.push(error));
          const seen = new Set<string>();
          engine.handle("notes.note", (change) => void seen.add(change.ref.id));
          await engine.start();
          const deliver = async (id: string) => {
            if (!world.notes.has(id)) world.put(id, "text");
            const event = {
              id: `of ${id}`,
              resource: "note",
              objectId: id,
              data: randomBytes(3_000).toString("hex"),
            };
            return await engine.webhook("notes").fetch(signedRequest([event]));
          };
          // Work is under way when the disk is full, and cannot be settled or not be tried again.
          const hold = Promise.withResolvers<void>();
          world.before = () => hold.promise;
          const accepted: string[] = [];
          for (const id of ["early1", "early2", "early3"]) {
            expect((await deliver(id)).status).toBe(200);
            accepted.push(id);
          }
          await disk.fill();
          hold.resolve();
          const refused: Response[] = [];
          for (let n = 0; refused.length < 3; n += 1) {
            expect(n, "a disk that is full takes no more in the end").toBeLessThan(20_000);
            const response = await deliver(`n${n}`);
            if (response.status === 200) accepted.push(`n${n}`);
            else refused.push(response);
          }
          for (const { headers, status } of refused)
            expect([status, headers.has("retry-after")]).toEqual([503, true]);
          while (errors.length === 0) await new Promise((resolve) => void setImmediate(resolve));
          expect(new Set(errors.map(codeOf))).toEqual(new Set(["STORE_FAILED"]));
          expect(errors[0]?.message).toContain("Free some space");
          await disk.free();
          expect((await deliver("late")).status).toBe(200);
          const drained = async () =>
            await engine.drain({ timeoutMs: 2_000 }).catch(() => ({ idle: false, counts: { dead: 0 } }));
          let outcome = await drained();
          while (!outcome.idle) outcome = await drained();
          expect(outcome.counts.dead).toBe(0);
          expect([...accepted, "late"].filter((id) => !seen.has(id))).toEqual([]);
          await engine.stop();
        });
      },
    );
  });
});
