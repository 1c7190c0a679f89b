// Formulas, as MathML: no style attributes, which the content security policy forbids, and readable aloud.

import katex from "katex";

/** Put the formula in the place of its source; what cannot be read stays as it was written. */
export function set(source: HTMLElement): void {
  const display = source.className === "math-display";
  const place = document.createElement("span");
  place.className = source.className;
  try {
    katex.render(source.textContent ?? "", place, {
      displayMode: display,
      output: "mathml",
      throwOnError: true,
      strict: "ignore",
      trust: false,
      maxExpand: 100,
      maxSize: 20,
    });
  } catch {
    return;
  }
  source.replaceWith(place);
}
