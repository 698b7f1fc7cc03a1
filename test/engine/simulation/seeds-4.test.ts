import { testSeeds } from "./seeds.ts";

// The 2,000 seeds of every run are spread over files, which run side by side.
testSeeds(1501, 500);
