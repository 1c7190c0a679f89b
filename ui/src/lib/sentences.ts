// What the server says in English sentences, in the reader's language. A sentence that is not known here, and what a
// provider answered, stays as it is.

import { ApiError } from "./api";
import type { Fault } from "./events";
import { look } from "./look.svelte";
import { BY_CODE, BY_SENTENCE, BY_WORD } from "./sentences.zh";

/** A sentence of the vote, of a stop rule or of a note: scoring/ and topologies/ write them. */
export function said(sentence: string): string {
  if (look.language === "en") return sentence;
  for (const [pattern, chinese] of BY_SENTENCE) {
    const found = pattern.exec(sentence);
    if (found) return chinese.replace(/\$(\d)/g, (_, at: string) => said(found[Number(at)] ?? ""));
  }
  return word(sentence);
}

/** A word that the server uses as a name: a state, a stop rule, why somebody was silent. */
export const word = (name: string): string => (look.language === "zh" ? (BY_WORD[name] ?? name) : name.replaceAll("_", " "));

/** What went wrong: what its code means, and the server's own sentence as the detail. */
export function wrong(fault: unknown): string {
  const message = fault instanceof Error ? fault.message : String(fault);
  return fault instanceof ApiError ? faultOf({ message, code: fault.code }) : offline(fault) || message;
}

export function faultOf({ message, code }: Fault): string {
  const chinese = look.language === "zh" && code ? BY_CODE[code] : undefined;
  return chinese ? `${chinese}（${message}）` : message;
}

/** A fetch that reached nobody: browsers say "Failed to fetch" and no more. */
const offline = (fault: unknown): string => {
  if (!(fault instanceof TypeError && /fetch|network/i.test(fault.message))) return "";
  return look.language === "zh" ? "服务器没有应答：它停了，或者连接断了。" : "The server does not answer: it was stopped, or the connection is gone.";
};
