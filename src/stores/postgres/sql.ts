/**
 * The schema as SQL: each migration brings it from version i to i + 1.
 *
 * @module
 */

import { appendFunctions } from "./sql/append.ts";
import { claimFunctions } from "./sql/claim.ts";
import { laneFunctions } from "./sql/lanes.ts";
import { leaseFunctions } from "./sql/leases.ts";
import { passFunctions } from "./sql/passes.ts";
import { settleFunctions } from "./sql/settle.ts";
import { tables } from "./sql/tables.ts";
import { upkeepFunctions } from "./sql/upkeep.ts";

/**
 * They run in order, each once, and are never changed after a release: a correction is a migration of its own, which
 * leaves alone what processes of the version before still call, since they go on working while it runs.
 */
export const migrations: readonly ((schema: string, channel: string) => string)[] = [
  (s, channel) =>
    [
      tables(s),
      laneFunctions(s, channel),
      leaseFunctions(s),
      appendFunctions(s),
      claimFunctions(s),
      settleFunctions(s),
      passFunctions(s),
      upkeepFunctions(s),
    ].join("\n"),
];
