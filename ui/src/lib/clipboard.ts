// Copying, also where the page came over plain HTTP from another machine: browsers keep `navigator.clipboard` from it.

export async function copy(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const before = document.activeElement;
  const box = Object.assign(document.createElement("textarea"), { value: text, className: "unseen" });
  document.body.append(box);
  box.select();
  document.execCommand("copy");
  box.remove();
  if (before instanceof HTMLElement) before.focus();
}
