const EVERY_MS = 2_000;

/** Shows how far it got: one line that changes on a terminal; elsewhere lines, not too many. */
export class Progress {
  readonly #stream: NodeJS.WriteStream;
  #step = "";
  #shownAt = 0;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  /** Begins a step. */
  step(text: string): void {
    this.#step = text;
    this.#shownAt = performance.now();
    this.#show(text);
  }

  /** Says how far the step is. */
  update(text: string): void {
    const now = performance.now();
    if (now - this.#shownAt < (this.#stream.isTTY ? 50 : EVERY_MS)) return;
    this.#shownAt = now;
    this.#show(`${this.#step}: ${text}`);
  }

  /** Writes a line that stays. */
  say(text: string): void {
    if (this.#stream.isTTY) this.#stream.write("\r\u001b[2K");
    this.#stream.write(`${text}\n`);
  }

  #show(text: string): void {
    this.#stream.write(this.#stream.isTTY ? `\r\u001b[2K${text}` : `${text}\n`);
  }
}
