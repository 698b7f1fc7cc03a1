/** Looks for the servers that tests need, once for the whole run (see services.ts). */
import { connect } from "node:net";
import type { TestProject } from "vitest/node";
import { SERVICES, type Service } from "./services.ts";

const PATIENCE_MS = 2_000;

export default async function findServices(project: TestProject): Promise<void> {
  const names = Object.keys(SERVICES) as Service[];
  const found = await Promise.all(
    names.map(async (name) => {
      const { label, url: usual, variable } = SERVICES[name];
      const url = process.env[variable] ?? usual;
      const { hostname, port } = new URL(url);
      if (await answers(hostname, Number(port))) return [name, url] as const;
      const line = `nothing answers at ${hostname}:${port}, so tests that need ${label} are left out; ${variable} names another place`;
      if (process.env["CI"] !== undefined) throw new Error(`${line}. With CI set, none may be left out.`);
      console.warn(`left out: ${line}`);
      return [name, null] as const;
    }),
  );
  project.provide("services", Object.fromEntries(found) as Record<Service, string | null>);
}

function answers(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: PATIENCE_MS });
    const end = (answered: boolean) => {
      socket.destroy();
      resolve(answered);
    };
    socket.once("connect", () => end(true));
    socket.once("error", () => end(false));
    socket.once("timeout", () => end(false));
  });
}
