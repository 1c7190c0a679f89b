// A file of questions as the lines of a batch. Three shapes are read: OpenAI's batch lines, which pass as they are;
// JSON lines of {"text"}, with "id", "kind" and "choices" if there are; CSV with the same columns.

import type { CouncilChoice } from "./api";

export interface Prepared {
  lines: string[];
  endpoint: string;
  ours: boolean; // rows of questions, put to the council that is chosen on the page
  faults: { line: number; why: string }[];
}

type Row = Record<string, unknown>;

export function prepare(name: string, content: string, council: string | CouncilChoice): Prepared {
  const text = content.replace(/^\uFEFF/, "");
  const rows = /\.csv$/i.test(name) ? fromCsv(text) : fromLines(text);
  const prepared: Prepared = { lines: [], endpoint: "/v1/runs", ours: true, faults: [] };
  for (const { line, row, why } of rows) {
    if (!row) prepared.faults.push({ line, why });
    else if (typeof row.url === "string" && row.body) {
      [prepared.endpoint, prepared.ours] = [row.url, false];
      prepared.lines.push(JSON.stringify(row));
    } else if (typeof row.text === "string" && row.text.trim()) prepared.lines.push(asLine(row, line, council));
    else prepared.faults.push({ line, why: 'no "text"' });
  }
  return prepared;
}

function asLine(row: Row, line: number, council: string | CouncilChoice): string {
  const question: Row = { text: row.text };
  if (typeof row.kind === "string" && row.kind) question.kind = row.kind;
  if (row.choices && typeof row.choices === "object") question.choices = row.choices;
  const id = row.id === undefined || row.id === "" ? `line-${line}` : String(row.id);
  return JSON.stringify({ custom_id: id, method: "POST", url: "/v1/runs", body: { question, council } });
}

interface Read {
  line: number;
  row: Row | null;
  why: string;
}

function fromLines(text: string): Read[] {
  return text.split(/\r?\n/).flatMap((each, at): Read[] => {
    if (!each.trim()) return [];
    try {
      const row: unknown = JSON.parse(each);
      const fits = typeof row === "object" && row !== null && !Array.isArray(row);
      return [{ line: at + 1, row: fits ? (row as Row) : null, why: "not a JSON object" }];
    } catch (fault) {
      return [{ line: at + 1, row: null, why: (fault as Error).message }];
    }
  });
}

function fromCsv(text: string): Read[] {
  const [head, ...rest] = cells(text);
  if (!head?.cells.includes("text")) return [{ line: 1, row: null, why: 'no column "text"' }];
  return rest.map(({ line, cells: values }) => ({
    line,
    row: Object.fromEntries(head.cells.map((column, at) => [column, values[at] ?? ""])),
    why: "",
  }));
}

/** The rows of RFC 4180: a cell in quotes may hold commas, line ends and doubled quotes. */
function cells(text: string): { line: number; cells: string[] }[] {
  const rows: { line: number; cells: string[] }[] = [];
  let row: string[] = [];
  let [line, begun] = [1, 1];
  for (const [whole, quoted, bare = "", end = ""] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|$)/g)) {
    row.push(quoted?.replaceAll('""', '"') ?? bare);
    line += whole.split("\n").length - 1;
    if (end === ",") continue;
    if (row.some((cell) => cell.trim())) rows.push({ line: begun, cells: row.map((cell) => cell.trim()) });
    [row, begun] = [[], line];
    if (!end) break;
  }
  return rows;
}
