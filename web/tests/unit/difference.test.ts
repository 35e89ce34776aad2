import { describe, expect, it } from "vitest";
import { difference } from "../../src/lib/difference";

const marked = (left: string, right: string) => {
  const pieces = difference(left, right);
  const show = (side: { text: string; differs: boolean }[]) => side.map((p) => (p.differs ? `[${p.text}]` : p.text)).join("");
  return [show(pieces.left), show(pieces.right)];
};

describe("difference", () => {
  it("marks words that stand in one text alone", () => {
    expect(marked("set the alarm to nine", "set an alarm to ten")).toEqual(["set [the] alarm to [nine]", "set [an] alarm to [ten]"]);
    expect(marked('{"room":"attic","state":"closed"}', '{"room":"office","state":"closed"}')).toEqual(['{"room":"[attic]","state":"closed"}', '{"room":"[office]","state":"closed"}']);
    expect(marked("Äpfel kaufen", "Birnen kaufen")).toEqual(["[Äpfel] kaufen", "[Birnen] kaufen"]);
  });

  it("marks nothing in equal texts and everything against an empty one", () => {
    expect(marked("as it is\n", "as it is\n")).toEqual(["as it is\n", "as it is\n"]);
    expect(marked("all of it", "")).toEqual(["[all of it]", ""]);
    expect(marked("", "")).toEqual(["", ""]);
  });

  it("keeps every sign, also of texts too long to compare word by word", () => {
    const a = Array.from({ length: 3000 }, (_, i) => `a${i}`).join(" ");
    const b = Array.from({ length: 3000 }, (_, i) => `b${i}`).join(" ");
    const pieces = difference(`begin ${a} end`, `begin ${b} end`);
    expect(pieces.left.map((p) => p.text).join("")).toBe(`begin ${a} end`);
    expect(pieces.right.map((p) => p.text).join("")).toBe(`begin ${b} end`);
    expect(pieces.left.map((p) => p.differs)).toEqual([false, true, false]);
  });
});
