// custom-elements.json, which tells editors and catalogues of <llava-chat>, is of its schema, and says what the element's source says.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { ChatAttributes } from "../../www/chat/attributes.js";
import { LlavaChat } from "../../www/chat/element.js";

const require = createRequire(import.meta.url);
const root = path.join(path.dirname(fileURLToPath(import.meta.url)), "../..");
const manifest = JSON.parse(readFileSync(path.join(root, "tools/web/custom-elements.json"), "utf8"));
const [element] = manifest.modules[0].declarations;
const chat = path.join(root, "www/chat");
/** All of the element's source. */
const source = readdirSync(chat, { recursive: true }).filter((name) => /\.(js|css)$/.test(name)).map((name) => readFileSync(path.join(chat, name), "utf8")).join("\n");

const names = (/** @type {{ name: string }[]} */ list) => list.map(({ name }) => name).sort();
const found = (/** @type {RegExp} */ pattern) => [...new Set([...source.matchAll(pattern)].map(([, name]) => name))].sort();

describe("custom-elements.json", () => {
  test("is of its schema", () => {
    const Ajv = require("ajv");
    const validate = new (Ajv.default ?? Ajv)({ strict: false, allErrors: true }).compile(JSON.parse(readFileSync(require.resolve("custom-elements-manifest"), "utf8")));
    assert.ok(validate(manifest), JSON.stringify(validate.errors?.slice(0, 5)));
  });

  test("has the attributes and members that the element has", () => {
    assert.deepEqual(names(element.attributes), [...ChatAttributes.observedAttributes].sort());
    // What the browser calls, and what every element has.
    const inherited = ["constructor", "connectedCallback", "disconnectedCallback", "attributeChangedCallback", "focus"];
    const own = [ChatAttributes, LlavaChat].flatMap(({ prototype }) => Object.entries(Object.getOwnPropertyDescriptors(prototype))).filter(([name]) => !inherited.includes(name));
    assert.deepEqual(names(element.members), own.map(([name]) => name).sort());
    for (const [name, { get, set }] of own) {
      const member = element.members.find((/** @type {{ name: string }} */ member) => member.name === name);
      assert.deepEqual([member.kind, member.readonly ?? false], [get ? "field" : "method", Boolean(get && !set)], name);
      const attribute = element.attributes.find((/** @type {{ fieldName: string }} */ { fieldName }) => fieldName === name);
      assert.equal(member.attribute, attribute?.name, name);
    }
  });

  test("has the events, slots, parts and properties of style that the source has", () => {
    assert.deepEqual(names(element.events), found(/emit\("(llava-[a-z-]+)"/g));
    assert.deepEqual(names(element.slots), found(/element\("slot", \{ name: "([a-z-]+)"/g));
    assert.deepEqual(names(element.cssProperties), found(/var\((--llava-[a-z-]+)/g));
    const parts = found(/\bpart(?::| =) "([a-z- ]+)"/g);
    assert.deepEqual(names(element.cssParts), [...new Set([...parts, "button"])].sort());
  });

  test("goes with the package's version of the types", () => {
    const types = readFileSync(path.join(root, "tools/web/llava-chat.d.ts"), "utf8");
    const [, declared = ""] = /export class LlavaChat extends HTMLElement \{([^]*?)\n\}/.exec(types) ?? [];
    const members = [...declared.matchAll(/^ {2}(?:readonly )?(\w+)[(:]/gm)].map(([, name]) => name).sort();
    assert.deepEqual(names(element.members), members);
  });
});
