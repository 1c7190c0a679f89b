// What the page has open: where it is, the conversation on view, the runs it follows. Components call its methods.

import { api, ApiError, type AskedQuestion, type Catalogue, type Conversation, type ConversationSummary } from "./api";
import { Live } from "./live.svelte";
import { DEFAULTS, fromQuery, type Options, remember, remembered, toQuery, wanted } from "./options";
import { hasEnded } from "./run";
import { wrong } from "./sentences";
import { type Chosen, leadingTo, path, type Step, turnTo } from "./tree";

export type View = "ask" | "conversation" | "batches" | "models";

class App {
  view = $state<View>("ask");
  conversation = $state.raw<Conversation | null>(null);
  chosen = $state.raw<Chosen>({});
  onView = $state<string | null>(null); // the run whose exchange is shown
  compared = $state.raw<string[]>([]);
  history = $state.raw<ConversationSummary[]>([]);
  moreHistory = $state(false);
  search = $state("");
  catalogue = $state.raw<Catalogue | null>(null);
  options = $state<Options>({ ...DEFAULTS });
  draft = $state("");
  fault = $state("");
  busy = $state(false); // a question is on its way to the server
  begun = $state(""); // the run that was begun last on this page
  lives = $state<Record<string, Live>>({});

  readonly steps: Step[] = $derived(this.conversation ? path(this.conversation.asked, this.chosen) : []);
  readonly live: Live | null = $derived(this.onView ? (this.lives[this.onView] ?? null) : null);

  async open(): Promise<void> {
    this.options = remembered();
    window.addEventListener("hashchange", () => void this.tried(() => this.#route()));
    await this.tried(async () => {
      this.catalogue = await api.catalogue();
      await Promise.all([this.refresh(), this.#route()]);
    });
  }

  /** Do it; what goes wrong is shown. */
  async tried(work: () => Promise<unknown>): Promise<void> {
    this.fault = "";
    try {
      await work();
    } catch (fault) {
      this.fault = wrong(fault);
    }
  }

  async refresh(more = false): Promise<void> {
    const wantedNow = this.search;
    const found = await api.conversations(wantedNow, more ? this.history.at(-1)?.id : "");
    if (wantedNow !== this.search) return; // an answer to what is no longer sought
    this.history = more ? [...this.history, ...found.data] : found.data;
    this.moreHistory = found.has_more ?? false;
  }

  async ask(text: string, gold: string, choices: Record<string, string>): Promise<void> {
    const question: AskedQuestion = { text, ...(Object.keys(choices).length && { kind: "choice", choices }) };
    await this.#begin({ parent: this.steps.at(-1)?.run ?? null, question, gold });
  }

  /** Another question in the place of this one: a branch beside it. */
  async askInstead({ asked }: Step, text: string): Promise<void> {
    const { kind, choices } = asked.question;
    const question: AskedQuestion = { text, ...(kind && { kind }), ...(choices && { choices }) };
    await this.#begin({ parent: asked.parent, question, gold: asked.gold });
  }

  /** The same question once more; with a topology, to compare the two. */
  async askAgain({ asked, run }: Step, topology: string | null = null): Promise<void> {
    const options = topology ? { ...this.options, topology } : this.options;
    const begun = await this.#begin({ asked: asked.id }, options);
    if (topology && run && begun) this.compared = [run, begun];
  }

  async #begin(
    what: { asked: string } | { parent: string | null; question: AskedQuestion; gold: string },
    options: Options = this.options,
  ): Promise<string | null> {
    if (this.busy || !this.catalogue) return null;
    this.busy = true;
    let begun: string | null = null;
    const council = wanted(options, this.catalogue);
    await this.tried(async () => {
      const id = (this.conversation ?? (await api.newConversation())).id;
      const { run, conversation } = await api.begin(id, { ...what, council, seed: Math.floor(Math.random() * 2 ** 31) });
      this.conversation = conversation;
      this.compared = [];
      this.begun = run;
      this.show(run);
      this.view = "conversation";
      history.replaceState(null, "", `#/c/${id}`);
      begun = run;
      await this.refresh();
    });
    this.busy = false;
    return begun;
  }

  /** Bring a run into view, in the thread and in the exchange. */
  show(run: string): void {
    if (this.conversation) this.chosen = leadingTo(this.conversation.asked, run, this.chosen);
    this.onView = run;
    this.#followSteps();
  }

  turn(step: Step, id: string): void {
    const other = this.conversation?.asked.find((asked) => asked.id === id);
    if (!other) return;
    this.chosen = turnTo(other, this.chosen);
    this.onView = this.steps.find(({ asked }) => asked.id === id)?.run ?? step.run;
    this.#followSteps();
  }

  follow(run: string): Live {
    return (this.lives[run] ??= new Live(run));
  }

  async stop(): Promise<void> {
    const { live } = this;
    if (live && !hasEnded(live.run)) await this.tried(() => api.stop(live.id));
  }

  async rename(id: string, title: string): Promise<void> {
    await this.tried(async () => {
      const renamed = await api.rename(id, title);
      if (this.conversation?.id === id) this.conversation = renamed;
      await this.refresh();
    });
  }

  async forget(id: string): Promise<void> {
    await this.tried(async () => {
      await api.forget(id);
      if (this.conversation?.id === id) this.begin();
      await this.refresh();
    });
  }

  /** An empty page for a new question. */
  begin(): void {
    location.hash = "#/";
    this.#leave();
    this.view = "ask";
  }

  choose(options: Options): void {
    this.options = options;
    remember(options);
  }

  /** The address of these options, to share. */
  link(): string {
    const query = toQuery(this.options);
    if (this.draft) query.set("q", this.draft);
    return `${location.origin}${location.pathname}#/?${query}`;
  }

  async #route(): Promise<void> {
    const [where = "", search = ""] = location.hash.replace(/^#\/?/, "").split("?");
    const [kind, id] = where.split("/").map(decodeURIComponent);
    const query = new URLSearchParams(search);
    if (kind === "c" && id) return this.#openConversation(id, query.get("run"));
    if (kind === "r" && id) return this.#openRun(id);
    if (kind === "batches" || kind === "models") {
      this.view = kind;
      return;
    }
    if ([...query].length) {
      this.choose(fromQuery(query));
      this.draft = query.get("q") ?? "";
    }
    if (this.view !== "ask") this.#leave();
    this.view = "ask";
  }

  async #openConversation(id: string, run: string | null): Promise<void> {
    if (this.conversation?.id !== id) {
      this.#leave();
      try {
        this.conversation = await api.conversation(id);
      } catch (fault) {
        if (fault instanceof ApiError && fault.status === 404) history.replaceState(null, "", "#/");
        throw fault;
      }
    }
    this.view = "conversation";
    if (run) this.show(run);
    else if (!this.onView) this.onView = this.steps.at(-1)?.run ?? null;
    this.#followSteps();
  }

  /** A run by itself, whoever began it. */
  #openRun(id: string): void {
    this.#leave();
    this.view = "conversation";
    this.onView = id;
    this.#followSteps();
  }

  #followSteps(): void {
    for (const { run } of this.steps) if (run) this.follow(run);
    if (this.onView) this.follow(this.onView);
  }

  #leave(): void {
    for (const live of Object.values(this.lives)) live.close();
    this.lives = {};
    this.conversation = null;
    this.chosen = {};
    this.onView = null;
    this.compared = [];
  }
}

export const app = new App();
