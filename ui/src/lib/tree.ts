// A conversation is a tree: a question follows the answer of one run, and each of its runs is a branch of its own.

import type { Asked } from "./api";

/** Which run of a question, and which question after a run, the reader chose last. */
export type Chosen = Readonly<Record<string, string>>;

export interface Step {
  asked: Asked;
  siblings: string[]; // questions after the same answer, this one among them
  run: string | null;
}

const ROOT = "";
const after = (run: string | null): string => `after:${run ?? ROOT}`;

/** The branch on view, from the first question on: at each fork what was chosen, else the newest. */
export function path(asked: readonly Asked[], chosen: Chosen): Step[] {
  const steps: Step[] = [];
  for (let parent: string | null = null; ; ) {
    const siblings = asked.filter((each) => each.parent === parent);
    const one = siblings.find((each) => each.id === chosen[after(parent)]) ?? siblings.at(-1);
    if (!one) return steps;
    const wanted = chosen[one.id];
    const run: string | null = (wanted && one.runs.includes(wanted) ? wanted : one.runs.at(-1)) ?? null;
    steps.push({ asked: one, siblings: siblings.map((each) => each.id), run });
    if (run === null) return steps;
    parent = run;
  }
}

/** The choices that bring this run into view. */
export function leadingTo(asked: readonly Asked[], run: string, chosen: Chosen): Chosen {
  const found: Record<string, string> = { ...chosen };
  for (let at: string | null = run; at !== null; ) {
    const one: Asked | undefined = asked.find((each) => each.runs.includes(at as string));
    if (!one) break;
    found[one.id] = at;
    found[after(one.parent)] = one.id;
    at = one.parent;
  }
  return found;
}

/** The choices with another question in the place of its sibling. */
export const turnTo = (one: Asked, chosen: Chosen): Chosen => ({ ...chosen, [after(one.parent)]: one.id });
