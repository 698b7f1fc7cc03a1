/**
 * Which texts are secret, and how they are taken out of what leaves the process (I12).
 *
 * @module
 */

/**
 * Under which an object says what it keeps secret, when it is asked. A symbol and a function, so that no logger that goes
 * deep shows it, while a proxy or a copy of the object (`{ ...source, name }`) still has it; so does what another copy of
 * this package made.
 */
const SECRETS = Symbol.for("trueup.secrets");

/**
 * Notes what an object of the configuration (a signature scheme, a source, a store) keeps secret, so that whatever is
 * told can be freed of it. @returns the object
 */
export function keepSecrets<Owner extends object>(owner: Owner, secrets: readonly string[]): Owner {
  // Configurable, because of a property that is not, a proxy must give the very value: one that binds methods throws.
  return Object.defineProperty(owner, SECRETS, {
    value: () => secrets,
    enumerable: true,
    configurable: true,
  });
}

/** What {@link keepSecrets} was told of it. */
export function secretsOf(owner: unknown): readonly string[] {
  if (typeof owner !== "object" || owner === null) return [];
  return (owner as { readonly [SECRETS]?: () => readonly string[] })[SECRETS]?.() ?? [];
}

/** Takes secrets out of a text. */
export type Redact = (text: string) => string;

const REDACTED = "[redacted]";

/** Short strings are more likely flags than secrets, and replacing them would garble every message. */
const SHORTEST_SECRET = 6;

/** Replaces these secrets, however they are spelled, and what has the form of one. */
export function redactorOf(secrets: Iterable<string>): Redact {
  const spelled = new Set([...secrets].flatMap(spellings).filter((text) => text.length >= SHORTEST_SECRET));
  // The longest first: one secret may begin another, whose rest would be left standing.
  const sorted = [...spelled].toSorted((a, b) => b.length - a.length);
  return (text) => {
    const safe = sorted.reduce((t, secret) => t.replaceAll(secret, REDACTED), text);
    return FORMS.reduce((t, [form, replacement]) => t.replace(form, replacement), safe);
  };
}

const NAMED = "access_token|refresh_token|api_?key|access_?key|client_secret|secret|password|passwd|pwd";

/**
 * Secrets that nobody told us of, by their form alone: drivers and SDKs quote connection strings and headers in their
 * errors. Each is bounded, so that the time stays linear in the text.
 */
const FORMS: readonly (readonly [form: RegExp, replacement: string])[] = [
  // postgres://user:password@host
  [/:\/\/[^\s/?#"'<>]{1,1000}@/g, `://${REDACTED}@`],
  [/\b(bearer|basic)\s{1,10}(?=[^\s"']{0,1000}\d)[\w.~+/=-]{8,}/gi, `$1 ${REDACTED}`],
  // In a query, in JSON, and as Node prints an object. Not "password: too short", which a schema may say.
  [new RegExp(`\\b(${NAMED})=(?!\\[redacted\\])[^\\s&"',;#}]{6,}`, "gi"), `$1=${REDACTED}`],
  [
    new RegExp(`\\b(${NAMED})(["']?\\s{0,5}:\\s{0,5}["'])(?!\\[redacted\\])[^"']{6,}`, "gi"),
    `$1$2${REDACTED}`,
  ],
];

/** The texts in a value. Without a schema, credentials may be anything: an SDK's client with circles in it, say. */
export function textsIn(value: unknown, texts = new Set<string>(), visited = new Set<object>()): Set<string> {
  if (typeof value === "string") {
    texts.add(value);
  } else if (typeof value === "object" && value !== null && !visited.has(value)) {
    visited.add(value);
    for (const member of Object.values(value)) textsIn(member, texts, visited);
  }
  return texts;
}

/** A secret as it stands in a message: as it is, in JSON, in a URL; a key of several lines also line by line. */
function spellings(secret: string): string[] {
  const lines = secret.includes("\n") ? secret.split(/[\r\n]+/) : [];
  const inUrl = secret.isWellFormed() ? [encodeURIComponent(secret), encodeURI(secret)] : [];
  return [secret, JSON.stringify(secret).slice(1, -1), ...inUrl, ...lines, ...core(secret)];
}

/** Without what only says its kind: `Bearer …`, `whsec_…`; and the password of `Basic …`. */
function core(secret: string): string[] {
  const bare = /^(?:whsec_|(?:bearer|basic|token)\s+)(.+)$/is.exec(secret)?.[1];
  if (bare === undefined) return [];
  const password = /^basic\s/i.test(secret)
    ? Buffer.from(bare, "base64").toString().split(":").slice(1).join(":")
    : "";
  return [bare, password];
}

/** Names under which headers and queries carry secrets. */
const SECRET_NAME = /auth|cookie|key|pass|secret|session|sign|token|credential/i;

/** Whether a header or a parameter of this name is likely to carry a secret. */
export function isSecretName(name: string): boolean {
  return SECRET_NAME.test(name);
}

/** Some APIs have their token in the path, `/bot123456:ABC-DEF…/` say; names of endpoints are shorter. */
const LONG_SEGMENT = 20;

/** The parts of a base URL's path that are likely to be secrets. */
export function secretSegments(path: string): string[] {
  return path.split("/").filter((segment) => segment.length >= LONG_SEGMENT);
}

/** The passwords of connection strings: `amqp://user:password@host`. A server may quote one by itself. */
export function urlPasswords(urls: string | readonly string[] | undefined): string[] {
  return userInfos(urls).flatMap(({ password }) => spelledSecret(password));
}

/** The same where a name without a password is a token, `nats://token@host`. Elsewhere it is a user, and no secret. */
export function urlPasswordsOrTokens(urls: string | readonly string[] | undefined): string[] {
  return userInfos(urls).flatMap(({ password, username }) =>
    spelledSecret(password === "" ? username : password),
  );
}

function userInfos(urls: string | readonly string[] | undefined): URL[] {
  return [urls ?? []].flat().flatMap((url) => (URL.canParse(url) ? [new URL(url)] : []));
}

function spelledSecret(secret: string): string[] {
  return secret === "" ? [] : [secret, decoded(secret)];
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a lone "%", which drivers take as it is
  }
}

/** The values of headers, or of a query, that are likely to be secrets. */
export function secretMembers(members: Readonly<Record<string, unknown>>): string[] {
  return Object.entries(members).flatMap(([name, value]) =>
    typeof value === "string" && isSecretName(name) ? [value] : [],
  );
}
