// What the server tells of mixtures, of jobs that make models and of fused sets; the Models view loads it when opened.

import { json, list, request } from "./api";
import { blocks } from "./stream";

export interface Mixture {
  id: string;
  method: string | null;
  base: string | null;
  experts: string[] | null;
  active: number | null;
  parameters: number | null;
  active_parameters: number | null;
  agents: string[];
  fault: string;
}

/** `taken`[token][expert] is a mean over layers; `layers_…`[layer][token][k] are the layers' own, best first. */
export interface Explanation {
  experts: string[];
  tokens: string[];
  taken: number[][];
  by_expert: number[];
  load: { shares: number[]; entropy: number; max_violation: number }[];
  layers_experts: number[][][];
  layers_weights: number[][][];
}

export interface Job {
  id: string;
  kind: string;
  action: string;
  model: string;
  status: string;
  progress: Record<string, unknown> | null;
  error: string;
  created_at: number;
}

export interface FusionMethods {
  data: { id: string; about: string; vocabularies: "one" | "any"; options: Record<string, unknown> }[];
  members: { id: string; model: string; on_disk: boolean; chat: boolean | null }[];
  sets: { id: string; method: string; members: string[]; weights: number[] }[];
}

export interface TopToken {
  token: string;
  logprob: number;
}

/** A token of the fused distribution. `won`: the members whose own favourite it was. */
export interface FusedToken extends TopToken {
  top: TopToken[];
  members: { name: string; logprob: number; share: number; top: TopToken[] }[];
  won: string[];
}

export interface FusionUsed {
  method: string;
  members: string[];
  weights: number[];
}

/** A piece of what a set writes. */
export interface FusionNews {
  text: string;
  trace: FusedToken[];
  notes: string[];
  finish: string | null;
  used: FusionUsed | null;
}

const JOBS = ["v1/grafts", "v1/moe/builds"] as const;
const ENDED = ["completed", "failed", "cancelled"];

/** Where the job's kind is asked for. */
const placeOf = ({ kind, id }: Job): string => `${kind === "graft" ? JOBS[0] : JOBS[1]}/${encodeURIComponent(id)}`;

export const ended = ({ status }: Job): boolean => ENDED.includes(status);

/** Newest first, of every kind. */
export const jobs = async (): Promise<Job[]> =>
  (await Promise.all(JOBS.map((path) => list<Job>(path)))).flat().sort((a, b) => b.created_at - a.created_at);

export const stopJob = (job: Job): Promise<Job> => json(placeOf(job), "DELETE");

/** The job now and whenever it has changed, until it has ended. */
export async function* followJob(job: Job, signal: AbortSignal): AsyncGenerator<Job> {
  const { body } = await request(`${placeOf(job)}/events`, { signal, headers: { accept: "text/event-stream" } });
  if (!body) return;
  for await (const { data } of blocks(body)) yield JSON.parse(data) as Job;
}

export const mixtures = (): Promise<Mixture[]> => list("v1/moe");

export const explain = (name: string, text: string): Promise<Explanation> =>
  json(`v1/moe/${encodeURIComponent(name)}/explain`, "POST", { text });

export const fusionMethods = (): Promise<FusionMethods> => json("v1/fusion/methods");

/** What a set writes, as it comes. */
export async function* fuse(chat: boolean, body: Record<string, unknown>, signal: AbortSignal): AsyncGenerator<FusionNews> {
  const response = await request(`v1/fusion/${chat ? "chat/completions" : "completions"}`, {
    method: "POST",
    signal,
    body: JSON.stringify({ ...body, stream: true }),
    headers: { "content-type": "application/json", accept: "text/event-stream" },
  });
  if (!response.body) return;
  for await (const { data } of blocks(response.body)) {
    if (data === "[DONE]") return;
    const told = JSON.parse(data) as {
      choices?: {
        text?: string;
        delta?: { content?: string };
        trace?: FusedToken[];
        notes?: string[];
        finish_reason: string | null;
      }[];
      fusion?: FusionUsed;
      error?: { message: string };
    };
    if (told.error) throw new Error(told.error.message);
    for (const { text, delta, trace = [], notes = [], finish_reason: finish } of told.choices ?? [])
      yield { text: text ?? delta?.content ?? "", trace, notes, finish, used: told.fusion ?? null };
  }
}
