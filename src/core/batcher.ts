/**
 * Callers in the same turn of the event loop share one call: this is how every store gets group commit without knowing
 * it.
 *
 * @module
 */

/** Collects items until the turn ends, then runs them together. Result i belongs to item i. */
export function batcher<Item, Result>(
  run: (items: Item[]) => Promise<readonly Result[]>,
  maxItems = 1_000,
): (item: Item) => Promise<Result> {
  let waiting: { item: Item; resolve: (result: Result) => void; reject: (error: unknown) => void }[] = [];

  const flush = () => {
    const batch = waiting;
    waiting = [];
    for (let start = 0; start < batch.length; start += maxItems)
      void runSlice(batch.slice(start, start + maxItems));
  };
  const runSlice = async (slice: typeof waiting) => {
    try {
      const results = await run(slice.map((entry) => entry.item));
      slice.forEach((entry, i) => entry.resolve(results[i] as Result));
    } catch (error) {
      for (const entry of slice) entry.reject(error);
    }
  };

  return (item) =>
    new Promise((resolve, reject) => {
      if (waiting.length === 0) setImmediate(flush);
      waiting.push({ item, resolve, reject });
    });
}
