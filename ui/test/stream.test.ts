/// <reference types="node" />
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

import { expect, test, vi } from "vitest";

import type { Numbered } from "../src/lib/events";
import { fromQuery, toQuery } from "../src/lib/options";
import { edges, places } from "../src/lib/place";
import { events, follow } from "../src/lib/stream";

async function heard(...chunks: Uint8Array[]): Promise<Numbered[]> {
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(chunk);
      controller.close();
    },
  });
  const found: Numbered[] = [];
  for await (const told of events(body)) found.push(told);
  return found;
}

const bytes = new TextEncoder().encode(
  'event: token\nid: 3\ndata: {"type":"token","text":"时间"}\n\n: ping\n\nevent: ping\ndata: {"type":"ping"}\n\nid: 4\ndata: {"type":"ended"}\n\nid: 5\ndata: {"type":"hal',
);

test("events come whole however the bytes are cut; pings and what was half said are dropped", async () => {
  const whole = await heard(bytes);
  expect(whole.map(({ number }) => number)).toEqual([3, 4]);
  for (let cut = 0; cut < bytes.length; cut++) {
    expect(await heard(bytes.slice(0, cut), bytes.slice(cut))).toEqual(whole);
  }
});

test("options survive the way through a link, and nonsense in a link is nothing", () => {
  const chosen = fromQuery(new URLSearchParams("council=x&agents=a,b&rounds=0&stop=&usd=0.5&everyone=true&calls=-1&tokens=no"));
  expect(chosen).toMatchObject({ council: "x", agents: ["a", "b"], rounds: 0, stop: [], usd: 0.5, everyone: true, calls: null, tokens: null });
  expect(fromQuery(toQuery(chosen))).toEqual(chosen);
});

test("every seat has a place of its own in the picture", () => {
  for (const topology of ["memory", "report", "relay", "debate", "own"]) {
    for (let count = 1; count <= 12; count++) {
      const seats = Array.from({ length: count }, (_, at) => `s${at}`);
      const placed = Object.values(places(topology, seats));
      expect(new Set(placed.map(({ x, y }) => `${x.toFixed(3)} ${y.toFixed(3)}`)).size).toBe(count);
      for (const { x, y } of placed) expect(Math.min(x, y, 1 - x, 1 - y)).toBeGreaterThan(0);
    }
  }
  expect(edges({ a: ["a", "b"], b: ["b"] })).toEqual([{ from: "b", to: "a" }]);
});

test("a stream that is cut goes on from the last event, and ends with the one that says so, however it is numbered", async () => {
  vi.stubGlobal("sessionStorage", { getItem: () => null });
  vi.stubGlobal("localStorage", { getItem: () => null });
  const asked: (string | undefined)[] = [];
  const token = (number: number): string => `id: ${number}\ndata: {"type":"token"}\n\n`;
  const answers = [token(1) + token(2), token(2) + token(3) + "id: 4\nda", "id: 2\ndata: {\"type\":\"ended\"}\n\n"];
  const server = createServer((request, response) => {
    asked.push(request.headers["last-event-id"] as string);
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(answers[asked.length - 1], () => (asked.length < 3 ? response.destroy() : response.end()));
  });
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/events`;
  const found: number[] = [];
  const waits: number[] = [];
  for await (const { number } of follow(url, 0, new AbortController().signal, (wait) => waits.push(wait))) found.push(number);
  server.close();
  expect(found).toEqual([1, 2, 3, 2]);
  expect(asked).toEqual(["0", "2", "3"]);
  expect(waits.filter((wait) => wait > 0)).toHaveLength(2);
});
