import { afterAll, beforeAll } from "vitest";
import { postgresStore, type PgTx } from "trueup/postgres";
import { describeWith } from "../services.ts";
import { testAgainstModel } from "./model/run.ts";
import { openStore, Schemas } from "./postgres-fixture.ts";

describeWith("postgres")("postgresStore", () => {
  const schemas = new Schemas("model");
  const schema = schemas.name();
  const lines = `${schema}_user.line`;
  const open = () => postgresStore({ pool: schemas.pool, schema });

  beforeAll(async () => {
    await (await openStore({ pool: schemas.pool, schema })).close();
    await schemas.query(`CREATE SCHEMA ${schema}_user; CREATE TABLE ${lines} (text text NOT NULL)`);
  });

  afterAll(async () => {
    await schemas.query(`DROP SCHEMA ${schema}_user CASCADE`);
    await schemas.end();
  });

  testAgainstModel<PgTx>("postgresStore", {
    create: async () => {
      await schemas.empty(schema);
      await schemas.query(`DELETE FROM ${lines}`);
      return open();
    },
    reopen: open,
    runs: 30, // over the network, and each looks at everything
    transaction: {
      write: async (tx, line) => void (await tx.query(`INSERT INTO ${lines} VALUES ($1)`, [line])),
      read: async () => (await schemas.query(`SELECT text FROM ${lines}`)).map((row) => String(row["text"])),
    },
  });
});
