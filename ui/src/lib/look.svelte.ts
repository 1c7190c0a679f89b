// Language and theme, remembered in this browser.

import { CHINESE, ENGLISH, type Word } from "./words";

export type Language = "en" | "zh";
export type Theme = "system" | "light" | "dark";

const LANGUAGES: readonly Language[] = ["en", "zh"];
const THEMES: readonly Theme[] = ["system", "light", "dark"];

const kept = <T extends string>(name: string, known: readonly T[], otherwise: T): T =>
  known.find((each) => each === localStorage.getItem(name)) ?? otherwise;

class Look {
  language = $state(kept<Language>("eot.language", LANGUAGES, navigator.language.startsWith("zh") ? "zh" : "en"));
  theme = $state(kept<Theme>("eot.theme", THEMES, "system"));

  constructor() {
    this.#show();
  }

  speak(language: Language): void {
    this.language = language;
    localStorage.setItem("eot.language", language);
    this.#show();
  }

  nextTheme(): void {
    this.theme = THEMES[(THEMES.indexOf(this.theme) + 1) % THEMES.length] ?? "system";
    localStorage.setItem("eot.theme", this.theme);
    this.#show();
  }

  #show(): void {
    document.documentElement.lang = this.language === "zh" ? "zh-CN" : "en";
    document.documentElement.dataset.theme = this.theme;
  }
}

export const look = new Look();

/** The word in the reader's language. */
export function t(word: Word, filled: Record<string, string | number> = {}): string {
  const text = (look.language === "zh" ? CHINESE : ENGLISH)[word];
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => (name in filled ? String(filled[name]) : whole));
}

/** Names, joined as the language joins them. */
export const names = (list: readonly string[]): string => list.join(look.language === "zh" ? "、" : ", ");
