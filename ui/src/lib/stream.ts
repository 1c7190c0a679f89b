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
        if (told.number <= after) continue;
        after = told.number;
        yield told;
        if (told.event.type === "ended") return;
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

/** The events in a stream of bytes. What a cut connection left half said is dropped: it will be told again. */
export async function* events(body: ReadableStream<Uint8Array>): AsyncGenerator<Numbered> {
  const reader = body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (rest + value.replaceAll("\r\n", "\n")).split("\n\n");
      rest = blocks.pop() ?? "";
      for (const block of blocks) {
        const told = parse(block);
        if (told) yield told;
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

function parse(block: string): Numbered | null {
  let number = 0;
  const data: string[] = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("id:")) number = Number(line.slice(3));
    if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
  }
  return data.length && number > 0 ? { number, event: JSON.parse(data.join("\n")) as RunEvent } : null;
}
