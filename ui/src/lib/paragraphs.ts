// A text that grows, in blocks of markdown that stand already and the rest that is still being written.

export interface Paragraphs {
  whole: string[];
  rest: string;
}

const FENCE = /^ {0,3}(`{3,}|~{3,})/;
const INDENTED = /^[ \t]/;

/**
 * Cut at blank lines, but for those within a fence and those before an indented line, which goes on with a list. What
 * was cut off once stays as it is when the text grows, so that each block has to be set only once.
 */
export function paragraphs(text: string): Paragraphs {
  const lines = text.split("\n");
  const whole: string[] = [];
  let [from, fence, blank] = [0, "", false];
  lines.forEach((line, at) => {
    if (at === lines.length - 1 && !line.trim()) return; // whether it is indented is not known yet
    if (blank && !fence && line.trim() && !INDENTED.test(line)) {
      whole.push(lines.slice(from, at).join("\n"));
      from = at;
    }
    const mark = FENCE.exec(line)?.[1] ?? "";
    if (mark && !fence) fence = mark;
    else if (mark.startsWith(fence) && line.trim() === mark) fence = "";
    blank = !line.trim();
  });
  return { whole, rest: lines.slice(from).join("\n") };
}
