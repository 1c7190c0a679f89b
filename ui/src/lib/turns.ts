// Work that may wait is done piece by piece, so that many texts that end at once do not hold the page up.

const waiting: (() => void)[] = [];
let scheduled = false;

/** Do it soon, after what came before it; the function that is returned calls it off. */
export function inTurn(work: () => void): () => void {
  waiting.push(work);
  schedule();
  return () => {
    const at = waiting.indexOf(work);
    if (at >= 0) waiting.splice(at, 1);
  };
}

function schedule(): void {
  if (scheduled || !waiting.length) return;
  scheduled = true;
  setTimeout(() => {
    scheduled = false;
    waiting.shift()?.();
    schedule();
  }, 0);
}
