/** What happened, as a hash; the last lines in words too. Two runs of one seed have the same. */
export class Trace {
  readonly #kept: number;
  readonly #lines: string[] = [];
  #high = 0x811c9dc5;
  #low = 0x01000193;

  /** @param kept how many lines it remembers */
  constructor(kept: number) {
    this.#kept = kept;
  }

  add(line: string): void {
    for (let at = 0; at < line.length; at += 1) {
      this.#high = Math.imul(this.#high ^ line.charCodeAt(at), 0x01000193);
      this.#low = Math.imul(this.#low + line.charCodeAt(at), 0x85ebca6b) ^ (this.#low >>> 13);
    }
    if (this.#kept === 0) return;
    this.#lines.push(line);
    if (this.#lines.length > 2 * this.#kept) this.#lines.splice(0, this.#kept);
  }

  get hash(): string {
    return `${(this.#high >>> 0).toString(16)}${(this.#low >>> 0).toString(16)}`;
  }

  get lines(): readonly string[] {
    return this.#lines.slice(-this.#kept);
  }
}
