import { expect, test } from "vitest";

import { prepare } from "../src/lib/rows";

const bodies = (lines: string[]): unknown[] => lines.map((line) => JSON.parse(line));

test("rows of questions become lines of a batch of runs", () => {
  const { lines, endpoint, faults } = prepare("q.jsonl", '\uFEFF{"id": 5, "text": "a?"}\n\n{"text": "b?", "kind": "open"}\n', "small");
  expect(endpoint).toBe("/v1/runs");
  expect(faults).toEqual([]);
  expect(bodies(lines)).toEqual([
    { custom_id: "5", method: "POST", url: "/v1/runs", body: { question: { text: "a?" }, council: "small" } },
    { custom_id: "line-3", method: "POST", url: "/v1/runs", body: { question: { text: "b?", kind: "open" }, council: "small" } },
  ]);
});

test("a CSV's cells may hold commas, quotes and line ends", () => {
  const { lines, faults } = prepare("q.CSV", 'id,text\r\nx,"one, ""two""\nthree?"\r\ny,plain?\r\n', "default");
  expect(faults).toEqual([]);
  expect((bodies(lines) as { body: { question: { text: string } } }[]).map(({ body }) => body.question.text)).toEqual([
    'one, "two"\nthree?',
    "plain?",
  ]);
});

test("what is wrong is said with its line", () => {
  expect(prepare("q.jsonl", '{"text": "a?"}\n[]\n{"id": 1}\n{', "default").faults.map(({ line }) => line)).toEqual([2, 3, 4]);
  expect(prepare("q.csv", "id,question\n1,a", "default").faults).toEqual([{ line: 1, why: 'no column "text"' }]);
});

test("OpenAI's lines pass as they are", () => {
  const line = '{"custom_id":"1","method":"POST","url":"/v1/chat/completions","body":{"model":"eot/default"}}';
  expect(prepare("b.jsonl", line, "default")).toMatchObject({ lines: [line], endpoint: "/v1/chat/completions" });
});
