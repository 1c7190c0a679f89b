import { expect, test } from "vitest";

import type { Numbered, RunEvent } from "../src/lib/events";
import { apply, hasEnded, helping, NOTHING, spent, thinking, turnsOf } from "../src/lib/run";

const usage = { calls: 1, input_tokens: 10, output_tokens: 3, cost_usd: 0.5 };
const told = { run_id: "r", at: 0 };
const thought = (agent: string, round: number, answer: string): RunEvent => ({
  ...told,
  at: round + 1,
  type: "turn_ended",
  turn: {
    type: "thought", agent, round, text: `It is ${answer}.`, answer, confidence: 1, usage, finish: "stop", seconds: 1, recalled: false,
  },
});
const token = (agent: string, round: number, text: string, restart = false): RunEvent => ({
  ...told, type: "token", agent, round, text, restart,
});

const STORY: Numbered[] = (
  [
    { ...told, type: "run_started", question: { text: "?" }, kind: "number", topology: "memory", hears: { a: ["a", "b"], b: ["a", "b"] }, max_rounds: 1 },
    { ...told, type: "turn_started", agent: "a", round: 0, reads: [] },
    { ...told, type: "turn_started", agent: "b", round: 0, reads: [] },
    token("a", 0, "It "),
    token("b", 0, "wrong"),
    token("a", 0, "is "),
    token("b", 0, "It is", true),
    thought("a", 0, "7"),
    token("b", 0, " 8"),
    thought("b", 0, "8"),
    { ...told, type: "turn_started", agent: "a", round: 1, reads: ["b"] },
    token("a", 1, "Still"),
    { ...told, type: "turn_ended", turn: { type: "silence", agent: "a", round: 1, reason: "timeout", detail: "", usage, seconds: 2 } },
    { ...told, type: "stopped", stop: { rule: "rounds", round: 1, detail: "" } },
    { ...told, type: "vote_started", method: "auto", voters: ["a", "b"] },
    { type: "ended", status: "completed", error: null },
  ] satisfies RunEvent[]
).map((event, at) => ({ number: at + 1, event }));

const WHOLE = apply(NOTHING, STORY);

test("a story told twice comes to the same state", () => {
  expect(apply(apply(NOTHING, STORY), STORY)).toEqual(WHOLE);
});

test("from any cut, told again from any point before it, it comes to the same state", () => {
  for (let cut = 0; cut <= STORY.length; cut++) {
    for (let from = 0; from <= cut; from++) {
      expect(apply(apply(NOTHING, STORY.slice(0, cut)), STORY.slice(from))).toEqual(WHOLE);
    }
  }
});

test("who comes late, when the pieces of ended turns are told no more, sees the same", () => {
  const late = STORY.filter(({ event }) => event.type !== "token" || event.round === 1);
  expect(apply(NOTHING, late)).toEqual(WHOLE);
});

test("in one go or one by one is the same", () => {
  expect(STORY.reduce((run, one) => apply(run, [one]), NOTHING)).toEqual(WHOLE);
});

test("a restart forgets what was heard of the turn", () => {
  const run = apply(NOTHING, STORY.slice(0, 7));
  expect(turnsOf(run, "b").map(({ text }) => text)).toEqual(["It is"]);
  expect(thinking(run).map(({ agent }) => agent)).toEqual(["a", "b"]);
});

test("nothing that was said is changed in place", () => {
  const before = apply(NOTHING, STORY.slice(0, 5));
  const copy = structuredClone(before);
  apply(before, STORY);
  expect(before).toEqual(copy);
});

test("a silent turn keeps what was written, and unknown prices stay unknown", () => {
  expect(turnsOf(WHOLE, "a")[1]).toMatchObject({ text: "Still", end: { type: "silence" } });
  expect(spent(turnsOf(WHOLE, "a"))).toMatchObject({ calls: 2, tokens: 26, usd: 1 });
  const free = apply(NOTHING, [{ number: 1, event: thought("c", 0, "1") }]);
  const unpriced = structuredClone(free);
  if (unpriced.rounds[0]?.[0]?.end) unpriced.rounds[0][0].end.usage.cost_usd = null;
  expect(spent(turnsOf(unpriced, "c")).usd).toBeNull();
  expect(hasEnded(WHOLE)).toBe(true);
});

test("one drawing of a run under way takes one ended turn at most, and all of them come to the same", () => {
  expect(helping(NOTHING, STORY)).toEqual(STORY);
  let run = apply(NOTHING, STORY.slice(0, 3));
  for (let left: readonly Numbered[] = STORY.slice(3); left.length; ) {
    const now = helping(run, left);
    expect(now.filter(({ event }) => event.type === "turn_ended").length).toBeLessThanOrEqual(1);
    run = apply(run, now);
    left = left.slice(now.length);
  }
  expect(run).toEqual(WHOLE);
});
