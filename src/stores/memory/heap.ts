/** Something that is due at a moment. Among equals the lower order comes first. */
export interface Due {
  /** Milliseconds since the epoch. */
  readonly due: number;
  readonly order: number;
}

/** A binary heap: whatever is due first comes out first. */
export class DueHeap<Item extends Due> {
  readonly #items: Item[] = [];

  get size(): number {
    return this.#items.length;
  }

  /** The item that is due first, left where it is. */
  get first(): Item | undefined {
    return this.#items[0];
  }

  /** All items, in no particular order. */
  [Symbol.iterator](): Iterator<Item> {
    return this.#items[Symbol.iterator]();
  }

  push(item: Item): void {
    const items = this.#items;
    let hole = items.length;
    items.push(item);
    while (hole > 0) {
      const parent = (hole - 1) >> 1;
      const above = items[parent] as Item;
      if (!isBefore(item, above)) break;
      items[hole] = above;
      hole = parent;
    }
    items[hole] = item;
  }

  /** Takes out the item that is due first. */
  pop(): Item | undefined {
    const items = this.#items;
    const first = items[0];
    const last = items.pop();
    if (first === undefined || last === undefined || items.length === 0) return first;
    this.#sink(last);
    return first;
  }

  #sink(item: Item): void {
    const items = this.#items;
    let hole = 0;
    for (;;) {
      const left = 2 * hole + 1;
      const right = left + 1;
      if (left >= items.length) break;
      const rightIsFirst = right < items.length && isBefore(items[right] as Item, items[left] as Item);
      const child = rightIsFirst ? right : left;
      const below = items[child] as Item;
      if (!isBefore(below, item)) break;
      items[hole] = below;
      hole = child;
    }
    items[hole] = item;
  }
}

function isBefore(a: Due, b: Due): boolean {
  return a.due < b.due || (a.due === b.due && a.order < b.order);
}
