import { createHash, randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { systemClock } from "../../src/core/clock.ts";

interface Attribute {
  readonly DataType: string;
  readonly StringValue?: string;
}

interface Kept {
  readonly MessageId: string;
  readonly Body: string;
  readonly MessageAttributes: Readonly<Record<string, Attribute>>;
  readonly sentAt: number;
  receives: number;
  receipt: string | undefined;
  visibleAt: number;
}

interface Queue {
  readonly name: string;
  readonly messages: Map<string, Kept>;
  redrive: { readonly to: string; readonly maxReceiveCount: number } | undefined;
}

class Refusal extends Error {
  readonly status: number;
  constructor(name: string, status = 400) {
    super(name);
    this.name = name;
    this.status = status;
  }
}

interface Entry {
  readonly Id: string;
  readonly ReceiptHandle: string;
  readonly VisibilityTimeout?: number;
}

const ACCOUNT = "000000000000";
const TEXT = /^[\t\n\r\u{20}-\u{D7FF}\u{E000}-\u{FFFD}\u{10000}-\u{10FFFF}]+$/u;
const MAX_MESSAGE_BYTES = 262_144;

/** SQS, as far as consumers and publishers see it: its JSON protocol, its limits, its receipt handles. */
export class FakeSqs {
  readonly accessKeyId = "AKIDTEST";
  /** Names of actions, in order, with how many entries a batch had. */
  readonly calls: string[] = [];
  /** Called before each action is obeyed: returns the name of an error, or `"hang-up"`. */
  fault: (action: string) => string | undefined = () => undefined;
  /** Called before each entry of a batch is obeyed, with its message's body: returns a failure's code. */
  entryFault: (body: string) => string | undefined = () => undefined;
  readonly #queues = new Map<string, Queue>();
  readonly #waiting = new Set<() => void>();
  #server: Server | undefined;
  #origin = "";

  /** @returns the endpoint */
  async start(): Promise<string> {
    const server = createServer((request, response) => {
      void this.#serve(request).then(
        (answer) => {
          if (answer === undefined) request.socket.destroy();
          else
            response
              .writeHead(200, { "content-type": "application/x-amz-json-1.0" })
              .end(JSON.stringify(answer));
        },
        (error: unknown) => {
          const { message, status } = error instanceof Refusal ? error : new Refusal("InternalFailure", 500);
          const code = message === "QueueDoesNotExist" ? "AWS.SimpleQueueService.NonExistentQueue" : message;
          response.writeHead(status, {
            "content-type": "application/x-amz-json-1.0",
            "x-amzn-query-error": `${code};Sender`,
          });
          response.end(JSON.stringify({ __type: `com.amazonaws.sqs#${message}`, message }));
        },
      );
    });
    this.#server = server;
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return (this.#origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  }

  async close(): Promise<void> {
    for (const wake of this.#waiting) wake();
    this.#server?.closeAllConnections();
    await new Promise((resolve) => this.#server?.close(resolve));
  }

  /** Breaks all connections. */
  cut(): void {
    this.#server?.closeAllConnections();
  }

  /** @returns the queue's URL */
  createQueue(name: string, redrive?: Queue["redrive"]): string {
    this.#queues.set(name, { name, messages: new Map(), redrive });
    return `${this.#origin}/${ACCOUNT}/${name}`;
  }

  messagesIn(name: string): readonly Kept[] {
    return [...(this.#queues.get(name)?.messages.values() ?? [])];
  }

  async #serve(request: IncomingMessage): Promise<object | undefined> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const action = String(request.headers["x-amz-target"]).replace("AmazonSQS.", "");
    const body = JSON.parse(Buffer.concat(chunks).toString() || "{}") as Record<string, unknown>;
    const entries = (body["Entries"] as Entry[] | undefined) ?? [];
    this.calls.push(entries.length > 0 ? `${action} ${entries.length}` : action);
    const fault = this.fault(action);
    if (fault === "hang-up") return undefined;
    if (fault !== undefined) throw new Refusal(fault, fault === "ServiceUnavailable" ? 503 : 400);
    if (!String(request.headers.authorization).includes(`Credential=${this.accessKeyId}/`)) {
      throw new Refusal("InvalidClientTokenId", 403);
    }
    if (entries.length > 10) throw new Refusal("TooManyEntriesInBatchRequest");
    if (new Set(entries.map(({ Id }) => Id)).size < entries.length)
      throw new Refusal("BatchEntryIdsNotDistinct");
    if (action === "GetQueueUrl")
      return { QueueUrl: `${this.#origin}/${ACCOUNT}/${String(body["QueueName"])}` };
    const queue = this.#queues.get(String(body["QueueUrl"]).split("/").at(-1) ?? "");
    if (queue === undefined) throw new Refusal("QueueDoesNotExist");
    switch (action) {
      case "GetQueueAttributes":
        return this.#attributes(queue);
      case "SendMessage":
        return this.#send(queue, body);
      case "ReceiveMessage":
        return this.#receive(queue, body, request);
      case "DeleteMessageBatch":
        return this.#batch(queue, entries, (message) => queue.messages.delete(message.MessageId));
      case "ChangeMessageVisibilityBatch":
        return this.#batch(queue, entries, (message, { VisibilityTimeout = 0 }) => {
          message.visibleAt = systemClock.monotonic() + VisibilityTimeout * 1_000;
          this.#wakeAll();
        });
      default:
        throw new Refusal("InvalidAction");
    }
  }

  #attributes({ redrive }: Queue): object {
    if (redrive === undefined) return {};
    const deadLetterTargetArn = `arn:aws:sqs:us-east-1:${ACCOUNT}:${redrive.to}`;
    const { maxReceiveCount } = redrive;
    return { Attributes: { RedrivePolicy: JSON.stringify({ deadLetterTargetArn, maxReceiveCount }) } };
  }

  #send(queue: Queue, body: Record<string, unknown>): object {
    const Body = body["MessageBody"] as string;
    const MessageAttributes = (body["MessageAttributes"] ?? {}) as Record<string, Attribute>;
    const size = Buffer.byteLength(Body) + Buffer.byteLength(JSON.stringify(MessageAttributes));
    if (size > MAX_MESSAGE_BYTES) throw new Refusal("InvalidParameterValue");
    if (!TEXT.test(Body)) throw new Refusal("InvalidMessageContents");
    if (Object.keys(MessageAttributes).length > 10) throw new Refusal("InvalidParameterValue");
    const MessageId = randomUUID();
    const fresh = { receives: 0, receipt: undefined, visibleAt: 0, sentAt: systemClock.now() };
    queue.messages.set(MessageId, { ...fresh, MessageId, Body, MessageAttributes });
    this.#wakeAll();
    return { MessageId, MD5OfMessageBody: md5(Body) };
  }

  async #receive(queue: Queue, body: Record<string, unknown>, request: IncomingMessage): Promise<object> {
    const deadline = systemClock.monotonic() + Number(body["WaitTimeSeconds"] ?? 0) * 1_000;
    const most = Number(body["MaxNumberOfMessages"] ?? 1);
    for (;;) {
      const Messages = request.socket.destroyed
        ? []
        : this.#take(queue, most, Number(body["VisibilityTimeout"] ?? 30));
      if (Messages.length > 0 || systemClock.monotonic() >= deadline || request.socket.destroyed)
        return { Messages };
      await this.#change(deadline);
    }
  }

  /** Until something is sent or may have become visible. */
  async #change(deadline: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const wake = () => {
        cancel();
        this.#waiting.delete(wake);
        resolve();
      };
      const cancel = systemClock.setTimer(wake, Math.min(50, deadline - systemClock.monotonic()));
      this.#waiting.add(wake);
    });
  }

  #wakeAll(): void {
    for (const wake of this.#waiting) wake();
  }

  #take(queue: Queue, most: number, visibilityS: number): object[] {
    const now = systemClock.monotonic();
    const taken: object[] = [];
    for (const message of queue.messages.values()) {
      if (taken.length === most) break;
      if (message.visibleAt > now) continue;
      if (queue.redrive !== undefined && message.receives >= queue.redrive.maxReceiveCount) {
        queue.messages.delete(message.MessageId);
        this.#queues.get(queue.redrive.to)?.messages.set(message.MessageId, message);
        continue;
      }
      message.receives += 1;
      message.receipt = randomUUID();
      message.visibleAt = now + visibilityS * 1_000;
      const { Body, MessageAttributes, MessageId, receipt } = message;
      taken.push({
        Body,
        MessageId,
        ReceiptHandle: receipt,
        MD5OfBody: md5(Body),
        ...(Object.keys(MessageAttributes).length > 0 ? { MessageAttributes } : undefined),
        Attributes: { ApproximateReceiveCount: `${message.receives}`, SentTimestamp: `${message.sentAt}` },
      });
    }
    return taken;
  }

  #batch(queue: Queue, entries: readonly Entry[], obey: (message: Kept, entry: Entry) => unknown): object {
    const Successful: { Id: string }[] = [];
    const Failed: { Id: string; Code: string; SenderFault: boolean }[] = [];
    for (const entry of entries) {
      const message = [...queue.messages.values()].find(({ receipt }) => receipt === entry.ReceiptHandle);
      const code = message === undefined ? "ReceiptHandleIsInvalid" : this.entryFault(message.Body);
      if (message === undefined || code !== undefined)
        Failed.push({ Id: entry.Id, Code: code ?? "", SenderFault: true });
      else {
        obey(message, entry);
        Successful.push({ Id: entry.Id });
      }
    }
    return { Successful, Failed };
  }
}

function md5(text: string): string {
  return createHash("md5").update(text).digest("hex");
}
