// What the page knows of a run: a pure function of its events. Told twice, or from any earlier point again, they come
// to the same: an event whose number was seen is passed over.

import type { Fault, Kind, Numbered, Question, RunEvent, Silence, Stop, Thought, Verdict } from "./events";

export type Status = "waiting" | "running" | "voting" | "completed" | "failed" | "stopped";

export interface Turn {
  agent: string;
  round: number;
  reads: string[];
  text: string;
  began: number; // seconds since the run began
  end: Thought | Silence | null; // null while the agent thinks
}

export interface Run {
  seen: number; // the last event's number
  at: number; // the last event's time, in seconds since the run began
  status: Status;
  question: Question | null;
  kind: Kind | null;
  topology: string;
  hears: Record<string, string[]>;
  maxRounds: number;
  rounds: Turn[][]; // by round, in the order in which they began
  stop: Stop | null;
  method: string;
  verdict: Verdict | null;
  fault: Fault | null;
}

export const NOTHING: Run = {
  seen: 0,
  at: 0,
  status: "waiting",
  question: null,
  kind: null,
  topology: "",
  hears: {},
  maxRounds: 0,
  rounds: [],
  stop: null,
  method: "",
  verdict: null,
  fault: null,
};

export function apply(run: Run, told: readonly Numbered[]): Run {
  let next = run;
  for (const { number, event } of told) {
    if (number > next.seen) next = { ...step(next, event), seen: number };
  }
  return next;
}

/**
 * How many of the events one drawing takes: of a run under way, up to the first that ends a turn or brings the verdict.
 * These put whole texts and the vote on the page, and agents that end at once would make one long task of it.
 */
export function helping(run: Run, told: readonly Numbered[]): readonly Numbered[] {
  if (run.status === "waiting") return told; // what was over before is shown at once
  const heavy = told.findIndex(({ event }) => event.type === "turn_ended" || event.type === "verdict_reached");
  return heavy < 0 ? told : told.slice(0, heavy + 1);
}

function step(run: Run, event: RunEvent): Run {
  if (event.type === "ended") return { ...run, status: event.status, fault: event.error ?? null };
  return { ...change(run, event), at: Math.max(run.at, event.at) };
}

function change(run: Run, event: Exclude<RunEvent, { type: "ended" }>): Run {
  switch (event.type) {
    case "run_started":
      return {
        ...run,
        status: "running",
        question: event.question,
        kind: event.kind,
        topology: event.topology,
        hears: event.hears,
        maxRounds: event.max_rounds,
      };
    case "turn_started":
      return turned(run, event.agent, event.round, (turn) => ({ ...turn, reads: event.reads, began: event.at }));
    case "token":
      return turned(run, event.agent, event.round, (turn) => ({
        ...turn,
        text: event.restart ? event.text : turn.text + event.text,
      }));
    case "turn_ended":
      return turned(run, event.turn.agent, event.turn.round, (turn) => ({
        ...turn,
        text: event.turn.type === "thought" ? event.turn.text : turn.text,
        end: event.turn,
      }));
    case "stopped":
      return { ...run, stop: event.stop };
    case "vote_started":
      return { ...run, status: "voting", method: event.method };
    case "verdict_reached":
      return { ...run, verdict: event.verdict };
  }
}

/** The run with one turn changed; a turn that nobody announced is made. */
function turned(run: Run, agent: string, round: number, how: (turn: Turn) => Turn): Run {
  const rounds = [...run.rounds];
  while (rounds.length <= round) rounds.push([]);
  const turns = rounds[round] ?? [];
  const at = turns.findIndex((turn) => turn.agent === agent);
  const old = turns[at] ?? { agent, round, reads: [], text: "", began: run.at, end: null };
  rounds[round] = at < 0 ? [...turns, how(old)] : turns.with(at, how(old));
  return { ...run, rounds };
}

export const hasEnded = (run: Run): boolean => ["completed", "failed", "stopped"].includes(run.status);

export const seats = (run: Run): string[] => Object.keys(run.hears);

/** One agent's turns, oldest first. */
export const turnsOf = (run: Run, agent: string): Turn[] =>
  run.rounds.flatMap((turns) => turns.filter((turn) => turn.agent === agent));

export const thinking = (run: Run): Turn[] =>
  hasEnded(run) ? [] : run.rounds.flatMap((turns) => turns.filter((turn) => turn.end === null));

/** What was spent, on one agent or on all. Null dollars: somebody's price is unknown. */
export function spent(turns: readonly Turn[]): { calls: number; tokens: number; usd: number | null; seconds: number } {
  const sum = { calls: 0, tokens: 0, usd: 0 as number | null, seconds: 0 };
  for (const { end } of turns) {
    if (!end) continue;
    sum.calls += end.usage.calls;
    sum.tokens += end.usage.input_tokens + end.usage.output_tokens;
    sum.usd = sum.usd === null || end.usage.cost_usd === null ? null : sum.usd + end.usage.cost_usd;
    sum.seconds += end.seconds;
  }
  return sum;
}

/** The turn whose text the vote chose: where first answers vote too, it need not be the agent's last. */
export const chosenTurn = (run: Run): Turn | undefined =>
  run.verdict ? turnsOf(run, run.verdict.agent).findLast(({ text }) => text === run.verdict?.text) : undefined;

/** Answers other than the verdict's, the most supported first. */
export const dissent = (verdict: Verdict): Verdict["supports"] =>
  verdict.supports.filter((support) => support.answer !== verdict.answer);
