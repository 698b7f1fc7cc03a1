/**
 * The `Link` header.
 *
 * @module
 */

/** One link of a `Link` header. */
export interface Link {
  /** As it was sent: absolute, or relative to the URL of the request. */
  readonly target: string;
  /** The relation types, in lower case. */
  readonly rel: readonly string[];
  /** Present where the link is about something else than the answer. */
  readonly anchor: string | undefined;
}

/**
 * Reads a `Link` header (RFC 8288 §3). Total: any text gives a list, and what cannot be read is left out. Linear: each
 * character is looked at once.
 */
export function parseLinkHeader(value: string): Link[] {
  const links: Link[] = [];
  const reader = new Reader(value);
  while (!reader.atEnd()) {
    const link = readLink(reader);
    if (link !== undefined) links.push(link);
    reader.skipPast(",");
  }
  return links;
}

/** The target of the first link with `rel="next"` that is about the answer itself. */
export function nextTarget(value: string | undefined): string | undefined {
  return parseLinkHeader(value ?? "").find(({ rel, anchor }) => anchor === undefined && rel.includes("next"))
    ?.target;
}

function readLink(reader: Reader): Link | undefined {
  reader.skipBlanks();
  if (!reader.skip("<")) return undefined;
  const target = reader.until(">");
  if (target === undefined) return undefined;
  let rel: readonly string[] | undefined;
  let anchor: string | undefined;
  for (;;) {
    reader.skipBlanks();
    if (!reader.skip(";")) break;
    reader.skipBlanks();
    const name = reader.token().toLowerCase();
    reader.skipBlanks();
    if (!reader.skip("=")) continue;
    reader.skipBlanks();
    const text = reader.quotedOrToken();
    // Only the first of each counts (RFC 8288 §3.3).
    if (name === "rel")
      rel ??= text
        .toLowerCase()
        .split(/[ \t]+/)
        .filter((type) => type !== "");
    if (name === "anchor") anchor ??= text;
  }
  return { target: target.trim(), rel: rel ?? [], anchor };
}

/** Walks over a text, forwards only. */
class Reader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  atEnd(): boolean {
    return this.#at >= this.#text.length;
  }

  skip(char: string): boolean {
    if (this.#text[this.#at] !== char) return false;
    this.#at += 1;
    return true;
  }

  skipBlanks(): void {
    while (this.#text[this.#at] === " " || this.#text[this.#at] === "\t") this.#at += 1;
  }

  /** What comes before a character, which is passed too. Without one, the rest of the text is passed. */
  until(char: string): string | undefined {
    const end = this.#text.indexOf(char, this.#at);
    const found = end < 0 ? undefined : this.#text.slice(this.#at, end);
    this.#at = end < 0 ? this.#text.length : end + 1;
    return found;
  }

  token(): string {
    const begin = this.#at;
    while (!this.atEnd() && !' \t"<>=;,'.includes(this.#text[this.#at] ?? "")) this.#at += 1;
    return this.#text.slice(begin, this.#at);
  }

  quotedOrToken(): string {
    if (!this.skip('"')) return this.token();
    let text = "";
    while (!this.atEnd() && this.#text[this.#at] !== '"') {
      if (this.#text[this.#at] === "\\") this.#at += 1;
      text += this.#text[this.#at] ?? "";
      this.#at += 1;
    }
    this.#at += 1;
    return text;
  }

  /** To behind the next such character outside of quotes. */
  skipPast(char: string): void {
    while (!this.atEnd() && !this.skip(char)) {
      if (this.#text[this.#at] === '"') this.quotedOrToken();
      else this.#at += 1;
    }
  }
}
