import { expect, test } from "vitest";

import { paragraphs } from "../src/lib/paragraphs";

const TEXT = "# One\n\nTwo\nlines\n\n1. a\n\n   more of a\n\n```py\nx = 1\n\ny = 2\n```\n\n~~~~\n~~~\n\n~~~~\nend\n\n\nlast";

test("it is cut at blank lines, but neither in a fence nor before what goes on with a list", () => {
  const { whole, rest } = paragraphs(TEXT);
  expect(whole.map((block) => block.trim())).toEqual([
    "# One",
    "Two\nlines",
    "1. a\n\n   more of a",
    "```py\nx = 1\n\ny = 2\n```",
    "~~~~\n~~~\n\n~~~~\nend",
  ]);
  expect(rest).toBe("last");
});

test("nothing is lost, and what stood once stands as the text grows", () => {
  let before: string[] = [];
  for (let length = 0; length <= TEXT.length; length++) {
    const { whole, rest } = paragraphs(TEXT.slice(0, length));
    expect([...whole, rest].join("\n")).toBe(TEXT.slice(0, length));
    expect(whole.slice(0, before.length)).toEqual(before);
    before = whole;
  }
});
