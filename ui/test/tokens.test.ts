import { expect, test } from "vitest";

import { alone, expertsOf, farOf, inText, loadOf, winnerOf } from "../src/lib/tokens";
import type { Explanation, FusedToken, Job } from "../src/lib/workshop";

const told: Explanation = {
  experts: ["low", "high"],
  tokens: ["the", "\n"],
  taken: [[0.25, 0.75], [1, 0]],
  by_expert: [0.625, 0.375],
  load: [
    { shares: [0.5, 0.5], entropy: 0.2, max_violation: 0 },
    { shares: [0.75, 0.25], entropy: 0.4, max_violation: 0.5 },
  ],
  layers_experts: [[[1, 0], [0, 1]], [[1, 0], [0, 1]]],
  layers_weights: [[[0.9, 0.1], [1, 0]], [[0.6, 0.4], [1, 0]]],
};

test("experts of a token are those of the layer, or the mean over all, the strongest first", () => {
  expect(expertsOf(told, 0, 0)).toEqual([{ expert: 1, weight: 0.9 }, { expert: 0, weight: 0.1 }]);
  expect(expertsOf(told, 0, null)).toEqual([{ expert: 1, weight: 0.75 }, { expert: 0, weight: 0.25 }]);
  expect(expertsOf(told, 1, null)).toEqual([{ expert: 0, weight: 1 }]);
  expect(expertsOf(told, 9, 4)).toEqual([]);
  expect(loadOf(told, 1)).toEqual(told.load[1]);
  expect(loadOf(told, null)).toEqual({ shares: [0.625, 0.375], entropy: expect.closeTo(0.3) as number, max_violation: 0.25 });
});

const fused = (won: string[], shares = [0.4, 0.6]): FusedToken => ({
  token: "x",
  logprob: -1,
  top: [],
  members: ["a", "b"].map((name, at) => ({ name, logprob: -1, share: shares[at] ?? 0, top: [] })),
  won,
});

test("a token is everybody's, nobody's, or a member's", () => {
  expect(winnerOf(fused(["a", "b"]))).toBe("all");
  expect(winnerOf(fused([]))).toBe("none");
  expect(winnerOf(fused(["b"]))).toBe(1);
  const three = fused(["a", "b"]);
  three.members.push({ name: "c", logprob: -9, share: 0, top: [] });
  expect(winnerOf(three)).toBe(1);
});

test("a member alone wins every token that it likes best", () => {
  const one = fused(["a"]);
  one.members.pop();
  expect(winnerOf(one)).toBe(0);
});

test("blanks are seen", () => {
  expect(alone(" a\n\t")).toBe("␣a↵⇥");
  expect(inText("a\r\nb\n")).toBe("a↵\nb↵");
  expect([alone(""), inText("")]).toEqual(["∅", "∅"]);
});

const job = (progress: Job["progress"]): Job => ({
  id: "job_1", kind: "moe", action: "train", model: "m", status: "running", progress, error: "", created_at: 0,
});

test("how far a job is comes of what it tells", () => {
  expect(farOf(job({ stage: "branch low", step: 5, steps: 20, loss: 2.5 }))).toEqual({
    share: 0.25, stage: "branch low", steps: "5 / 20", loss: 2.5,
  });
  expect(farOf(job({ run: "model", step: 5, steps: null, eval_loss: 3 }))).toEqual({
    share: null, stage: "model", steps: "5", loss: 3,
  });
  expect(farOf(job(null))).toEqual({ share: null, stage: "", steps: "", loss: null });
  expect(farOf(job({ stage: 7, step: "x", loss: null }))).toEqual({ share: null, stage: "", steps: "", loss: null });
});
