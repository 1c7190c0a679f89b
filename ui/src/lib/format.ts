// Numbers and times as they are shown.

export const seconds = (value: number): string =>
  value < 60 ? `${value.toFixed(value < 10 ? 1 : 0)} s` : `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;

export const count = (value: number, language: string): string => value.toLocaleString(language);

export const percent = (share: number): string => `${Math.round(share * 100)}%`;

export const money = (usd: number): string => (usd === 0 ? "$0" : `$${usd < 0.01 ? usd.toPrecision(2) : usd.toFixed(2)}`);

export const megabytes = (bytes: number, language: string): string =>
  `${Math.round(bytes / 1e6).toLocaleString(language)} MB`;

/** On one line, at most `width` characters. */
export function oneLine(text: string, width: number): string {
  const flat = text.replace(/\s+/g, " ").trim();
  return flat.length <= width ? flat : `${flat.slice(0, width - 1)}…`;
}

export function save(blob: Blob, name: string, ending: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${name.replace(/[^\p{L}\p{N}_-]+/gu, "_").slice(0, 60) || "eot"}.${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
