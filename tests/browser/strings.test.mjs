// The words of the element and of the pages: that every language has all of them, that all are used, that no text is left in the code, and that
// the element speaks the language that it should.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import ts from "typescript";

import { ERROR_CODES } from "../../www/api/errors.js";
import { Complaint, Language, LANGUAGES } from "../../www/strings/language.js";
import { standIn } from "./stand-in.mjs";
import { openTab, start } from "./support.mjs";

const WWW = path.join(path.dirname(fileURLToPath(import.meta.url)), "../../www");
const TAGS = Object.keys(LANGUAGES);
const ALL = new Map(await Promise.all(TAGS.map(async (tag) => [tag, (await import(`../../www/strings/${tag}.js`)).strings])));
const ENGLISH = ALL.get("en");
const OTHERS = TAGS.filter((tag) => tag !== "en");

const forms = (message) => (typeof message === "string" ? [message] : Object.values(message));
const places = (message) => [...new Set(forms(message).flatMap((text) => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name)))].sort();

const read = (name) => readFileSync(path.join(WWW, name), "utf8");
const CODE = ["chat", "pages"].flatMap((folder) => readdirSync(path.join(WWW, folder), { recursive: true }).filter((name) => name.endsWith(".js")).map((name) => `${folder}/${name}`)).concat("models.js");
const PAGES = readdirSync(WWW).filter((name) => name.endsWith(".html"));

/** Calls a function for each node of a module. */
function walk(source, visit) {
  const file = ts.createSourceFile("x.js", source, ts.ScriptTarget.Latest, true, ts.ScriptKind.JS);
  const each = (node) => {
    visit(node, file);
    ts.forEachChild(node, each);
  };
  each(file);
}

describe("strings", () => {
  for (const tag of OTHERS) {
    test(`${tag} has the keys of en, and their places`, () => {
      const strings = ALL.get(tag);
      assert.deepEqual(Object.keys(strings).sort(), Object.keys(ENGLISH).sort());
      for (const [key, message] of Object.entries(ENGLISH)) assert.deepEqual(places(strings[key]), places(message), key);
    });
  }

  for (const [tag, strings] of ALL) {
    test(`${tag}: a text for each of the language's numbers, and nothing that is written wrong`, () => {
      const categories = new Intl.PluralRules(tag).resolvedOptions().pluralCategories.toSorted();
      for (const [key, message] of Object.entries(strings)) {
        if (typeof message !== "string") {
          assert.deepEqual(Object.keys(message).sort(), categories, key);
          assert.equal(typeof ENGLISH[key], "object", `${key} depends on no number in English`);
        }
        for (const text of forms(message)) {
          assert.equal(text, text.trim(), key);
          assert.ok(text !== "" && !/ {2}|'|"|\.\.\./.test(text), `${key}: ${text}`);
        }
      }
    });
  }

  test("every key is used, every key that is used is there, and is given its values", () => {
    const used = new Set();
    const wrong = [];
    for (const name of CODE) {
      walk(read(name), (node, file) => {
        if (ts.isStringLiteralLike(node) && node.text in ENGLISH) used.add(node.text);
        if (!ts.isCallExpression(node) && !ts.isNewExpression(node)) return;
        const callee = ts.isPropertyAccessExpression(node.expression) ? node.expression.name.text : node.expression.getText(file);
        if (!["say", "Complaint"].includes(callee)) return;
        const [key, values] = node.arguments;
        const at = `${name}:${file.getLineAndCharacterOfPosition(node.pos).line + 1}`;
        const keys = ts.isConditionalExpression(key) ? [key.whenTrue, key.whenFalse] : [key];
        for (const one of keys.filter((one) => ts.isStringLiteralLike(one))) {
          if (!(one.text in ENGLISH)) {
            wrong.push(`${at}: there is no ${one.text}`);
            continue;
          }
          const given = values && ts.isObjectLiteralExpression(values) ? values.properties.map((property) => property.name?.getText(file)) : [];
          const message = ENGLISH[one.text];
          for (const place of [...places(message), ...(typeof message === "string" ? [] : ["count"])]) {
            if (!given.includes(place) && !(values && !ts.isObjectLiteralExpression(values))) wrong.push(`${at}: ${one.text} is not given its ${place}`);
          }
        }
      });
    }
    for (const page of PAGES) for (const [, key] of read(page).matchAll(/data-say(?:-\w+)?="([^"]*)"/g)) used.add(key);
    // Of language.js itself: units, and what stands before an error's own message.
    const own = Object.keys(ENGLISH).filter((key) => /^(unit|error)\./.test(key));
    assert.deepEqual(own.filter((key) => key.startsWith("error.")).sort(), ERROR_CODES.map((code) => `error.${code}`).sort());
    assert.deepEqual(Object.keys(ENGLISH).filter((key) => !used.has(key) && !own.includes(key)), [], "used by nobody");
    assert.deepEqual([...used].filter((key) => !(key in ENGLISH)), [], "not there");
    assert.deepEqual(wrong, []);
  });

  test("no text for people is left in the code", () => {
    const left = CODE.filter((name) => name !== "models.js").flatMap((name) => literals(name, read(name)));
    assert.deepEqual(left, []);
    const found = literals("x.js", `
      element("p", {}, "Words"); button({ text: \`\${n} more\` }); node.textContent = "gone"; alert.show(a ? "Not a picture." : b); const W = ["the middle", "the top left"];
      node.setAttribute("aria-label", "close"); setText(node, \`of \${n}\`);`);
    assert.equal(found.length, 8, found.join("\n"));
  });

  test("the pages' markup says what the English strings say, and nothing without a key", () => {
    for (const page of PAGES) {
      const html = read(page).replace(/<!--.*?-->/gs, "");
      for (const [, key, text] of html.matchAll(/data-say="([\w.]+)"[^>]*>([^<]*)</g)) assert.equal(text.replace(/\s+/g, " ").trim(), ENGLISH[key], `${page}: ${key}`);
      for (const [, name, key, attribute, text] of html.matchAll(/data-say-(\w+)="([\w.]+)" ([\w-]+)="([^"]*)"/g)) {
        assert.equal(attribute, name === "label" ? "aria-label" : name);
        assert.equal(text, ENGLISH[key], `${page}: ${key}`);
      }
      const body = html.slice(html.indexOf("<body>")).replace(/<noscript>.*?<\/noscript>|<p class="unstarted">.*?<\/p>/gs, "");
      const unsaid = [...body.matchAll(/<(\w+)([^>]*)>\s*([^<]*\p{L}[^<]*?)\s*</gu)]
        .filter(([, , attributes, text]) => !attributes.includes("data-say=") && !["llava-web", "Deutsch"].includes(text));
      assert.deepEqual(unsaid.map(([all]) => all), [], page);
    }
  });

  test("the pages have one header", () => {
    const navs = PAGES.map((page) => /<nav.*?<\/nav>/s.exec(read(page))?.[0].replace(' aria-current="page"', ""));
    assert.equal(new Set(navs).size, 1, navs.join("\n"));
    for (const page of PAGES) {
      const [, href] = /href="([^"]*)" aria-current="page"/.exec(read(page)) ?? [];
      assert.equal(href, page === "index.html" ? "./" : page);
      assert.match(read(page), /viewport-fit=cover/, page);
    }
  });

  test("numbers, sizes, times and plurals as the language writes them", async () => {
    const words = new Language();
    const said = () => [
      words.bytes(0), words.bytes(1), words.bytes(999), words.bytes(1500), words.bytes(279_000_000), words.bytes(4_704_000_000), words.percent(0.004), words.percent(0.123),
      words.duration(0.0123), words.duration(2.5), words.duration(75), words.duration(300), words.figures(1234.5), words.say("bar.context", { count: 4096 }),
      words.say("status.cpu", { count: 1 }), words.say("status.cpu", { count: 4 }), words.list(["a", "b"]), words.join(["a", "", null, words.say("do.undo")]),
    ].map((phrase) => String(phrase).replace(/[\u00a0\u202f]/g, " "));
    assert.deepEqual(said(), ["0 bytes", "1 byte", "999 bytes", "1.5 kB", "279 MB", "4.7 GB", "less than 1%", "12%", "12 ms", "2.5 s", "75 s", "5 min", "1235", "4,096 tokens of context",
      "CPU, 1 thread", "CPU, 4 threads", "a and b", "a · Undo"]);
    assert.equal(await words.use("de-DE"), true);
    assert.deepEqual(said(), ["0 Byte", "1 Byte", "999 Byte", "1,5 kB", "279 MB", "4,7 GB", "weniger als 1 %", "12 %", "12 ms", "2,5 s", "75 s", "5 min", "1235", "4.096 Token Kontext",
      "CPU, 1 Thread", "CPU, 4 Threads", "a und b", "a · Rückgängig machen"]);
    const error = Object.assign(new Error("too few bytes"), { code: "invalid_gguf" });
    assert.equal(String(words.explain(error)), "Eine Modelldatei ist nicht lesbar. too few bytes");
    const complaint = new Complaint("picture.none", { name: "x.txt" });
    assert.equal(complaint.message, "“x.txt” is not a picture.");
    assert.equal(String(words.explain(complaint)), "„x.txt“ ist kein Bild.");
    // A language that is not there, or no language at all, leaves English.
    for (const tag of ["fr", "", "not a tag"]) {
      await words.use("de");
      await words.use(tag);
      assert.equal(words.tag, "en", tag);
      assert.equal(String(words.explain(error)), "too few bytes");
    }
    // The last wish holds, whichever language comes first.
    await Promise.all([words.use("de"), words.use("en")]);
    assert.equal(words.tag, "en");
  });
});

/** Attributes and options whose values nobody reads. */
const UNREAD = new Set(["class", "part", "role", "type", "id", "for", "accept", "autocomplete", "aria-describedby", "aria-labelledby", "rel", "icon", "name", "keyPath", "media", "viewBox"]);
/** Attributes and options whose values are read or heard. */
const READ = new Set(["text", "label", "title", "placeholder", "alt", "aria-label", "aria-valuetext", "message", "hint"]);
/** What their strings are for is told to programs, or to the page's author. */
const PROGRAMS = /^(LlavaError|Error|TypeError|console\.\w+|.*\.(querySelector(All)?|closest|matches|request|getElementById|set|append|createElementNS)|matchMedia|BroadcastChannel)$/;
/** Strings that look like words and are none for people. */
const NAMES = [/^llava-web /, /^(Enter|Escape|Home|End|Arrow\w+|NotAllowedError|Files|Markdown|JSON|too large|noopener noreferrer nofollow|device "cpu"|https:\/\/…)$/, /^\{ "type": /,
  // In the engine's own message, which is English.
  /^The picture$/];
/** What is asked there is asked of models, in the data sets' English. */
const FOR_MODELS = ["pages/evaluation.js"];

/** The literals of a module that people would read. */
function literals(name, source) {
  if (name === "chat/base/styles.js" || FOR_MODELS.includes(name)) return [];
  const found = [];
  const hasLetters = (text) => /\p{L}{2}|^\p{L}$/u.test(text);
  const isProse = (text) => /^\p{Lu}\p{Ll}+$|\p{L}{2,}[,.:;!?]? .*\p{L}{2,}/u.test(text.trim());
  walk(source, (node, file) => {
    const texts = ts.isStringLiteralLike(node) ? [node.text] : ts.isTemplateExpression(node) ? [node.head.text, ...node.templateSpans.map(({ literal }) => literal.text)] : [];
    if (texts.length === 0) return;
    let [at, child] = [node.parent, node];
    while (ts.isConditionalExpression(at) || ts.isParenthesizedExpression(at) || (ts.isBinaryExpression(at) && [ts.SyntaxKind.QuestionQuestionToken, ts.SyntaxKind.BarBarToken, ts.SyntaxKind.PlusToken].includes(at.operatorToken.kind))) [at, child] = [at.parent, at];
    const condition = ts.isConditionalExpression(node.parent) && node.parent.condition === node;
    const callee = ts.isCallExpression(at) || ts.isNewExpression(at) ? at.expression.getText(file) : "";
    const index = callee ? (at.arguments ?? []).indexOf(child) : -1;
    const property = ts.isPropertyAssignment(at) ? at.name.getText(file).replace(/["']/g, "") : "";
    const isName = NAMES.some((pattern) => texts.length === 1 && pattern.test(texts[0]));
    const isRead = !condition && !isName && !(ts.isPropertyAssignment(at) && at.name === child) && (
      READ.has(property) ||
      (callee === "element" && index >= 2) || (callee === "setText" && index === 1) || (callee === "setAttribute" && index === 2 && READ.has(at.arguments[1].text)) ||
      (callee.endsWith(".setAttribute") && index === 1 && READ.has(at.arguments[0].text)) || /\.(announce|show|onTell|onError|offer|tell)$/.test(callee) ||
      (ts.isBinaryExpression(at) && at.operatorToken.kind === ts.SyntaxKind.EqualsToken && /\.(textContent|title|placeholder|alt|ariaLabel|innerText)$/.test(at.left.getText(file))));
    const isAside = ts.isImportDeclaration(at) || ts.isExportDeclaration(at) || callee === "import" || PROGRAMS.test(callee) || UNREAD.has(property) ||
      (ts.isPropertyAssignment(at) && at.name === child) || ts.isElementAccessExpression(at);
    const isKey = texts.length === 1 && texts[0] in ENGLISH;
    if (isKey) return;
    if (isRead ? texts.some(hasLetters) : !isAside && !isName && texts.some(isProse)) found.push(`${name}:${file.getLineAndCharacterOfPosition(node.pos).line + 1} ${node.getText(file)}`);
  });
  return found;
}

describe("the element's language, and long conversations", () => {
  let host;
  before(async () => (host = await start()));
  after(() => host?.close());

  const visit = (name, options, use) => test(name, { timeout: 60_000 }, async () => {
    const tab = await openTab(host.browser, options);
    tab.page.setDefaultTimeout(15_000);
    let engines = 0;
    try {
      await tab.page.context().route("**/pkg*/llava_web.js", (route) => route.fulfill({ contentType: "text/javascript", body: standIn(++engines) }));
      await tab.page.goto(host.chooser);
      await use(tab.page, tab);
      assert.deepEqual(tab.complaints, []);
    } finally {
      await tab.close();
    }
  });
  const load = (page) => page.evaluate(() => document.querySelector("llava-chat").load({ model: new Blob(["GGUF"]), mmproj: new Blob(["GGUF"]) }));
  const heading = (page, name) => page.getByRole("heading", { name, exact: true }).waitFor();
  const asked = (page, text) => page.evaluate((text) => document.querySelector("llava-chat").ask(text), text);

  visit("English is there at once, and nothing else is fetched", { locale: "en-GB" }, async (page, { requests }) => {
    await heading(page, "Load a model");
    assert.equal(await page.locator("html").getAttribute("lang"), "en");
    assert.equal(await page.locator(".shell").getAttribute("lang"), "en");
    assert.deepEqual(requests.filter((url) => /\/strings\/(?!en|language)/.test(url)), []);
  });

  visit("the person's language, the one they choose, the one around the element; the conversation stays", { locale: "de-DE" }, async (page) => {
    await heading(page, "Modell laden");
    assert.equal(await page.title(), "llava-web: Fragen zu einem Bild");
    assert.equal(await page.locator("html").getAttribute("lang"), "de");
    assert.equal(await page.locator(".shell").getAttribute("lang"), "de");
    await page.getByText(/Eingebautes Minimodell/).waitFor();
    await load(page);
    await page.getByText("CPU, 1 Thread").waitFor();
    await asked(page, "say:First answer.");
    await page.getByText("2 Token in 0,1 s").waitFor();
    // What the engine says is English, and said to be so.
    await asked(page, "fail: invalid_image").catch(() => {});
    assert.equal(await page.getByRole("alert").locator("[lang=en]").textContent(), "It failed: invalid_image");
    assert.match(await page.getByRole("alert").textContent(), /^Ein Bild ist nicht lesbar\. /);
    await page.getByRole("link", { name: "English" }).click();
    await page.getByText("CPU, 1 thread").waitFor();
    await page.getByText("2 tokens in 0.1 s").waitFor();
    assert.match(await page.getByRole("alert").textContent(), /^It failed/);
    assert.equal(await page.locator(".shell").getAttribute("lang"), "en");
    assert.equal((await page.locator(".answer").first().textContent()).trim(), "First answer.");
    await page.evaluate(() => (document.querySelector("llava-chat").lang = "de-AT"));
    await page.getByRole("button", { name: "Neue Unterhaltung" }).waitFor();
    await page.getByRole("button", { name: "Einstellungen" }).click();
    const dialog = page.getByRole("dialog", { name: "Einstellungen" });
    assert.equal(await dialog.getByLabel("Temperatur").getAttribute("placeholder"), "Vorgabe des Modells");
    await page.keyboard.press("Escape");
    await page.evaluate(() => document.querySelector("llava-chat").removeAttribute("lang"));
    await page.getByRole("button", { name: "New conversation" }).waitFor();
    // It is remembered, for the other pages too.
    await page.goto(`${host.site}benchmark.html`);
    await heading(page, "How fast is it here?");
    await page.getByRole("link", { name: "Deutsch" }).click();
    await heading(page, "Wie schnell ist es hier?");
    await page.getByRole("link", { name: "Bewerten" }).click();
    await heading(page, "Ein Modell bewerten");
  });

  visit("on a phone, long German words are as whole as short English ones, and so is the model's name", { locale: "de-DE", viewport: { width: 390, height: 844 }, hasTouch: true }, async (page) => {
    await heading(page, "Modell laden");
    // Nothing is cut off or has to be scrolled to: neither sideways, nor a name that ends in dots.
    const cut = () => page.evaluate(() => [...document.querySelector("llava-chat").shadowRoot.querySelectorAll(".model, .log, .dialog, .bar-top, .composer, .model-name .name")]
      .filter((node) => node.scrollWidth > node.clientWidth).map((node) => `${node.className}: ${node.scrollWidth} of ${node.clientWidth}`));
    assert.deepEqual(await cut(), []);
    await load(page);
    await page.getByRole("button", { name: "Einen ganzen Ordner voller Bilder beschreiben" }).waitFor();
    assert.deepEqual(await cut(), []);
    await asked(page, "say:Ja.");
    await page.getByRole("button", { name: "Einstellungen" }).click();
    await page.getByRole("dialog", { name: "Einstellungen" }).waitFor();
    assert.deepEqual(await cut(), []);
    for (const name of ["benchmark", "evaluate"]) {
      await page.goto(`${host.site}${name}.html`);
      await page.getByRole("combobox", { name: "Modell" }).waitFor();
      const [inner, outer] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      assert.ok(inner <= outer, `${name}: ${inner} of ${outer}`);
    }
  });

  visit("two elements, two languages", {}, async (page) => {
    await page.evaluate(() => {
      const [one, two] = ["de", "fr"].map((lang) => {
        const holder = document.createElement("div");
        holder.lang = lang;
        holder.append(document.createElement("llava-chat"));
        return holder;
      });
      document.body.append(one, two);
    });
    await page.locator("div[lang=de] llava-chat").getByRole("heading", { name: "Modell laden" }).waitFor();
    await page.locator("div[lang=fr] llava-chat").getByRole("heading", { name: "Load a model" }).waitFor();
  });

  visit("the context: a meter, a word before it is full, and the earliest questions forgotten", {}, async (page) => {
    await load(page);
    const meter = page.getByRole("meter", { name: "Context used" });
    for (const [text, used] of [["fill: 400", 400], ["fill: 900", 900], ["fill: 1500", 1500]]) {
      await asked(page, text);
      assert.equal(await meter.getAttribute("aria-valuenow"), String(used));
    }
    await page.getByText("1,500 of 2,048 tokens used").waitFor();
    assert.equal(await page.getByRole("alert").count(), 0);
    await asked(page, "fill: 1800");
    const alert = page.getByRole("alert");
    await alert.getByText(/almost filled/).waitFor();
    await alert.getByRole("button", { name: "Forget the earliest questions" }).click();
    // Half of the context is free: of 1800 tokens the first 900 go.
    assert.equal(await meter.getAttribute("aria-valuenow"), "900");
    assert.equal(await page.locator(".turn.left-out").count(), 2);
    const echoed = JSON.parse((await asked(page, "echo")).replace(/^```json\n|\n```$/g, ""));
    assert.deepEqual(echoed.messages.map(({ content }) => (typeof content === "string" ? content : content[0].text)).filter((text) => /^fill/.test(text)), ["fill: 1500", "fill: 1800"]);
    // A question that does not fit offers the same.
    await asked(page, "too long").catch(() => {});
    await page.locator(".turn").last().getByRole("button", { name: "Forget the earliest questions" }).waitFor();
    await page.getByRole("button", { name: "New conversation" }).click();
    assert.equal(await meter.count(), 0);
  });

  visit("a long conversation: what is out of sight is not laid out, and who reads above stays there", {}, async (page) => {
    await load(page);
    await page.evaluate(async () => {
      const chat = document.querySelector("llava-chat");
      for (let i = 0; i < 200; i++) await chat.ask(`say:Answer ${i}.`);
    });
    const log = page.locator(".log");
    const skipped = () => log.evaluate((log) => [...log.querySelectorAll(".answer")].filter((node) => !node.checkVisibility({ contentVisibilityAuto: true })).length);
    await page.waitForFunction(() => {
      const log = document.querySelector("llava-chat").shadowRoot.querySelector(".log");
      return log.scrollHeight - log.scrollTop - log.clientHeight < 2;
    });
    assert.equal(await page.locator(".turn").count(), 200);
    assert.ok(await skipped() > 150, `${await skipped()} of 200 are skipped`);
    // While an answer is written, the end is followed by who is there, and nobody else is moved.
    await page.evaluate(() => void document.querySelector("llava-chat").ask("on and on"));
    await page.waitForFunction(() => document.querySelector("llava-chat").shadowRoot.querySelector(".turn:last-child .answer").textContent.length > 3000);
    assert.ok(await log.evaluate((log) => log.scrollHeight - log.scrollTop - log.clientHeight) < 60);
    await log.evaluate((log) => log.scrollBy(0, -2000));
    // Once what has come into sight is laid out.
    await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
    const place = () => log.evaluate((log) => [...log.querySelectorAll(".turn")].find((node) => node.getBoundingClientRect().bottom > 0).getBoundingClientRect().top);
    const before = await place();
    const length = await page.locator(".answer").last().evaluate((node) => node.textContent.length);
    await page.waitForFunction((length) => document.querySelector("llava-chat").shadowRoot.querySelector(".turn:last-child .answer").textContent.length > length + 1000, length);
    assert.ok(Math.abs(await place() - before) < 2, "the reader was moved");
    await page.keyboard.press("Escape");
  });
});
