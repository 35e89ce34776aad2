// What two texts do not share, word by word, so that a reader sees at once where a prediction leaves its answer.

export type Piece = { text: string; differs: boolean };

/** The most pairs of words that are compared; beyond it everything between common beginning and end counts as different. */
const MAX_PAIRS = 400_000;

/** Words, numbers, runs of white space, and every other sign for itself. */
const split = (text: string): string[] => text.match(/[\p{L}\p{M}\p{N}_]+|\s+|[^\p{L}\p{M}\p{N}_\s]/gu) ?? [];

/** Both texts in pieces that are common to both or stand in one alone. */
export function difference(left: string, right: string): { left: Piece[]; right: Piece[] } {
  const a = split(left);
  const b = split(right);
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
  const shared = common(a.slice(start, a.length - end), b.slice(start, b.length - end));
  const mark = (words: string[], inner: Set<number>) =>
    joined(words.map((text, i) => ({ text, differs: i >= start && i < words.length - end && !inner.has(i - start) })));
  return { left: mark(a, shared.left), right: mark(b, shared.right) };
}

/** Positions of a longest common sequence of words. */
function common(a: string[], b: string[]): { left: Set<number>; right: Set<number> } {
  const found = { left: new Set<number>(), right: new Set<number>() };
  if (a.length * b.length > MAX_PAIRS) return found;
  const width = b.length + 1;
  const longest = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--)
    for (let k = b.length - 1; k >= 0; k--)
      longest[i * width + k] =
        a[i] === b[k]
          ? 1 + (longest[(i + 1) * width + k + 1] ?? 0)
          : Math.max(longest[(i + 1) * width + k] ?? 0, longest[i * width + k + 1] ?? 0);
  for (let i = 0, k = 0; i < a.length && k < b.length; ) {
    if (a[i] === b[k]) {
      found.left.add(i++);
      found.right.add(k++);
    } else if ((longest[(i + 1) * width + k] ?? 0) >= (longest[i * width + k + 1] ?? 0)) i++;
    else k++;
  }
  return found;
}

/** Neighbours of one kind as one piece; white space between two different words belongs to them. */
function joined(words: Piece[]): Piece[] {
  const pieces: Piece[] = [];
  words.forEach((word, i) => {
    const inside = /^\s+$/.test(word.text) && words[i - 1]?.differs && words[i + 1]?.differs;
    const differs = word.differs || !!inside;
    const last = pieces.at(-1);
    if (last && last.differs === differs) last.text += word.text;
    else pieces.push({ text: word.text, differs });
  });
  return pieces;
}
