// The service's HTTP interface, as far as the page uses it.

import type { Fault, Kind, Question } from "./events";

export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly code: string | null = null,
  ) {
    super(message);
  }
}

const KEY = "eot.key";
let askForKey: () => Promise<void> = () => Promise.reject(new ApiError(401, "a key is needed"));

/** Who asks the user for a key when the server wants one. */
export function whenKeyIsWanted(ask: () => Promise<void>): void {
  askForKey = ask;
}

export const key = {
  read: (): string => sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY) ?? "",
  keep(value: string, onThisDevice: boolean): void {
    key.forget();
    (onThisDevice ? localStorage : sessionStorage).setItem(KEY, value);
  },
  forget(): void {
    sessionStorage.removeItem(KEY);
    localStorage.removeItem(KEY);
  },
};

/** The response, if it is a success; after a 401 the user is asked for a key and the same is sent again. */
export async function request(path: string, init: RequestInit = {}): Promise<Response> {
  for (;;) {
    const headers = new Headers(init.headers);
    if (key.read()) headers.set("authorization", `Bearer ${key.read()}`);
    const response = await fetch(path, { ...init, headers, cache: "no-store", redirect: "error" });
    if (response.ok) return response;
    if (response.status !== 401) throw await faultOf(response);
    await response.body?.cancel();
    await askForKey();
  }
}

async function faultOf(response: Response): Promise<ApiError> {
  const said = (await response.json().catch(() => null)) as { error?: Fault } | null;
  return new ApiError(response.status, said?.error?.message ?? `HTTP ${response.status}`, said?.error?.code ?? null);
}

export async function json<T>(path: string, method = "GET", body?: unknown): Promise<T> {
  const init: RequestInit = { method };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { "content-type": "application/json" };
  }
  return (await (await request(path, init)).json()) as T;
}

export interface Caps {
  calls?: number;
  tokens?: number;
  usd?: number;
  seconds?: number;
}

export interface Council {
  agents: string[];
  topology: string;
  rounds: number;
  stop: string[];
  gate: number;
  lazy: boolean;
  keep_first: boolean;
  vote: string;
  mode: string;
  budget: { [cap in keyof Caps]?: number | null };
}

export interface CouncilChoice extends Partial<Omit<Council, "budget">> {
  budget?: Caps;
}

export interface Catalogue {
  councils: { id: string; council: Council }[];
  agents: {
    id: string;
    model: string;
    where: string;
    input_usd_per_million: number | null;
    output_usd_per_million: number | null;
  }[];
  topologies: { id: string; about: string; fewest_seats: number }[];
}

export interface AskedQuestion {
  text: string;
  kind?: Kind;
  choices?: Record<string, string>;
}

/** A question in a conversation's tree. It follows the answer of the run `parent`; each of `runs` answered it. */
export interface Asked {
  id: string;
  parent: string | null;
  question: Question;
  gold: string;
  runs: string[];
}

export interface ConversationSummary {
  id: string;
  title: string;
  created: number;
  updated: number;
  found?: string; // where the words that were sought stand, with what is around them
}

export interface Conversation extends ConversationSummary {
  asked: Asked[];
}

export interface Begin {
  asked?: string; // the question that is asked again; else a new one:
  parent?: string | null;
  question?: AskedQuestion;
  gold?: string;
  council: string | CouncilChoice;
  seed: number;
}

export interface RunObject {
  id: string;
  status: string;
  title: string;
}

export interface Grade {
  first: boolean | null;
  last: boolean;
  effect: "mended" | "broke" | "nothing" | "unknown";
}

export interface LocalModel {
  id: string;
  bytes: number;
  licence: string;
  terms: string;
  context_tokens: number;
  chat: boolean;
  on_disk: boolean;
  pulling: boolean;
  agents: string[];
}

export interface Batch {
  id: string;
  status: string;
  created_at: number;
  request_counts: { total: number; completed: number; failed: number };
  output_file_id: string | null;
  error_file_id: string | null;
  metadata: Record<string, string> | null;
  errors: { data: { message: string; line: number | null }[] } | null;
}

export interface Estimate {
  requests: number;
  errors: Batch["errors"];
  estimate: { calls_least: number; calls_most: number; usd_most: number | null };
}

interface Listed<T> {
  data: T[];
  has_more?: boolean;
}

export const list = async <T>(path: string): Promise<T[]> => (await json<Listed<T>>(path)).data;
const conversation = (id: string): string => `v1/conversations/${encodeURIComponent(id)}`;
const run = (id: string): string => `v1/runs/${encodeURIComponent(id)}`;

export const api = {
  catalogue: async (): Promise<Catalogue> => {
    const [councils, agents, topologies] = await Promise.all([
      list<Catalogue["councils"][number]>("v1/councils"),
      list<Catalogue["agents"][number]>("v1/agents"),
      list<Catalogue["topologies"][number]>("v1/topologies"),
    ]);
    return { councils, agents, topologies };
  },

  conversations: (q: string, after = ""): Promise<Listed<ConversationSummary>> =>
    json(`v1/conversations?${new URLSearchParams({ limit: "50", ...(q && { q }), ...(after && { after }) })}`),
  newConversation: (): Promise<Conversation> => json("v1/conversations", "POST", {}),
  conversation: (id: string): Promise<Conversation> => json(conversation(id)),
  rename: (id: string, title: string): Promise<Conversation> => json(conversation(id), "PATCH", { title }),
  forget: (id: string): Promise<unknown> => json(conversation(id), "DELETE"),
  begin: (id: string, body: Begin): Promise<{ run: string; conversation: Conversation }> =>
    json(`${conversation(id)}/runs`, "POST", body),
  exported: async (id: string, format: "json" | "markdown"): Promise<Blob> =>
    (await request(`${conversation(id)}/export?format=${format}`)).blob(),

  stop: (id: string): Promise<RunObject> => json(run(id), "DELETE"),
  grade: (id: string, gold: string): Promise<Grade> => json(`${run(id)}/grade`, "POST", { gold }),
  eventsOf: (id: string): string => `${run(id)}/events`,

  localModels: (): Promise<LocalModel[]> => list("v1/local-models"),
  pricedAgents: (): Promise<Catalogue["agents"]> => list("v1/agents?prices=true"),
  pull: (name: string): Promise<Response> => request(`v1/local-models/${encodeURIComponent(name)}/pull`, { method: "POST" }),

  batches: (): Promise<Batch[]> => list("v1/batches"),
  upload: async (file: File): Promise<{ id: string }> => {
    const form = new FormData();
    form.set("purpose", "batch");
    form.set("file", file);
    return (await (await request("v1/files", { method: "POST", body: form })).json()) as { id: string };
  },
  cancel: (id: string): Promise<Batch> => json(`v1/batches/${encodeURIComponent(id)}/cancel`, "POST"),
  content: async (file: string): Promise<Blob> => (await request(`v1/files/${encodeURIComponent(file)}/content`)).blob(),
  estimate: (file: string, endpoint: string): Promise<Estimate> =>
    json("v1/batches/estimate", "POST", { input_file_id: file, endpoint }),
  startBatch: (body: Record<string, unknown>): Promise<Batch> => json("v1/batches", "POST", body),
};
