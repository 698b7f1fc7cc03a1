/** How a connection's place in a feed is recorded, as far as it matters here. */
interface FeedRecord {
  readonly cursor: string | null;
}

/** By what a poll source's checkpoint can be told from others. */
const FEED = "poll:";

/** I6: where the cursor of the provider's feed has got, all that the feed told before is recorded. */
export class FeedCursor {
  /** Numbers of the changes that the feed tells, in order. */
  readonly #told: { readonly sequence: number; readonly connection: string }[] = [];
  readonly #isRecorded: (event: string) => boolean;
  readonly #violated: (what: string) => void;
  /** Whoever asks for the first time gets no events, and the place after the newest. */
  readonly #from = new Map<string, number>();

  constructor(isRecorded: (event: string) => boolean, violated: (what: string) => void) {
    this.#isRecorded = isRecorded;
    this.#violated = violated;
  }

  tells(sequence: number, connection: string): void {
    this.#told.push({ sequence, connection });
  }

  /** Full passes are recorded as to be made: they will find what the feed no longer tells, which goes on elsewhere. */
  replaced(connection: string): void {
    this.#from.delete(connection);
  }

  checkpointed(key: string, value: string | null): void {
    if (value === null || !key.includes(FEED)) return;
    const { cursor } = JSON.parse(value) as FeedRecord;
    if (cursor === null) return;
    const place = Number(cursor);
    const [, connection] = JSON.parse(key.slice(0, key.indexOf("]") + 1)) as [string, string];
    const from = this.#from.get(connection) ?? place;
    this.#from.set(connection, from);
    for (const { sequence, connection: owner } of this.#told) {
      if (owner !== connection || sequence <= from || sequence > place || this.#isRecorded(`evt_${sequence}`))
        continue;
      this.#violated(`the feed's cursor is at ${place}, past evt_${sequence}, which is not recorded`);
    }
  }
}
