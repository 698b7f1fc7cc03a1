/**
 * Servers that some tests talk to. They are looked for once, when the run starts (see services-setup.ts): tests of one
 * that does not answer are left out, and the run says so in a line. With `CI` set nothing may be left out.
 */
import { describe, inject } from "vitest";

export type Service = "postgres" | "redis" | "amqp" | "nats";

interface ServiceInfo {
  readonly label: string;
  /** The environment's variable that names another than the usual one. */
  readonly variable: string;
  readonly url: string;
}

export const SERVICES: Readonly<Record<Service, ServiceInfo>> = {
  postgres: {
    label: "PostgreSQL",
    variable: "TRUEUP_TEST_POSTGRES_URL",
    url: "postgres://postgres@127.0.0.1:5432/postgres",
  },
  redis: { label: "Redis", variable: "TRUEUP_TEST_REDIS_URL", url: "redis://127.0.0.1:6379" },
  amqp: { label: "RabbitMQ", variable: "TRUEUP_TEST_AMQP_URL", url: "amqp://guest:guest@127.0.0.1:5672" },
  nats: { label: "NATS", variable: "TRUEUP_TEST_NATS_URL", url: "nats://127.0.0.1:4222" },
};

declare module "vitest" {
  interface ProvidedContext {
    /** The address of each service; `null` where nothing answers. */
    services: Readonly<Record<Service, string | null>>;
  }
}

/** Where the service is to be found. */
export function serviceUrl(service: Service): string {
  return inject("services")[service] ?? SERVICES[service].url;
}

/** `describe`, for tests that need a service: skipped where it does not answer. */
export function describeWith(service: Service): typeof describe.skip {
  // oxlint-disable-next-line vitest/valid-title, vitest/valid-describe-callback -- it takes a condition, not a title
  return describe.skipIf(inject("services")[service] === null);
}
