/**
 * Reads TypeScript as far as the architecture rules need it: which modules a file imports, and which words its code
 * contains once comments and the contents of literals are out of the way.
 */

export interface Import {
  readonly specifier: string;
  /** `import type` and `export type`: erased, so it loads nothing. */
  readonly typeOnly: boolean;
}

/** The text with blanks for comments and for what literals contain; code inside `${}` stays, and so does every offset. */
export function codeOnly(text: string): string {
  return scan(text);
}

const names = String.raw`(?:[\w$]+\s*,\s*)?(?:\{[^{}]*\}|\*(?:\s*as\s+[\w$]+)?|[\w$]+)\s*`;
const importForms = [
  new RegExp(
    String.raw`(?<![.\w$])(?:import|export)\b(?<type>\s+type(?=\s*[{*\w$])(?!\s+from\b))?\s*${names}\bfrom\s*(?<quoted>["']\s*["'])`,
    "dg",
  ),
  /(?<![.\w$])import\s*(?<quoted>["']\s*["'])/dg,
  /(?<![.\w$])(?:import|require)\s*\(\s*(?<quoted>["'`]\s*["'`])/dg,
];

export function importsOf(text: string): Import[] {
  const code = codeOnly(text);
  return importForms
    .flatMap((form) => [...code.matchAll(form)])
    .toSorted((a, b) => a.index - b.index)
    .map((match) => {
      const [from, to] = match.indices?.groups?.["quoted"] ?? [0, 0];
      return { specifier: text.slice(from + 1, to - 1), typeOnly: match.groups?.["type"] !== undefined };
    });
}

/** A `/` after one of these begins a regular expression; after anything else it divides. */
const beforeRegExp =
  /(?:^|[(,=:[!&|?{};+\-*%<>~^]|\b(?:return|typeof|case|in|of|do|else|void|yield|await))\s*$/;

function scan(text: string): string {
  let out = "";
  let at = 0;
  /** For each open `${`, how many braces are open inside it. */
  const templates: number[] = [];

  const blank = (end: number) => {
    out += text.slice(at, end).replace(/[^\n]/g, " ");
    at = end;
  };
  const code = () => {
    out += text[at];
    at += 1;
  };
  /** From after a backtick or a closing `}` to the next `${` or the closing backtick. */
  const template = () => {
    let end = at;
    while (end < text.length && text[end] !== "`" && !text.startsWith("${", end))
      end += text[end] === "\\" ? 2 : 1;
    blank(end);
    if (text[at] === "`") return code();
    if (at < text.length) {
      code();
      code();
      templates.push(0);
    }
  };

  while (at < text.length) {
    const char = text[at];
    if (text.startsWith("//", at)) {
      blank(endOf(text.indexOf("\n", at), text));
    } else if (text.startsWith("/*", at)) {
      blank(endOf(text.indexOf("*/", at + 2), text, 2));
    } else if (char === '"' || char === "'") {
      code();
      blank(closing(text, at, char));
      code();
    } else if (char === "`") {
      code();
      template();
    } else if (char === "/" && beforeRegExp.test(out.trimEnd().slice(-20))) {
      blank(closingSlash(text, at + 1) + 1);
    } else {
      const open = templates.at(-1);
      if (open !== undefined && char === "{") templates[templates.length - 1] = open + 1;
      if (open !== undefined && char === "}") {
        if (open === 0) {
          templates.pop();
          code();
          template();
          continue;
        }
        templates[templates.length - 1] = open - 1;
      }
      code();
    }
  }
  return out;
}

function endOf(index: number, text: string, length = 0): number {
  return index < 0 ? text.length : index + length;
}

function closing(text: string, from: number, quote: string): number {
  let at = from;
  while (at < text.length && text[at] !== quote && text[at] !== "\n") at += text[at] === "\\" ? 2 : 1;
  return at;
}

function closingSlash(text: string, from: number): number {
  let at = from;
  let inClass = false;
  while (at < text.length && text[at] !== "\n" && (inClass || text[at] !== "/")) {
    if (text[at] === "[") inClass = true;
    if (text[at] === "]") inClass = false;
    at += text[at] === "\\" ? 2 : 1;
  }
  return at;
}
