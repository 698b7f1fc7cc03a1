/**
 * Makes a source of a driver.
 *
 * @module
 */

import { systemClock, systemRandom } from "../../core/clock.ts";
import type { Source, SourceEnvironment } from "../../core/source.ts";
import { Consumer } from "./consumer.ts";
import type { QueueDriver } from "./driver.ts";
import { type DriverDefaults, queueSettings, type QueueSourceOptions } from "./options.ts";

const OWN_ENVIRONMENT: SourceEnvironment = { clock: systemClock, random: systemRandom, emit: () => {} };

/**
 * A source that consumes a queue through `driver`. Does nothing until it runs.
 *
 * With a durable store a message is acked once its events are committed, with any other once they are handled (I1).
 * What can never be accepted goes to the broker's dead letters, what cannot be accepted now is delivered again later.
 *
 * @throws TrueupError `OPTION_INVALID`, naming the option
 */
export function queueSource(
  name: string,
  driver: QueueDriver,
  options: QueueSourceOptions,
  defaults?: DriverDefaults,
): Source {
  const settings = queueSettings(options, defaults);
  return {
    name: options.name ?? name,
    provider: settings.provider,
    run: (sink, signal, environment = OWN_ENVIRONMENT) =>
      new Consumer({ name: options.name ?? name, driver, settings, environment, sink }).run(signal),
  };
}
