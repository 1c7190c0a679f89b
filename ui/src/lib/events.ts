// The events of a run as the server tells them: eot/events.py and eot/types.py, field by field.

export type Kind = "number" | "choice" | "yesno" | "open" | "json";

export interface Question {
  text: string;
  kind?: Kind | null;
  choices?: Record<string, string>;
  context?: string;
}

export interface Usage {
  calls: number;
  input_tokens: number;
  output_tokens: number;
  cost_usd: number | null; // null: nobody knows the price
}

interface Turned {
  agent: string;
  round: number;
  usage: Usage;
  seconds: number;
}

export interface Thought extends Turned {
  type: "thought";
  text: string;
  answer: string | null;
  confidence: number | null;
  finish: "stop" | "length";
  recalled: boolean;
}

export interface Silence extends Turned {
  type: "silence";
  reason: string;
  detail: string;
}

export interface Stop {
  rule: string;
  round: number;
  detail: string;
}

export interface Support {
  answer: string | null;
  agents: string[];
  share: number;
}

export interface Verdict {
  answer: string | null;
  text: string;
  agent: string;
  how: string;
  support: number;
  margin: number;
  tie: boolean;
  supports: Support[];
  abstained: string[];
  voters: string[];
  signals: string[];
  scores: Record<string, number[][]>;
  shadow: { answer: string | null; support: number; same: boolean | null } | null;
  lost: string[];
  notes: string[];
  degraded: boolean;
  changed: boolean | null;
}

export interface Fault {
  message: string;
  code?: string | null;
}

interface Told {
  run_id: string;
  at: number; // seconds since the run began
}

export type RunEvent =
  | (Told & {
      type: "run_started";
      question: Question;
      kind: Kind;
      topology: string;
      hears: Record<string, string[]>;
      max_rounds: number;
    })
  | (Told & { type: "turn_started"; agent: string; round: number; reads: string[] })
  | (Told & { type: "token"; agent: string; round: number; text: string; restart: boolean })
  | (Told & { type: "turn_ended"; turn: Thought | Silence })
  | (Told & { type: "stopped"; stop: Stop })
  | (Told & { type: "vote_started"; method: string; voters: string[] })
  | (Told & { type: "verdict_reached"; verdict: Verdict })
  | { type: "ended"; status: "completed" | "failed" | "stopped"; error?: Fault | null };

/** An event and its number in the run's log. Numbers only grow, and may leave gaps. */
export interface Numbered {
  number: number;
  event: RunEvent;
}
