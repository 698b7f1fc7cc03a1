import { fastDirectory, sqliteFiles } from "./sqlite-fixture.ts";
import { testAgainstModel } from "./model/run.ts";

testAgainstModel("sqliteStore", sqliteFiles(fastDirectory));
