/**
 * Requests and answers of a fake provider, whatever carries them.
 *
 * @module
 */

export interface FakeRequest {
  readonly method: string;
  readonly url: URL;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string | undefined>>;
}

export type FakeAnswer =
  | {
      readonly kind: "answer";
      readonly status: number;
      readonly headers: Readonly<Record<string, string>>;
      readonly body: string;
      /** The connection breaks after so many bytes of the body. */
      readonly brokenAfter?: number | undefined;
    }
  /** No answer: the connection is refused, breaks before the first byte, or stays silent. */
  | { readonly kind: "refused" | "reset" | "silent" };

export function jsonAnswer(
  status: number,
  body: unknown,
  headers: Readonly<Record<string, string>> = {},
): FakeAnswer & { kind: "answer" } {
  return {
    kind: "answer",
    status,
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  };
}
