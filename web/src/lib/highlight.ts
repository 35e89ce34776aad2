// Light colouring of code: comments, texts, numbers, words of the language. No grammar, so it is never badly wrong.

const WORDS =
  "abstract and as assert async await bool break case catch char class const continue def default del do double elif else enum except export extends false False final finally float fn for from function if impl import in int interface is lambda let long loop match mod module mut namespace new nil None not null or package pass private protected pub public raise return self static str string struct super switch this throw trait true True try type typeof undefined union use var void where while with yield select insert update delete create table order by group join on values into limit".split(
    " ",
  );
const KEYWORD = new Set(WORDS);

const TOKEN =
  /(\/\/[^\n]*|#[^\n]*|\/\*[\s\S]*?\*\/|--[^\n]*)|("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`)|(\b\d[\d_]*(?:\.\d+)?(?:e[+-]?\d+)?\b)|([A-Za-z_]\w*)/g;

export function escape(text: string): string {
  return text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c] ?? c);
}

export function highlight(code: string, language = ""): string {
  if (/^(text|plain|txt|markdown|md)$/.test(language)) return escape(code);
  let html = "";
  let end = 0;
  for (const m of code.matchAll(TOKEN)) {
    html += escape(code.slice(end, m.index));
    end = m.index + m[0].length;
    const kind = m[1] ? "comment" : m[2] ? "string" : m[3] ? "number" : KEYWORD.has(m[0]) ? "keyword" : null;
    html += kind ? `<span class="tok-${kind}">${escape(m[0])}</span>` : escape(m[0]);
  }
  return html + escape(code.slice(end));
}

/** YAML of an experiment, line by line: section and field names, values, comments. */
export function highlightYaml(text: string): string {
  return text
    .split("\n")
    .map((line) => {
      const m = /^(\s*(?:- )?)([\w.]+)(:)(.*)$/.exec(line);
      if (/^\s*#/.test(line)) return `<span class="tok-comment">${escape(line)}</span>`;
      if (!m) return escape(line);
      return `${m[1]}<span class="tok-keyword">${escape(m[2] ?? "")}</span>:<span class="tok-string">${escape(m[4] ?? "")}</span>`;
    })
    .join("\n");
}
