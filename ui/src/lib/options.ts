// What is chosen before asking. Only what differs from the council as it is configured; it goes into links and is
// remembered in this browser.

import type { Catalogue, Council, CouncilChoice } from "./api";

export interface Options {
  council: string;
  topology: string | null;
  agents: string[] | null;
  rounds: number | null;
  stop: string[] | null;
  vote: string | null;
  everyone: boolean; // ask every agent in round 0, whatever the first ones say
  calls: number | null;
  tokens: number | null;
  usd: number | null;
  seconds: number | null;
}

export const DEFAULTS: Options = {
  council: "default",
  topology: null,
  agents: null,
  rounds: null,
  stop: null,
  vote: null,
  everyone: false,
  calls: null,
  tokens: null,
  usd: null,
  seconds: null,
};

export const CAPS = ["calls", "tokens", "usd", "seconds"] as const;
export const VOTES = ["auto", "majority", "confidence", "emb_a_s", "word_a_f", "char_a_f", "sum"] as const;
export const STOPS = ["unanimous", "majority", "stable"] as const;
const MEMORY = "eot.options";

export function toQuery(options: Options): URLSearchParams {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(options)) {
    if (value === null || value === false || (name === "council" && value === DEFAULTS.council)) continue;
    query.set(name, Array.isArray(value) ? value.join(",") : String(value));
  }
  return query;
}

export function fromQuery(query: URLSearchParams): Options {
  const words = (name: string): string[] | null => query.get(name)?.split(",").filter(Boolean) ?? null;
  const number = (name: string): number | null => {
    const text = query.get(name);
    const value = text ? Number(text) : NaN;
    return Number.isFinite(value) && value >= 0 ? value : null;
  };
  return {
    council: query.get("council") || DEFAULTS.council,
    topology: query.get("topology"),
    agents: words("agents"),
    rounds: number("rounds"),
    stop: words("stop"),
    vote: query.get("vote"),
    everyone: query.get("everyone") === "true",
    calls: number("calls"),
    tokens: number("tokens"),
    usd: number("usd"),
    seconds: number("seconds"),
  };
}

export const remember = (options: Options): void => localStorage.setItem(MEMORY, toQuery(options).toString());
export const remembered = (): Options => fromQuery(new URLSearchParams(localStorage.getItem(MEMORY) ?? ""));

export const councilOf = (options: Options, catalogue: Catalogue): Council | undefined =>
  (catalogue.councils.find(({ id }) => id === options.council) ?? catalogue.councils[0])?.council;

/** The choice in a few words, as `summary` of the words takes it. */
export function inShort(options: Options, catalogue: Catalogue): Record<string, string | number> | null {
  const base = councilOf(options, catalogue);
  return (
    base && {
      council: options.council,
      agents: (options.agents ?? base.agents).length,
      topology: options.topology ?? base.topology,
      rounds: options.rounds ?? base.rounds,
    }
  ) ?? null;
}

/** What the server is asked for: a council's name, or that council with changes. */
export function wanted(options: Options, catalogue: Catalogue): string | CouncilChoice {
  const base = councilOf(options, catalogue);
  const changes = [...toQuery(options).keys()].filter((name) => name !== "council");
  if (!base || !changes.length) return options.council;
  const caps = CAPS.map((cap) => [cap, options[cap] ?? base.budget[cap] ?? null] as const);
  return {
    agents: options.agents ?? base.agents,
    topology: options.topology ?? base.topology,
    rounds: options.rounds ?? base.rounds,
    stop: options.stop ?? base.stop,
    vote: options.vote ?? base.vote,
    gate: base.gate,
    lazy: base.lazy && !options.everyone,
    keep_first: base.keep_first,
    mode: base.mode,
    budget: Object.fromEntries(caps.filter(([, value]) => value !== null)),
  };
}
