import { expect, test } from "vitest";

import type { Asked } from "../src/lib/api";
import { leadingTo, path, turnTo } from "../src/lib/tree";

const asked = (id: string, parent: string | null, ...runs: string[]): Asked => ({
  id, parent, question: { text: id }, gold: "", runs,
});
// q1 was asked twice (r1, r2); q2 follows r1, q3 follows r2; q4 was asked instead of q1.
const TREE = [asked("q1", null, "r1", "r2"), asked("q2", "r1", "r3"), asked("q3", "r2", "r4"), asked("q4", null, "r5")];
const shown = (chosen: Record<string, string>): string =>
  path(TREE, chosen).map((step) => `${step.asked.id}:${step.run}`).join(" ");

test("the newest branch is on view until another is chosen", () => {
  expect(shown({})).toBe("q4:r5");
});

test("a run's branch leads to it, and what follows it comes along", () => {
  expect(shown(leadingTo(TREE, "r3", {}))).toBe("q1:r1 q2:r3");
  expect(shown(leadingTo(TREE, "r2", {}))).toBe("q1:r2 q3:r4");
});

test("turning to a sibling leaves what was chosen elsewhere", () => {
  const first = TREE[0] as Asked;
  expect(shown(turnTo(first, leadingTo(TREE, "r1", {})))).toBe("q1:r1 q2:r3");
  expect(path(TREE, {})[0]?.siblings).toEqual(["q1", "q4"]);
});

test("a run that is not in the tree changes nothing", () => {
  expect(leadingTo(TREE, "r9", {})).toEqual({});
});
