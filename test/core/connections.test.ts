import { describe, expect, test } from "vitest";
import { z } from "zod";
import { ConnectionRegistry, singleConnection } from "../../src/core/connections.ts";
import type { Connections } from "../../src/core/options.ts";
import { type AnyProvider, type Connection, defineProvider } from "../../src/core/provider.ts";
import { Redactor } from "../../src/core/redactor.ts";
import { TestClock } from "../../src/testing/test-clock.ts";
import { gate, rejection, resourceOf } from "./fakes.ts";

const SECRET = "s3cr3t-token";

function setup(get: Connections["get"], credentials?: z.ZodType) {
  const provider = defineProvider({ name: "crm", credentials, resources: { contact: resourceOf() } });
  const clock = new TestClock();
  const asked: { id: string; refresh: boolean }[] = [];
  const registry = new ConnectionRegistry(
    {
      get: (name, id, options) => {
        asked.push({ id, ...options });
        return get(name, id, options);
      },
    },
    new Map([["crm", provider as AnyProvider]]),
    clock,
  );
  return { asked, clock, registry };
}

const redactedBy = (connections: ConnectionRegistry, text: string) =>
  new Redactor({ providers: new Map(), connections }).of({ provider: "crm", connection: "acme" })(text);

const withToken = (id: string, token: unknown = SECRET): Connection => ({ id, credentials: { token } });

describe("looking up a connection", () => {
  test("should ask once in a minute, and anew after it", async () => {
    const { asked, clock, registry } = setup((_, id) => withToken(id));
    expect(await registry.find("crm", "acme")).toEqual(withToken("acme"));
    await clock.advance(59_999);
    await registry.find("crm", "acme");
    expect(asked).toEqual([{ id: "acme", refresh: false }]);
    await clock.advance(1);
    await registry.find("crm", "acme");
    expect(asked).toHaveLength(2);
  });

  test("should ask anew in time also where the wall clock is set back", async () => {
    const { asked, clock, registry } = setup((_, id) => withToken(id));
    await registry.find("crm", "acme");
    clock.setWallClock(clock.now() - 3_600_000);
    await clock.advance(60_000);
    await registry.find("crm", "acme");
    expect(asked).toHaveLength(2);
  });

  test("should ask once for callers at the same time", async () => {
    const answer = gate<Connection>();
    const { asked, registry } = setup(() => answer.promise);
    const callers = [1, 2].map(async () => registry.find("crm", "acme"));
    answer.open(withToken("acme"));
    expect(await Promise.all(callers)).toEqual([withToken("acme"), withToken("acme")]);
    expect(asked).toHaveLength(1);
  });

  test("should not mix connections or providers up", async () => {
    const { asked, registry } = setup((provider, id) => withToken(id, `token of ${provider}/${id}`));
    expect((await registry.find("crm", "a"))?.credentials).toEqual({ token: "token of crm/a" });
    expect((await registry.find("crm", "b"))?.credentials).toEqual({ token: "token of crm/b" });
    expect((await registry.find("erp", "a"))?.credentials).toEqual({ token: "token of erp/a" });
    expect(asked).toHaveLength(3);
  });

  test("should ask for new credentials at once when told to, and keep those", async () => {
    let token = "old-token";
    const { asked, registry } = setup((_, id) => withToken(id, token));
    await registry.find("crm", "acme");
    token = "new-token";
    const refreshed = await registry.find("crm", "acme", { refresh: true });
    expect(refreshed?.credentials).toEqual({ token: "new-token" });
    expect((await registry.find("crm", "acme"))?.credentials).toEqual({ token: "new-token" });
    expect(asked.map(({ refresh }) => refresh)).toEqual([false, true]);
  });

  test("should forget when told to", async () => {
    const { asked, registry } = setup((_, id) => withToken(id));
    await registry.find("crm", "acme");
    registry.forget("crm", "acme");
    await registry.find("crm", "acme");
    expect(asked).toHaveLength(2);
  });

  test("should remember for a while that there is none, and say so to who needs one", async () => {
    const { asked, registry } = setup(() => undefined);
    expect(await registry.find("crm", "nobody")).toBeUndefined();
    expect(await rejection((async () => registry.get("crm", "nobody"))())).toMatchObject({
      code: "CONNECTION_UNKNOWN",
      message: 'connections.get knows no connection "nobody" of "crm"',
    });
    expect(asked).toHaveLength(1);
  });

  test("should not remember a failure", async () => {
    let works = false;
    const { asked, registry } = setup((_, id) => {
      if (!works) throw new Error("the database is down");
      return withToken(id);
    });
    expect((await rejection(Promise.resolve(registry.find("crm", "acme")))).message).toBe(
      "the database is down",
    );
    works = true;
    expect(await registry.find("crm", "acme")).toEqual(withToken("acme"));
    expect(asked).toHaveLength(2);
  });

  test("should not let a failure of an older look-up undo a newer one", async () => {
    const [older, newer] = [gate<Connection>(), gate<Connection>()];
    const { asked, registry } = setup((_, _id, { refresh }) => (refresh ? newer : older).promise);
    const failing = rejection(Promise.resolve(registry.find("crm", "acme")));
    const refreshed = registry.find("crm", "acme", { refresh: true });
    older.fail(new Error("timed out"));
    await failing;
    newer.open(withToken("acme", "fresh"));
    await refreshed;
    expect((await registry.find("crm", "acme"))?.credentials).toEqual({ token: "fresh" });
    expect(asked).toHaveLength(2);
  });

  test.each([
    ["found", true],
    ["made up", false],
  ])("should keep a bounded number of those that are %s (I10)", async (_, exists) => {
    const { asked, registry } = setup((_provider, id) => (exists ? withToken(id) : undefined));
    for (let i = 0; i <= 10_000; i += 1) await registry.find("crm", `c${i}`);
    const before = asked.length;
    await registry.find("crm", "c1");
    expect(asked.length).toBe(before); // still kept
    await registry.find("crm", "c0");
    expect(asked.length).toBe(before + 1); // the first had to go
  });
});

describe("the default connection", () => {
  test("should be the only one where the user gives none", async () => {
    const registry = new ConnectionRegistry(singleConnection, new Map(), new TestClock());
    expect(await registry.list("crm")).toEqual(["default"]);
    expect(await registry.get("crm", "default")).toEqual({ id: "default", credentials: {} });
    expect(await registry.find("crm", "other")).toBeUndefined();
  });

  test("should be listed where the user's connections cannot be", async () => {
    const { registry } = setup((_, id) => withToken(id));
    expect(await registry.list("crm")).toEqual(["default"]);
  });
});

describe("credentials", () => {
  const schema = z.object({ token: z.string().regex(/^[a-z]+$/), scopes: z.array(z.string()).default([]) });

  test("should be what the provider's schema makes of them", async () => {
    const { registry } = setup((_, id) => withToken(id, "abc"), schema);
    expect((await registry.get("crm", "acme")).credentials).toEqual({ token: "abc", scopes: [] });
  });

  test("should not leak where the schema refuses them (I12)", async () => {
    const quoting = schema
      .refine(() => true)
      .superRefine((value, context) => {
        context.addIssue({ code: "custom", path: ["token"], message: `bad token ${value.token}` });
      });
    const { registry } = setup((_, id) => withToken(id, "abcabc"), quoting);
    const error = await rejection((async () => registry.get("crm", "acme"))());
    expect(error).toMatchObject({
      code: "CREDENTIALS_INVALID",
      message: 'the credentials of connection "acme" of "crm" do not match their schema at token',
    });
    expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toContain("abcabc");
    expect(error.cause).toBeUndefined();
  });
});

describe("redacting (I12)", () => {
  const redacted = async (credentials: unknown, text: string) => {
    const { registry } = setup((_, id) => ({ id, credentials }));
    await registry.find("crm", "acme");
    return redactedBy(registry, text);
  };

  test("should replace every secret, everywhere, at any depth", async () => {
    const credentials = { token: SECRET, keys: [{ private: "-----KEY-----" }], plan: "pro", port: 5_432 };
    expect(
      await redacted(credentials, `GET /?t=${SECRET}&u=${SECRET} with -----KEY----- for pro on 5432`),
    ).toBe("GET /?t=[redacted]&u=[redacted] with [redacted] for pro on 5432");
    expect(await redacted(SECRET, `token ${SECRET}`)).toBe("token [redacted]");
  });

  test("should leave nothing of a secret that another one begins", async () => {
    expect(await redacted({ short: "abcdef", long: "abcdefghi" }, "abcdefghi abcdef")).toBe(
      "[redacted] [redacted]",
    );
  });

  test("should leave a text as it is where nothing of the connection is known", async () => {
    const { asked, registry } = setup((_, id) => withToken(id));
    expect(redactedBy(registry, `token ${SECRET}`)).toBe(`token ${SECRET}`);
    expect(asked).toEqual([]);
    expect(await redacted(undefined, "text")).toBe("text");
  });

  test("should know a secret in JSON, in a URL, and line by line", async () => {
    const key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQ==\n-----END KEY-----";
    const credentials = { key, password: 'pass"word\\ /+1' };
    const text = `${JSON.stringify(credentials)} ?p=${encodeURIComponent(credentials.password)} MIIEvQIBADANBg`;
    expect(await redacted(credentials, text)).toBe(
      '{"key":"[redacted]","password":"[redacted]"} ?p=[redacted] [redacted]',
    );
  });

  test("should know the secrets of a connection through a flood of made-up ids", async () => {
    const { registry } = setup((_, id) => (id === "acme" ? withToken(id) : undefined));
    await registry.find("crm", "acme");
    for (let i = 0; i < 10_001; i += 1) await registry.find("crm", `made-up-${i}`);
    expect(redactedBy(registry, SECRET)).toBe("[redacted]");
  });

  test("should know what was learned of a connection, the last of each kind, over refreshes and until it is forgotten", async () => {
    const { registry } = setup((_, id) => withToken(id));
    registry.learn("crm", "acme", "api.headers", ["of nobody known"]);
    await registry.find("crm", "acme");
    registry.learn("crm", "acme", "api.headers", ["an older key"]);
    registry.learn("crm", "acme", "api.headers", ["a newer key"]);
    registry.learn("crm", "acme", "webhook.verify", ["of the scheme"]);
    await registry.find("crm", "acme", { refresh: true });
    expect([...registry.secrets("crm", "acme")]).toEqual([SECRET, "a newer key", "of the scheme"]);
    expect([...registry.secrets("crm", "other")]).toEqual([]);
    registry.forget("crm", "acme");
    expect([...registry.secrets("crm", "acme")]).toEqual([]);
  });

  test("should cope with credentials that contain themselves", async () => {
    const client: { token: string; self?: unknown } = { token: SECRET };
    client.self = client;
    expect(await redacted({ client }, `token ${SECRET}`)).toBe("token [redacted]");
  });

  test("should not wait for a look-up, nor forget the secrets of the one before it", async () => {
    const refreshed = gate<Connection>();
    const { registry } = setup((_, id, { refresh }) => (refresh ? refreshed.promise : withToken(id)));
    await registry.find("crm", "acme");
    const refresh = registry.find("crm", "acme", { refresh: true });
    expect(redactedBy(registry, SECRET)).toBe("[redacted]");
    refreshed.fail(new Error("the vault is down"));
    await rejection(Promise.resolve(refresh));
    expect(redactedBy(registry, SECRET)).toBe("[redacted]");
  });
});

describe("an id that no store can keep", () => {
  test.each(["", "ac\0me", "ac\ud800me"])("should be nobody's, without asking for it: %j", async (id) => {
    const { asked, registry } = setup((_, known) => withToken(known));
    expect(await registry.find("crm", id)).toBeUndefined();
    expect(await rejection((async () => registry.get("crm", id))())).toMatchObject({
      code: "CONNECTION_UNKNOWN",
    });
    expect(asked).toEqual([]);
  });

  test.each(["", "ac\0me", 7])("should be refused where it is listed: %j", async (id) => {
    const list = () => ["acme", id as string];
    const registry = new ConnectionRegistry(
      { get: (_, known) => withToken(known), list },
      new Map(),
      new TestClock(),
    );
    const refused = await rejection(registry.list("crm"));
    expect(refused).toMatchObject({ code: "OPTION_INVALID" });
    expect((refused as Error).message).toContain(JSON.stringify(id));
  });
});
