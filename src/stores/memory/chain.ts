/** A queue from whose middle an item can be taken at once: a doubly linked list. */
export class Chain<Item> {
  #head: Link<Item> | undefined;
  #tail: Link<Item> | undefined;

  get first(): Item | undefined {
    return this.#head?.item;
  }

  get isEmpty(): boolean {
    return this.#head === undefined;
  }

  *[Symbol.iterator](): Iterator<Item> {
    for (let link = this.#head; link !== undefined; link = link.next) yield link.item;
  }

  /** Adds at the end; the link is what {@link remove} takes. */
  push(item: Item): Link<Item> {
    const link: Link<Item> = { item, previous: this.#tail, next: undefined };
    if (this.#tail === undefined) this.#head = link;
    else this.#tail.next = link;
    this.#tail = link;
    return link;
  }

  /** The link must be one of this chain's. */
  remove(link: Link<Item>): void {
    if (link.previous === undefined) this.#head = link.next;
    else link.previous.next = link.next;
    if (link.next === undefined) this.#tail = link.previous;
    else link.next.previous = link.previous;
  }

  /** Gives the first item its next turn after all others. */
  rotate(): void {
    const link = this.#head;
    if (link === undefined || link.next === undefined) return;
    this.remove(link);
    link.previous = this.#tail;
    link.next = undefined;
    if (this.#tail !== undefined) this.#tail.next = link;
    this.#tail = link;
  }
}

export interface Link<Item> {
  readonly item: Item;
  previous: Link<Item> | undefined;
  next: Link<Item> | undefined;
}
