import { guardsOf } from "./guards-of.ts";
import type { Mutant } from "./mutant.ts";

const SECRETS = ["engine/secrets", "core/failure", "core/secrets"];
const RECEIVER = ["sources/webhook/receiver", "sources/webhook/wire", "sources/webhook/authenticate"];

/** Guards where bytes come in and texts go out. */
export const mutants: readonly Mutant[] = [
  ...guardsOf("sources/webhook/gate.ts", RECEIVER, [
    [
      "a delivery is not verified",
      `authenticate(delivery, this.#verifiers ?? (await this.#verifiersFor(connection)));`,
      `undefined as string | undefined;`,
      "I11",
    ],
    [
      "a compressed body is taken",
      `    if (encoding && encoding.toLowerCase() !== "identity") return`,
      `    if (encoding === "identity, identity") return`,
      "I10",
    ],
    ["strangers fill the log", `    if (now < this.#tellsAgainAt) return false;`, ``, "I10"],
    [
      "an engine that stops is asked",
      `    return this.#options.accepting() ? undefined : this.refuse("STOPPED");`,
      `    return undefined;`,
      "I1",
    ],
  ]),
  ...guardsOf("sources/webhook/authenticate.ts", RECEIVER, [
    [
      "a scheme that says false vouches",
      `    if (verdict === false) throw new SignatureError("the verifier returned false");`,
      ``,
      "I11",
    ],
    [
      "no scheme at all vouches",
      `    throw failure ?? new SignatureError("there is no scheme to accept the delivery");`,
      `    if (failure !== undefined) throw failure;\n    return undefined;`,
      "I11",
      "an empty list of schemes is refused before, by verifierList",
    ],
    ["an empty list of schemes is one", `  if (list.length > 0 && list.every(`, `  if (list.every(`, "I11"],
  ]),
  ...guardsOf("sources/webhook/node.ts", RECEIVER, [
    [
      "the first of two headers counts",
      `      if (value !== undefined) throw repeated(name);\n`,
      `      if (value !== undefined) continue;\n`,
      "I11",
    ],
  ]),
  ...guardsOf(
    "sources/webhook/events.ts",
    [...RECEIVER, "sources/raw"],
    [
      [
        "a delivery has any number of events",
        `  if (events.length <= most) return`,
        `  if (events.length <= most || most > 0) return`,
        "I10",
      ],
    ],
  ),
  ...guardsOf(
    "http/body-buffer.ts",
    [...RECEIVER, "http/body-buffer"],
    [
      [
        "a body has any size",
        `    if (length > this.#maxBytes) return false;`,
        `    if (length < 0) return false;`,
        "I10",
      ],
    ],
  ),
  ...guardsOf(
    "sources/webhook/body.ts",
    ["sources/webhook/body"],
    [
      ["a body has a key __proto__", `    throw invalidBody("the body has a key __proto__");`, ``, "I11"],
      [
        "a form has a field __proto__",
        `    if (name === "__proto__") throw invalidBody("the form has a field __proto__");`,
        ``,
        "I11",
      ],
    ],
  ),
  ...guardsOf(
    "sources/raw.ts",
    ["sources/raw"],
    [
      [
        "a message that is to be verified is not",
        `  if (raw.verify) {`,
        `  if (raw.verify === undefined) {`,
        "I11",
      ],
    ],
  ),
  ...guardsOf(
    "signatures/freshness.ts",
    ["signatures/attacks", "signatures/freshness"],
    [
      [
        "a time of the future is fresh",
        `  if (Math.abs(ageMs) <= toleranceMs) return;`,
        `  if (ageMs <= toleranceMs) return;`,
        "I11",
      ],
      [
        "an old delivery is fresh",
        `  if (Math.abs(ageMs) <= toleranceMs) return;`,
        `  if (ageMs > 0) return;`,
        "I11",
      ],
      [
        "a time may be written anyhow",
        `  if (!INTEGER.test(timestamp)) throw`,
        `  if (timestamp === "x") throw`,
        "I11",
      ],
    ],
  ),
  ...guardsOf(
    "signatures/decode.ts",
    ["signatures/attacks", "signatures/fuzz"],
    [
      [
        "one signature has many spellings",
        `  return bytes.toString(encoding) === text ? bytes : undefined;`,
        `  return bytes;`,
        "I11",
      ],
    ],
  ),
  ...guardsOf(
    "signatures/secrets.ts",
    ["signatures/attacks", "signatures/standard-webhooks"],
    [
      [
        "an empty secret is one",
        `    if (typeof secret === "string" && secret.trim() !== "") return secret;`,
        `    if (typeof secret === "string") return secret;`,
        "I11",
      ],
    ],
  ),
  ...guardsOf(
    "http/json.ts",
    ["http/json"],
    [
      ["a text may be read as a number", `.repeat(least + 1);`, `;`, "I4"],
      ["a long number may be a key", String.raw`(?=\s*(?:[,\]}]|$))/g;`, String.raw`(?![\d.eE])/g;`, "I4"],
    ],
  ),
  ...guardsOf(
    "http/path.ts",
    ["http/path", "http/fuzz"],
    [
      [
        "a path leaves the base URL",
        `  if (url.origin !== base.origin || !isBelow(base, url)) throw refused("it leaves the base URL", path);`,
        ``,
        "I12",
      ],
      [
        "a redirect takes credentials elsewhere",
        `  if (url.origin !== base.origin || url.username !== "" || url.password !== "") return undefined;`,
        ``,
        "I12",
      ],
      ["a path climbs", `  if (climbs(path)) throw refused("it has a dot segment", shown);`, ``, "I12"],
      [
        "a path climbs where it is decoded often",
        `    if (decoded === text) return false;\n    text = decoded;\n  }\n  return true;`,
        `    if (decoded === text) return false;\n    text = decoded;\n  }\n  return false;`,
        "I12",
      ],
      [
        "an id adds a query",
        `  if (path.includes("?")) throw refused("it has a \`?\`; pass \`query\`, and encode ids with urlPath", path);`,
        ``,
        "I12",
      ],
      [
        "an empty id names another endpoint",
        `  if (path.includes("//")) throw refused("it has an empty segment", path);`,
        ``,
        "I7",
      ],
      [
        "a host is unclear",
        `  if (/[@\\\\]/.test(authority) || authority === "") throw refused("its host is unclear", base.origin);`,
        ``,
        "I12",
      ],
      [
        "a query of a link ends it",
        `  if (query.includes("#") || CONTROL.test(query) || !query.isWellFormed())`,
        `  if (query === "#")`,
        "I12",
      ],
      [
        "a refusal shows the URL",
        '  return URL.canParse(path) ? `${new URL(path).origin}/…` : "(a URL)";',
        "  return path;",
        "I12",
      ],
    ],
  ),
  ...guardsOf("core/failure.ts", SECRETS, [
    [
      "an error is told as it is",
      `    if (!holdsSecret(error, redact)) return error;`,
      `    if (!holdsSecret(error, redact) || error !== null) return error;`,
      "I12",
    ],
    [
      "a failure is recorded as it is",
      `    message: safe(error.message).slice(0, MAX_MESSAGE_LENGTH),`,
      `    message: String(error.message).slice(0, MAX_MESSAGE_LENGTH),`,
      "I12",
    ],
    [
      "a failure's code is recorded as it is",
      `    code: safe(codeOf(error)).slice(0, MAX_CODE_LENGTH),`,
      `    code: codeOf(error).slice(0, MAX_CODE_LENGTH),`,
      "I12",
    ],
    ["a failure's path is recorded as it is", `{ path: safe(error.path) }`, `{ path: error.path }`, "I12"],
    ["a recorded code has any length", `.slice(0, MAX_CODE_LENGTH)`, `.slice(0)`, "I10"],
    [
      "an error is looked through without end",
      `    if (visited.add(part).size > MAX_PARTS) return true;`,
      `    visited.add(part);`,
      "I10",
    ],
    [
      "causes are not looked through",
      `waiting.push(part.name, part.message, part.stack, part.cause);`,
      `waiting.push(part.name, part.message, part.stack);`,
      "I12",
    ],
    [
      "texts of events are told as they are",
      `    if (typeof text === "string") tell(name, redactor.of(scopeOf(event))(text));`,
      `    if (typeof text === "string") tell(name, text);`,
      "I12",
    ],
  ]),
  ...guardsOf(
    "core/secrets.ts",
    [...SECRETS, "core/connections"],
    [
      [
        "the rest of a secret that another begins is left",
        `  const sorted = [...spelled].toSorted((a, b) => b.length - a.length);`,
        `  const sorted = [...spelled].toSorted((a, b) => a.length - b.length);`,
        "I12",
      ],
      [
        "a secret in a URL is not known",
        `  return [secret, JSON.stringify(secret).slice(1, -1), ...inUrl, ...lines, ...core(secret)];`,
        `  return [secret, JSON.stringify(secret).slice(1, -1), ...lines, ...core(secret), ...inUrl.slice(2)];`,
        "I12",
      ],
      [
        "credentials that contain themselves have no end",
        ` && value !== null && !visited.has(value)) {`,
        ` && value !== null && visited.size < 1e9) {`,
        "I10",
      ],
    ],
  ),
  ...guardsOf(
    "core/connections.ts",
    ["core/connections", "engine/secrets"],
    [
      [
        "made-up ids are kept without end",
        `    if (among.size > MOST_KEPT) among.delete(among.keys().next().value as string);`,
        ``,
        "I10",
      ],
      [
        "made-up ids drive connections out",
        `    const among = entry.known === undefined ? this.#unproven : this.#kept;`,
        `    const among = entry.known === undefined ? this.#kept : this.#kept;`,
        "I12",
      ],
      [
        "a look-up forgets the secrets of the one before",
        `      known: kept?.known,\n`,
        `      known: undefined,\n`,
        "I12",
      ],
      [
        "a look-up forgets the secrets that were learned",
        `      learned: kept?.learned ?? new Map<string, readonly string[]>(),`,
        `      learned: new Map<string, readonly string[]>(),`,
        "I12",
      ],
      [
        "a refusal of credentials quotes them",
        `      const path = (cause as { path?: string }).path;`,
        `      const path = (cause as { message?: string }).message;`,
        "I12",
      ],
    ],
  ),
  ...guardsOf(
    "http/attempt.ts",
    ["engine/secrets", "http/redirects", "http/failures"],
    [
      [
        "secrets of API headers are not known",
        `    shared.learn(state, "api.headers", secretMembers(headers));`,
        ``,
        "I12",
      ],
      [
        "secrets of queries are not known",
        `    shared.learn(state, "api.query", secretMembers(queryMembers(prepared.request.query)));`,
        ``,
        "I12",
      ],
      [
        "secrets of base URLs are not known",
        `    shared.learn(state, "api.baseUrl", secretSegments(base.path));`,
        ``,
        "I12",
      ],
      [
        "redirects have no end",
        `    if (hops >= MAX_REDIRECTS) throw refuse(`,
        `    if (hops >= 50) throw refuse(`,
        "I10",
      ],
      [
        "a POST is sent again elsewhere",
        `    if (method !== "GET" && method !== "HEAD") throw refuse(`,
        `    if (method === "") throw refuse(`,
        "I12",
      ],
    ],
  ),
  ...guardsOf(
    "http/pagination.ts",
    ["http/pagination", "engine/secrets"],
    [
      [
        "a stored cursor holds the API's key",
        `      return !Object.hasOwn(given, name) && !(value !== "" && credentials.has(value));`,
        `      return !(value !== "" && credentials.has(value));`,
        "I12",
      ],
      [
        "a stored cursor holds a credential",
        `      return !Object.hasOwn(given, name) && !(value !== "" && credentials.has(value));`,
        `      return !Object.hasOwn(given, name);`,
        "I12",
      ],
      [
        "a link to elsewhere is asked of the list itself",
        `  const own = query !== "" && target === page.split("?", 1)[0] && target.endsWith(\`/\${asked}\`);`,
        `  const own = query !== "";`,
        "I12",
      ],
    ],
  ),
  ...guardsOf(
    "composition.ts",
    ["engine/secrets"],
    [
      ["secrets of sources are not known", `    owners: [store, ...sources],`, `    owners: [store],`, "I12"],
      ["secrets that the user names are not known", `    secrets: options.secrets,`, ``, "I12"],
      [
        "the log is written as it is",
        `redactor.logger(options.logger ?? stderrLogger((line) => process.stderr.write(line)));`,
        `options.logger ?? stderrLogger((line) => process.stderr.write(line));`,
        "I12",
      ],
      [
        "events are told as they are",
        `new Hooks(logger, (event) => redactor.event(event));`,
        `new Hooks(logger);`,
        "I12",
      ],
      [
        "sources see errors as they are",
        `    tell: (error, scope) => redactor.error(error, scope),\n`,
        ``,
        "I12",
      ],
    ],
  ),
  ...guardsOf(
    "engine.ts",
    ["engine/secrets"],
    [
      [
        "secrets of a connection's own schemes are not known",
        `      learn: (id, secrets) => connections.learn(provider, id, "webhook.verify", secrets),\n`,
        ``,
        "I12",
      ],
    ],
  ),
  ...guardsOf(
    "core/passes.ts",
    ["engine/secrets"],
    [
      [
        "a pass rejects with the error as it is",
        `            throw redactor.error(asError(thrown), scope);`,
        `            throw asError(thrown);`,
        "I12",
      ],
    ],
  ),
  ...guardsOf(
    "core/lifecycle.ts",
    ["engine/secrets"],
    [
      [
        "a store that cannot be opened is told as it is",
        `      throw redactor.error(asError(thrown), {}); // drivers quote what they connect by`,
        `      throw asError(thrown);`,
        "I12",
      ],
    ],
  ),
  ...guardsOf(
    "http/shared-gate.ts",
    ["http/shared-gate"],
    [
      [
        "a permit is used however late",
        `!used && this.#metDelay(askedAt) <= usableMs;`,
        `!used && this.#metDelay(askedAt) >= 0;`,
        "I10",
      ],
      ["a permit counts for one window", `Math.ceil(this.#perMs + usableMs) + TICK_MS`, `this.#perMs`, "I10"],
      [
        "permits that were long on their way are handed on",
        `      if (this.#metDelay(askedAt) > usableMs) return 0;
`,
        `      this.#metDelay(askedAt);
`,
        "I10",
      ],
    ],
  ),
  ...guardsOf(
    "http/sliding-window.ts",
    ["http/sliding-window", "http/shared-gate"],
    [
      [
        "a permit comes back before its request has left for long enough",
        `    start.seenBy = now + this.#lateMs;
    return true;`,
        `    return true;`,
        "I10",
      ],
      [
        "a permit that came back is used",
        `    if (start.state !== "waiting") return false;
`,
        ``,
        "I10",
      ],
    ],
  ),
  ...guardsOf(
    "http/exchange.ts",
    ["http/shared-gate"],
    [
      [
        "a request leaves without its permit",
        `if (!mayLeave()) throw new PermitSpent();`,
        `mayLeave();`,
        "I10",
      ],
    ],
  ),
  ...guardsOf(
    "stores/postgres/transaction.ts",
    ["stores/postgres-connections"],
    [
      [
        "a commit that lost its transaction settles",
        `    connection.requireTransaction();
`,
        ``,
        "I3",
      ],
      [
        "a transaction waits for others' rows for as long as they like",
        `      SELECT set_config('statement_timeout'`,
        `      SELECT set_config('trueup.nothing'`,
        "I5",
      ],
    ],
  ),
  ...guardsOf(
    "stores/postgres/sql/settle.ts",
    ["stores/postgres-connections"],
    [
      [
        "a commit is made whose lease was lost while its callback ran",
        `u.live AND u.outcome = 2`,
        `u.outcome IS NULL`,
        "I3",
      ],
    ],
  ),
];
