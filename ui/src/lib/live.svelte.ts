// A run that the page follows. Its events are gathered and applied some twenty times a second, so that a flood of
// tokens costs a few drawings and not thousands.

import { api } from "./api";
import type { Numbered } from "./events";
import { apply, hasEnded, helping, NOTHING, type Run, thinking } from "./run";
import { wrong } from "./sentences";
import { follow } from "./stream";

const PAUSE = 50; // milliseconds from one drawing to the next: text that flows at 20 a second reads as smooth

export class Live {
  run = $state.raw<Run>(NOTHING);
  lost = $state(false); // the connection is gone and is being made again
  fault = $state("");
  #waiting: Numbered[] = [];
  #scheduled = false;
  #drawn = 0; // when, in milliseconds
  #end = new AbortController();

  constructor(readonly id: string) {
    void this.#follow();
  }

  close(): void {
    this.#end.abort();
  }

  async #follow(): Promise<void> {
    try {
      await this.#hear(0);
      // A server that died and began the run again counts its events anew: then the whole is read once more.
      if (thinking({ ...this.run, status: "running" }).length || !hasEnded(this.run)) {
        this.run = NOTHING;
        await this.#hear(0);
      }
    } catch (fault) {
      this.fault = wrong(fault);
    }
  }

  async #hear(after: number): Promise<void> {
    const lost = (wait: number): void => {
      this.lost = wait > 0;
    };
    for await (const told of follow(api.eventsOf(this.id), after, this.#end.signal, lost)) {
      this.#waiting.push(told);
      this.#schedule(PAUSE);
    }
    while (this.#waiting.length && !this.#end.signal.aborted) await this.#drawing();
  }

  #schedule(pause: number): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setTimeout(() => void this.#drawing(), Math.max(0, this.#drawn + pause - performance.now()));
  }

  async #drawing(): Promise<void> {
    this.#scheduled = true;
    await nextFrame();
    this.#scheduled = false;
    this.#drawn = performance.now();
    const now = helping(this.run, this.#waiting);
    this.#waiting = this.#waiting.slice(now.length);
    this.run = apply(this.run, now);
    if (this.#waiting.length) this.#schedule(0);
  }
}

/** Before the next drawing; where the page is hidden and nothing is drawn, soon all the same. */
const nextFrame = (): Promise<unknown> =>
  new Promise((done) => (document.hidden ? setTimeout(done, 200) : requestAnimationFrame(done)));
