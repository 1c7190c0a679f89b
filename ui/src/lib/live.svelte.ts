// A run that the page follows. Its events are gathered and applied once a frame, so that a flood of tokens costs one
// drawing and not thousands.

import { api } from "./api";
import type { Numbered } from "./events";
import { apply, hasEnded, NOTHING, type Run, thinking } from "./run";
import { follow } from "./stream";

export class Live {
  run = $state.raw<Run>(NOTHING);
  lost = $state(false); // the connection is gone and is being made again
  fault = $state("");
  #waiting: Numbered[] = [];
  #frame = 0;
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
      this.fault = fault instanceof Error ? fault.message : String(fault);
    }
  }

  async #hear(after: number): Promise<void> {
    const lost = (wait: number): void => {
      this.lost = wait > 0;
    };
    for await (const told of follow(api.eventsOf(this.id), after, this.#end.signal, lost)) {
      this.#waiting.push(told);
      this.#frame ||= schedule(() => this.#draw());
    }
    this.#draw();
  }

  #draw(): void {
    this.#frame = 0;
    this.run = apply(this.run, this.#waiting);
    this.#waiting = [];
  }
}

/** Before the next drawing; where the page is hidden and nothing is drawn, soon all the same. */
function schedule(work: () => void): number {
  if (document.hidden) return window.setTimeout(work, 200);
  return requestAnimationFrame(work);
}
