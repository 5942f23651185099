// Makes the pictures of the page that README.md and docs/ show, with the model that comes with it.
//
//   usage: node tests/tools/screenshots.mjs [FOLDER]   default: tests/browser/readme

import path from "node:path";
import { fileURLToPath } from "node:url";

import { openTab, settled, start } from "../browser/support.mjs";

const folder = path.resolve(process.argv[2] ?? path.join(path.dirname(fileURLToPath(import.meta.url)), "../browser/readme"));
const host = await start({ isolated: true });

/** @param {Record<string, any>} options @param {(page: import("playwright-core").Page, shoot: (name: string) => Promise<void>) => Promise<void>} use */
async function visit(options, use) {
  const { page, close } = await openTab(host.browser, { viewport: { width: 1280, height: 800 }, ...options });
  page.setDefaultTimeout(60_000);
  await page.goto(host.site);
  await page.getByRole("textbox", { name: "Your question" }).waitFor();
  await use(page, async (name) => {
    await settled(page);
    await page.screenshot({ path: path.join(folder, `${name}.png`) });
    console.log(`${name}.png`);
  });
  await close();
}

await visit({}, async (page, shoot) => {
  const ask = async (/** @type {string} */ text) => {
    const n = await page.locator(".turn").count();
    await page.getByRole("textbox", { name: "Your question" }).fill(text);
    await page.keyboard.press("Enter");
    await page.locator(".turn .note").nth(n).filter({ hasText: "tokens in" }).waitFor();
  };
  // How fast the offered model will be is measured meanwhile.
  await page.getByRole("region", { name: /^For photographs/ }).getByText(/first words/).waitFor();
  await shoot("start");
  await page.getByRole("list", { name: "Example pictures" }).getByRole("button").first().click();
  await page.locator(".turn .note").first().filter({ hasText: "tokens in" }).waitFor();
  await ask("How many objects are there?");
  await ask("What color is the balloon?");
  await shoot("answers");
  await page.getByRole("button", { name: "Where the model looked" }).last().click();
  await page.locator(".word").filter({ hasText: "red" }).last().click();
  await page.getByRole("img", { name: /^Where the model looked before/ }).waitFor();
  await shoot("looked-at");
  await page.getByRole("button", { name: "Change model" }).click();
  await page.getByRole("button", { name: "Load SmolVLM 256M" }).waitFor();
  await page.locator(".model").evaluate((panel) => panel.scrollTo(0, 0));
  await shoot("load");
  await page.getByRole("region", { name: "On this device" }).scrollIntoViewIfNeeded();
  await page.getByRole("button", { name: /^Delete / }).first().waitFor();
  await shoot("kept");
});
await visit({ viewport: { width: 390, height: 844 }, hasTouch: true }, async (page, shoot) => {
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByRole("dialog", { name: "Settings" }).waitFor();
  await shoot("settings");
});
await host.close();
