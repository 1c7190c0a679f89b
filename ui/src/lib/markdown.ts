// A model's markdown as a piece of document. Nothing in it is trusted: only a few elements and attributes come through,
// no image, nothing is fetched, a link shows where it leads.

import DOMPurify from "dompurify";
import { Marked, type Tokens } from "marked";

const LONGEST = 100_000; // characters; what is longer is shown as it is

const ELEMENTS =
  "p br hr strong em del code pre ul ol li blockquote h3 h4 h5 h6 table thead tbody tr th td a sub sup".split(" ");
const MATH = /^(?:\$\$([^]+?)\$\$|\\\[([^]+?)\\\]|\\\(([^]+?)\\\)|\$(?!\s)([^\n$]+?)(?<![\s\\])\$(?!\d))/;

interface MathToken extends Tokens.Generic {
  tex: string;
  display: boolean;
}

const escape = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");

const marked = new Marked({
  gfm: true,
  renderer: {
    html: ({ text }) => escape(text),
    image: ({ text, href }) => escape(`[${text || "image"}: ${href}]`),
    heading({ tokens, depth }) {
      const level = Math.min(depth + 2, 6);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`;
    },
    checkbox: ({ checked }) => (checked ? "[x] " : "[ ] "),
  },
  extensions: [
    {
      name: "math",
      level: "inline",
      start: (text) => {
        const at = text.search(/\$|\\[([]/);
        return at < 0 ? undefined : at;
      },
      tokenizer(text): MathToken | undefined {
        const found = MATH.exec(text);
        if (!found) return undefined;
        const [raw, dollars, brackets, round, inline] = found;
        const tex = dollars ?? brackets ?? round ?? inline ?? "";
        return { type: "math", raw, tex, display: (dollars ?? brackets) !== undefined };
      },
      renderer: (token) => {
        const { tex, display } = token as MathToken;
        return `<code class="${display ? "math-display" : "math-inline"}">${escape(tex)}</code>`;
      },
    },
  ],
});

const purify = DOMPurify(window);
purify.addHook("afterSanitizeAttributes", (node) => {
  if (node.nodeName !== "CODE") node.removeAttribute("class");
  if (node.nodeName !== "A") return;
  const address = node.getAttribute("href");
  if (!address || !/^(https?|mailto):/i.test(address)) {
    node.removeAttribute("href");
    return;
  }
  node.setAttribute("rel", "noopener noreferrer nofollow");
  node.setAttribute("target", "_blank");
  if (node.textContent?.trim() !== address) node.append(` (${address})`);
});

export function render(text: string): DocumentFragment {
  if (text.length > LONGEST) {
    const plain = document.createDocumentFragment();
    plain.append(Object.assign(document.createElement("pre"), { textContent: text }));
    return plain;
  }
  return purify.sanitize(marked.parse(text, { async: false }), {
    ALLOWED_TAGS: ELEMENTS,
    ALLOWED_ATTR: ["href", "class", "rel", "target", "align", "start"],
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    RETURN_DOM_FRAGMENT: true,
  });
}

/** Set formulas and colour code, each with a library that is fetched when the first one is seen. */
export async function adorn(root: HTMLElement): Promise<void> {
  const formulas = [...root.querySelectorAll<HTMLElement>("code.math-display, code.math-inline")];
  const blocks = [...root.querySelectorAll<HTMLElement>("pre > code[class^=language-]")];
  if (formulas.length) {
    const { set } = await import("./formulas");
    formulas.forEach(set);
  }
  if (blocks.length) {
    const { colour } = await import("./colours");
    blocks.forEach(colour);
  }
}
