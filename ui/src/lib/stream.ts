// Server-sent events over fetch (an EventSource can send no key), joined up again after the connection was lost.

import { ApiError, request } from "./api";
import type { Numbered, RunEvent } from "./events";

const FIRST_WAIT = 300;
const LONGEST_WAIT = 5000;

/** Every event of a run past number `after`, each once, until the one called `ended`; `lost` hears of each wait. */
export async function* follow(
  path: string,
  after: number,
  signal: AbortSignal,
  lost: (milliseconds: number) => void,
): AsyncGenerator<Numbered> {
  let wait = FIRST_WAIT;
  while (!signal.aborted) {
    try {
      const response = await request(path, {
        signal,
        headers: { accept: "text/event-stream", "last-event-id": String(after) },
      });
      if (response.status === 204 || !response.body) return;
      for await (const told of events(response.body)) {
        wait = FIRST_WAIT;
        lost(0);
        const over = told.event.type === "ended"; // whatever its number: a server that died counts anew
        if (told.number <= after && !over) continue;
        after = told.number;
        yield told;
        if (over) return;
      }
    } catch (fault) {
      if (signal.aborted) return;
      if (fault instanceof ApiError && fault.status < 500 && fault.status !== 409 && fault.status !== 429) throw fault;
    }
    lost(wait);
    await new Promise((wake) => setTimeout(wake, wait));
    wait = Math.min(wait * 2, LONGEST_WAIT);
  }
}

/** The events of a run in a stream of bytes. */
export async function* events(body: ReadableStream<Uint8Array>): AsyncGenerator<Numbered> {
  for await (const { number, data } of blocks(body)) {
    if (number > 0) yield { number, event: JSON.parse(data) as RunEvent };
  }
}

export interface Block {
  name: string;
  number: number; // 0 where it has none
  data: string;
}

/** Server-sent events as they come. What a cut connection left half said is dropped: it will be told again. */
export async function* blocks(body: ReadableStream<Uint8Array>): AsyncGenerator<Block> {
  const reader = body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const whole = (rest + value).split("\n\n");
      rest = whole.pop() ?? "";
      for (const block of whole) {
        const read = parse(block);
        if (read.data) yield read;
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

function parse(block: string): Block {
  const read: Block = { name: "", number: 0, data: "" };
  for (const line of block.split("\n")) {
    const [field = "", value = ""] = line.split(/: ?(.*)/s);
    if (field === "event") read.name = value;
    if (field === "id") read.number = Number(value);
    if (field === "data") read.data += value;
  }
  return read;
}
