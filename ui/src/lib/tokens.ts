// Tokens as they are shown, and whose each one is: an expert's, a member's.

import type { Explanation, FusedToken, Job } from "./workshop";

/** Told apart with any kind of colour sight (Okabe and Ito), darker where the page is dark; more come round again. */
const HUES = [
  "light-dark(#0072b2, #3f8fd0)",
  "light-dark(#d55e00, #d0692a)",
  "light-dark(#009e73, #23966f)",
  "light-dark(#b8568f, #b8608f)",
  "light-dark(#a58600, #a48a1c)",
  "light-dark(#4aa3dd, #2f7ea8)",
  "light-dark(#6a51a3, #8470c0)",
  "light-dark(#7a6a58, #8c7c69)",
];

export const hueOf = (place: number): string => HUES[place % HUES.length] ?? "";

const MARKS: Readonly<Record<string, string>> = { "\n": "↵", "\r": "␍", "\t": "⇥", " ": "␣" };

/** In a running text: line ends are marked, and break the line but for the last, which whoever shows it does. */
export const inText = (token: string): string => token.replace(/\r?\n/g, "↵\n").replace(/\n$/, "") || "∅";

/** By itself: nothing of it is blank. */
export const alone = (token: string): string => token.replace(/[\n\r\t ]/g, (blank) => MARKS[blank] ?? blank) || "∅";

/** A token of a text that several share: whose it is (null: nobody's alone), how strongly, and that in words. */
export interface Owned {
  token: string;
  owner: number | "fused" | null;
  strength: number;
  label: string;
}

export interface Part {
  expert: number;
  weight: number;
}

/** The experts of a token in a layer, or in the mean over all (null), those with most first. */
export function expertsOf(told: Explanation, token: number, layer: number | null): Part[] {
  const parts =
    layer === null
      ? (told.taken[token] ?? []).map((weight, expert) => ({ expert, weight }))
      : (told.layers_experts[layer]?.[token] ?? []).map((expert, k) => ({
          expert,
          weight: told.layers_weights[layer]?.[token]?.[k] ?? 0,
        }));
  return parts.filter(({ weight }) => weight > 0).sort((a, b) => b.weight - a.weight);
}

/** Shares of the assignments, entropy in nats and violation of a layer, or their means over all (null). */
export function loadOf(told: Explanation, layer: number | null): Explanation["load"][number] {
  const found = layer === null ? undefined : told.load[layer];
  if (found) return found;
  const mean = (values: number[]): number => values.reduce((sum, value) => sum + value, 0) / (values.length || 1);
  return {
    shares: told.by_expert,
    entropy: mean(told.load.map(({ entropy }) => entropy)),
    max_violation: mean(told.load.map(({ max_violation }) => max_violation)),
  };
}

export type Winner = "all" | "none" | number;

/** Whose favourite the token was: everybody's, nobody's, or that of the member of these with the greatest share. */
export function winnerOf({ members, won }: FusedToken): Winner {
  const places = members.flatMap(({ name }, place) => (won.includes(name) ? [place] : []));
  if (!places.length) return "none";
  if (places.length === members.length && members.length > 1) return "all";
  const share = (place: number): number => members[place]?.share ?? 0;
  return places.reduce((best, place) => (share(place) > share(best) ? place : best));
}

export interface Far {
  share: number | null; // of the work; null where the job does not say how much there is
  stage: string;
  steps: string;
  loss: number | null;
}

/** How far a job is, by what its kind tells of it. */
export function farOf({ progress }: Job): Far {
  const number = (name: string): number | null => {
    const value = progress?.[name];
    return typeof value === "number" && Number.isFinite(value) ? value : null;
  };
  const [step, steps] = [number("step"), number("steps")];
  const stage = progress?.stage ?? progress?.run;
  return {
    share: step !== null && steps ? Math.min(1, step / steps) : null,
    stage: typeof stage === "string" ? stage : "",
    steps: step === null ? "" : steps ? `${step} / ${steps}` : String(step),
    loss: number("loss") ?? number("eval_loss"),
  };
}
