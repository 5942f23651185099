// Makes dist/ out of www/: what is published on a static host, and the npm package. The wasm modules and www/vendor are there already.
//
//   dist/index.html, llava-chat.js, llava-web.js …   addresses that stay; they point into
//   dist/HASH/                                       one version: bundled modules, styles, the wasm; may be cached for ever. The one
//                                                    before it stays beside it, for tabs that are open and pages in caches
//   dist/sw.js, manifest.webmanifest                 offline use, isolation
//   *.gz, *.br                                       for hosts that send compressed copies
//   dist/llava-web-VERSION.tgz                       the npm package: the modules as they are in www/
//
// usage: node package.mjs [--out FOLDER] [--no-isolation] [--uncompressed]

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

import { build, transformSync } from "esbuild";

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), "../..");
const www = path.join(root, "www");
const args = process.argv.slice(2);
const out = path.resolve(args.includes("--out") ? args[args.indexOf("--out") + 1] : path.join(root, "dist"));
const isolate = !args.includes("--no-isolation");
/** Compressing takes longer than all the rest. */
const compress = !args.includes("--uncompressed");

const manifest = readFileSync(path.join(root, "Cargo.toml"), "utf8");
const version = /^version = "([^"]+)"/m.exec(manifest)?.[1];
/** Where the sources are, as Cargo.toml says or, built on GitHub, there: npm attests where a package was built only if the package names this place. */
const repository = /^repository = "([^"]+)"/m.exec(manifest)?.[1] ?? (process.env.GITHUB_REPOSITORY && `${process.env.GITHUB_SERVER_URL}/${process.env.GITHUB_REPOSITORY}`);
/** Not beside the module: there the compiler would take it for the module, and not look at that. */
const elementTypes = path.join(root, "tools/web/llava-chat.d.ts");
/** Frameworks whose JSX knows only the elements that it is told of; each has an entry that defines the element and has its types. */
const JSX = ["react", "preact", "solid"];
/** Modules that pages import; each gets an address that stays. */
const PUBLIC = ["llava-web.js", "llava-chat.js", "openai.js", "prompt-api.js"];
/** The page's own model and example pictures, which keep their addresses: the model is kept by its hash, see www/models.js. */
const ASIDE = ["models", "examples"];
/** The oldest browsers that have all that the page uses: `Intl.Segmenter`, container queries, `dvh`, the private file system's synchronous handles. */
const TARGET = ["chrome108", "firefox125", "safari16.4"];
const COMPRESSED = /\.(js|css|html|wasm|svg|json|webmanifest|txt)$/;

/** Every file under a folder, relative to it, sorted. @param {string} folder */
function filesIn(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(folder, path.join(entry.parentPath ?? entry.path, entry.name)).replaceAll(path.sep, "/"))
    .sort();
}

const read = (/** @type {string} */ name) => readFileSync(path.join(www, name), "utf8");
const pages = readdirSync(www).filter((name) => name.endsWith(".html"));
const engines = readdirSync(www).filter((name) => /^pkg(-|$)/.test(name));
if (!engines.includes("pkg") || !existsSync(path.join(www, "vendor"))) {
  console.error("package.mjs: www/pkg or www/vendor is missing. Use ./build.sh package.");
  process.exit(1);
}

/** What is loaded by its address: the pages' scripts, the public modules, the workers. */
function entryPoints() {
  const entries = new Set(PUBLIC);
  for (const page of pages) for (const [, name] of read(page).matchAll(/<script type="module" src="([\w./-]+\.js)"/g)) entries.add(name);
  for (const [, file] of read("assets.js").matchAll(/new URL\("\.\/(worker\/[\w./-]+\.js)", import\.meta\.url\)/g)) entries.add(file);
  return [...entries].sort();
}

/**
 * @param {string} folder
 * @returns {Promise<import("esbuild").Metafile>}
 */
async function bundle(folder) {
  const { metafile } = await build({
    entryPoints: entryPoints().map((name) => path.join(www, name)),
    outdir: folder, outbase: www, bundle: true, splitting: true, format: "esm", minify: true, target: TARGET, chunkNames: "[name]-[hash]",
    legalComments: "none", logLevel: "warning", metafile: true,
  });
  for (const name of filesIn(path.join(www, "pages")).filter((name) => name.endsWith(".css")).map((name) => `pages/${name}`)) {
    writeFileSync(path.join(folder, name), transformSync(read(name), { loader: "css", minify: true, target: TARGET }).code);
  }
  for (const engine of engines) {
    for (const name of filesIn(path.join(www, engine)).filter((name) => !/\.d\.ts$|^\./.test(name))) {
      const target = path.join(folder, engine, name);
      mkdirSync(path.dirname(target), { recursive: true });
      if (name.endsWith(".js")) writeFileSync(target, transformSync(readFileSync(path.join(www, engine, name), "utf8"), { minify: true, target: TARGET }).code);
      else cpSync(path.join(www, engine, name), target);
    }
  }
  cpSync(path.join(www, "vendor/LICENSES.txt"), path.join(folder, "LICENSES.txt"));
  return metafile;
}

/**
 * What a page's script needs before it runs, so that the browser asks for all of it at once.
 * @param {import("esbuild").Metafile} metafile
 * @param {string} folder  where it was bundled into
 * @param {string} script
 */
function importsOf(metafile, folder, script) {
  const outputs = new Map(Object.entries(metafile.outputs).map(([name, output]) => [path.resolve(name), output]));
  const found = new Set();
  const visit = (/** @type {string} */ name) => {
    for (const { path: file, kind } of outputs.get(name)?.imports ?? []) {
      const next = path.resolve(file);
      if (kind !== "import-statement" || found.has(next)) continue;
      found.add(next);
      visit(next);
    }
  };
  visit(path.join(folder, script));
  return [...found].map((name) => path.relative(folder, name).replaceAll(path.sep, "/")).sort();
}

/** @param {string} folder */
function hashOf(folder) {
  const hash = createHash("sha256");
  for (const name of pages) hash.update(read(name));
  for (const name of filesIn(folder)) hash.update(`${name}\0`).update(readFileSync(path.join(folder, name)));
  return hash.digest("hex").slice(0, 12);
}

/**
 * A page of this version.
 * @param {string} name
 * @param {string} hash
 * @param {(script: string) => string[]} preloads
 */
function pageOf(name, hash, preloads) {
  const worker = isolate ? "sw.js?isolate" : "sw.js";
  return read(name)
    .replace(/\n *<link rel="modulepreload"[^>]*>/g, "")
    .replace(/\n( *)<script type="module" src="([\w./-]+\.js)"/, (all, indent, script) =>
      preloads(script).map((file) => `\n${indent}<link rel="modulepreload" href="${file}">`).join("") + all)
    .replace(/\b(src|href)="([\w./-]+\.(?:js|css))"/g, (_, attribute, file) => `${attribute}="${hash}/${file}"`)
    .replace("</title>", `</title>\n  <meta name="llava-service-worker" content="${worker}">`);
}

/** The versions in a folder that was published before, the newest first. */
function publishedVersions() {
  const module = path.join(out, PUBLIC[0] ?? "");
  const newest = existsSync(module) ? /"\.\/([0-9a-f]{12})\//.exec(readFileSync(module, "utf8"))?.[1] : undefined;
  const others = existsSync(out) ? readdirSync(out).filter((name) => /^[0-9a-f]{12}$/.test(name)) : [];
  return newest === undefined ? [] : [newest, ...others.filter((name) => name !== newest)].filter((name) => existsSync(path.join(out, name)));
}

async function dist() {
  const before = publishedVersions();
  for (const name of existsSync(out) ? readdirSync(out) : []) if (!before.includes(name)) rmSync(path.join(out, name), { recursive: true });
  mkdirSync(out, { recursive: true });
  const staging = path.join(out, "staging");
  const metafile = await bundle(staging);
  const hash = hashOf(staging);
  const preloads = new Map(pages.map((name) => /<script type="module" src="([\w./-]+\.js)"/.exec(read(name))?.[1] ?? "").map((script) => [script, importsOf(metafile, staging, script)]));
  const [previous] = before.filter((name) => name !== hash);
  for (const name of before) if (name !== previous) rmSync(path.join(out, name), { recursive: true });
  cpSync(staging, path.join(out, hash), { recursive: true });
  rmSync(staging, { recursive: true });

  for (const name of PUBLIC) writeFileSync(path.join(out, name), `export * from "./${hash}/${name}";\n`);
  for (const name of pages) writeFileSync(path.join(out, name), pageOf(name, hash, (script) => preloads.get(script) ?? []));
  for (const name of readdirSync(www).filter((name) => /\.(svg|webmanifest|png|d\.ts)$/.test(name))) cpSync(path.join(www, name), path.join(out, name));

  for (const name of ASIDE) cpSync(path.join(www, name), path.join(out, name), { recursive: true });
  cpSync(elementTypes, path.join(out, "llava-chat.d.ts"));

  const all = filesIn(path.join(out, hash)).map((name) => `${hash}/${name}`);
  const engine = all.filter((name) => /\/pkg[^/]*\//.test(name));
  const files = ["./", ...pages, "manifest.webmanifest", "icon.svg", ...filesIn(path.join(www, "examples")).map((name) => `examples/${name}`), ...all.filter((name) => !engine.includes(name) && !name.endsWith(".txt"))];
  await build({
    entryPoints: [path.join(www, "sw.js")], outfile: path.join(out, "sw.js"), bundle: true, format: "iife", minify: true, target: TARGET,
    define: { "globalThis.LLAVA_WEB_BUILD": JSON.stringify({ version: hash, files, engine }) }, logLevel: "warning",
  });

  // The version before has its copies already.
  for (const name of filesIn(out).filter((name) => compress && COMPRESSED.test(name) && !(previous && name.startsWith(`${previous}/`)))) {
    const bytes = readFileSync(path.join(out, name));
    const copies = /** @type {const} */ ([
      ["gz", gzipSync(bytes, { level: 9 })],
      ["br", brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } })],
    ]);
    for (const [ending, copy] of copies) if (copy.length < bytes.length) writeFileSync(path.join(out, `${name}.${ending}`), copy);
  }
  return hash;
}

/**
 * The package as npm would publish it. Its modules are as they are here, for whoever takes it in to bundle, or not; the workers are one file
 * each, for bundlers copy a worker's file as it is.
 */
async function npmPackage() {
  const folder = path.join(out, "package");
  mkdirSync(folder, { recursive: true });
  const skipped = new Set([...pages, "models.js", "sw.js", "manifest.webmanifest", "icon.svg"]);
  const workers = entryPoints().filter((name) => name.startsWith("worker/"));
  await build({
    entryPoints: workers.map((name) => path.join(www, name)), outdir: folder, outbase: www, bundle: true, format: "esm", target: TARGET, legalComments: "none", logLevel: "warning",
  });
  for (const name of filesIn(www)) {
    if (skipped.has(name) || [...ASIDE, "pages", "worker"].some((folder) => name.startsWith(`${folder}/`)) || /(^|\/)\.|wasm\.d\.ts$|^pkg[^/]*\/.*\.(md|json)$|\.gitignore$|^icon-[\w-]+\.png$/.test(name)) continue;
    mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
    cpSync(path.join(www, name), path.join(folder, name));
  }
  cpSync(elementTypes, path.join(folder, "llava-chat.d.ts"));
  for (const name of ["custom-elements.json", ...JSX.map((name) => `${name}.d.ts`)]) cpSync(path.join(root, "tools/web", name), path.join(folder, name));
  for (const name of JSX) writeFileSync(path.join(folder, `${name}.js`), 'export * from "./llava-chat.js";\n');
  for (const name of ["README.md", "docs", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"]) cpSync(path.join(root, name), path.join(folder, name), { recursive: true });
  writeFileSync(path.join(folder, "package.json"), `${JSON.stringify({
    name: "llava-web",
    version,
    description: "LLaVA-family vision-language models inside a browser tab: GGUF, WebAssembly, WebGPU",
    license: "MIT OR Apache-2.0",
    type: "module",
    sideEffects: ["./llava-chat.js", "./chat/element.js", ...JSX.map((name) => `./${name}.js`)],
    main: "./llava-web.js",
    types: "./llava-web.d.ts",
    customElements: "custom-elements.json",
    exports: {
      ".": { types: "./llava-web.d.ts", default: "./llava-web.js" },
      "./llava-web.js": { types: "./llava-web.d.ts", default: "./llava-web.js" },
      "./element": { types: "./llava-chat.d.ts", default: "./llava-chat.js" },
      "./llava-chat.js": { types: "./llava-chat.d.ts", default: "./llava-chat.js" },
      "./openai": { types: "./openai.d.ts", default: "./openai.js" },
      "./openai.js": { types: "./openai.d.ts", default: "./openai.js" },
      "./prompt-api": { types: "./prompt-api.d.ts", default: "./prompt-api.js" },
      "./prompt-api.js": { types: "./prompt-api.d.ts", default: "./prompt-api.js" },
      ...Object.fromEntries(JSX.map((name) => [`./${name}`, { types: `./${name}.d.ts`, default: `./${name}.js` }])),
      "./custom-elements.json": "./custom-elements.json",
      "./package.json": "./package.json",
    },
    keywords: ["llava", "vision-language model", "gguf", "webgpu", "webassembly", "image captioning", "web component"],
    ...(repository && { repository: { type: "git", url: `git+${repository}.git` }, homepage: `${repository}#readme`, bugs: { url: `${repository}/issues` } }),
  }, null, 2)}\n`);
  execFileSync("npm", ["pack", "--ignore-scripts", "--silent", "--pack-destination", out], { cwd: folder, stdio: ["ignore", "ignore", "inherit"] });
  rmSync(folder, { recursive: true });
}

const hash = await dist();
await npmPackage();
const sizeOf = (/** @type {string} */ name) => statSync(path.join(out, name)).size;
for (const name of filesIn(out).filter((name) => /\.(js|css|wasm|html|tgz)$/.test(name))) {
  const compressed = existsSync(path.join(out, `${name}.br`)) ? `, ${sizeOf(`${name}.br`)} as brotli, ${sizeOf(`${name}.gz`)} as gzip` : "";
  console.log(`${name}: ${sizeOf(name)} bytes${compressed}`);
}
console.log(`version ${hash}`);
