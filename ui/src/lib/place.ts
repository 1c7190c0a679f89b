// Where the seats of a topology are drawn, in a square of side 1, and which lines run between them.

export interface Point {
  x: number;
  y: number;
}

export interface Edge {
  from: string; // whose message travels
  to: string; // who reads it
}

const MOST_IN_A_ROW = 6;

const circle = (count: number, at: number): Point => {
  const angle = (2 * Math.PI * at) / count - Math.PI / 2;
  return { x: 0.5 + 0.37 * Math.cos(angle), y: 0.5 + 0.37 * Math.sin(angle) };
};

export function places(topology: string, seats: readonly string[]): Record<string, Point> {
  const count = seats.length;
  const place = (at: number): Point => {
    if (count === 1) return { x: 0.5, y: 0.5 };
    if (count === 2) return { x: at ? 0.75 : 0.25, y: 0.5 };
    if (topology === "report") return star(at, count);
    if (topology === "debate") return inTree(at, count);
    return circle(count, at);
  };
  return spread(seats.map((seat, at) => [seat, place(at)]));
}

/** The hub above a row of the others; where they are many, in their middle. */
function star(at: number, count: number): Point {
  if (count - 1 > MOST_IN_A_ROW) return at ? circle(count - 1, at - 1) : { x: 0.5, y: 0.5 };
  return at ? { x: (at - 0.5) / (count - 1), y: 1 } : { x: 0.5, y: 0 };
}

/** As high as there is room. */
function spread(placed: [string, Point][]): Record<string, Point> {
  const heights = placed.map(([, { y }]) => y);
  const [top, bottom] = [Math.min(...heights), Math.max(...heights)];
  const scaled = ({ y }: Point): number => (top === bottom ? 0.5 : 0.1 + (0.8 * (y - top)) / (bottom - top));
  return Object.fromEntries(placed.map(([seat, point]) => [seat, { x: point.x, y: scaled(point) }]));
}

/** The binary tree in heap order: the root on top, a row a level. */
function inTree(at: number, count: number): Point {
  const level = Math.floor(Math.log2(at + 1));
  const levels = Math.floor(Math.log2(count)) + 1;
  const first = 2 ** level - 1;
  return { x: (at - first + 0.5) / 2 ** level, y: level / levels };
}

export const edges = (hears: Readonly<Record<string, readonly string[]>>): Edge[] =>
  Object.entries(hears).flatMap(([to, heard]) => heard.filter((from) => from !== to).map((from) => ({ from, to })));
