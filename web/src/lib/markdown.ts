// A model's answer as HTML: Markdown without raw HTML, cleaned once more, and never a request to somewhere else.
import DOMPurify from "dompurify";
import MarkdownIt from "markdown-it";
import { highlight } from "./highlight";

const markdown = new MarkdownIt({ html: false, linkify: false, breaks: true, highlight });
// Pictures would load from wherever a model says.
markdown.disable("image");

const cleaner = DOMPurify(window);
cleaner.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A") {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer nofollow");
  }
});

export function render(text: string): string {
  return cleaner.sanitize(markdown.render(text), {
    ALLOWED_TAGS: ["p", "br", "strong", "em", "s", "code", "pre", "a", "ul", "ol", "li", "blockquote", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td", "span"],
    ALLOWED_ATTR: ["href", "class", "start"],
    ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  });
}
