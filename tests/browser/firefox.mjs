// Firefox for tests, without a driver program: it opens firefox.html, which asks this module for functions to run and posts back
// what they return. The page must be of the origin that is tested, since functions reach into the pages they open.
//
//   const firefox = await launchFirefox(`${origin}/tests/firefox.html`);     // where this folder is served
//   await firefox.evaluate(async (argument) => …, argument);                  // in firefox.html itself, a blank page
//   await firefox.goto(`${origin}/some/folder/index.html`);                   // in a frame …
//   await firefox.evaluate((argument, view) => view.document.title);          // … whose window is the second argument
//   await firefox.close();
//
// Arguments and results are JSON. Inside, `say(text)` prints a line at once. `firefox.complaints` holds the errors that nobody
// caught and what was written with console.error, in pages and in workers.

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";

const PROGRAM = process.env.FIREFOX ?? "/usr/bin/firefox-esr";
/** Milliseconds that a browser may take to ask for work. */
const PATIENCE = 60_000;

/** Why tests that need Firefox cannot run, or false. */
export const withoutFirefox = existsSync(PROGRAM) ? false : `there is no Firefox at ${PROGRAM}: install firefox-esr, or set FIREFOX to where it is`;

const PREFERENCES = {
  // WebGPU on Linux, and on adapters that compute on the CPU.
  "dom.webgpu.enabled": true,
  "gfx.webgpu.ignore-blocklist": true,
  // Errors and console.error come out of the program.
  "browser.dom.window.dump.enabled": true,
  "devtools.console.stdout.content": true,
  // It talks to nobody but the tests, and asks nothing.
  "app.normandy.enabled": false,
  "app.update.enabled": false,
  "browser.aboutwelcome.enabled": false,
  "browser.region.network.url": "",
  "browser.safebrowsing.malware.enabled": false,
  "browser.safebrowsing.phishing.enabled": false,
  "browser.search.update": false,
  "browser.shell.checkDefaultBrowser": false,
  "browser.startup.homepage_override.mstone": "ignore",
  "browser.topsites.contile.enabled": false,
  "datareporting.policy.dataSubmissionEnabled": false,
  "dom.push.connection.enabled": false,
  "extensions.getAddons.cache.enabled": false,
  "extensions.systemAddon.update.enabled": false,
  "extensions.update.enabled": false,
  "media.gmp-manager.updateEnabled": false,
  "network.captive-portal-service.enabled": false,
  "network.connectivity-service.enabled": false,
  "network.dns.disablePrefetch": true,
  "services.settings.server": "data:,#remote-settings-dummy/v1",
  "toolkit.telemetry.reportingpolicy.firstRun": false,
  "toolkit.telemetry.server": "data:,",
  // A slow test is not a page that hangs.
  "dom.max_script_run_time": 0,
  "dom.worker.canceling.timeoutMilliseconds": 1_000,
};

/** Mesa's adapter that computes on the CPU: the same on every machine. */
function softwareAdapter() {
  const folder = "/usr/share/vulkan/icd.d";
  const name = existsSync(folder) && readdirSync(folder).find((file) => /^lvp_icd.*\.json$/.test(file));
  return name ? { VK_ICD_FILENAMES: path.join(folder, name) } : {};
}

/**
 * @param {string} address  where firefox.html is served, of the origin that is to be tested
 * @param {{ preferences?: Record<string, boolean | number | string> }} [options]
 */
export async function launchFirefox(address, { preferences = {} } = {}) {
  if (withoutFirefox) throw new Error(withoutFirefox);
  /** @type {string[]} */
  const complaints = [];
  /** @type {string[]} */
  const output = [];
  /** Work that has not been fetched. @type {object[]} */
  const queue = [];
  /** @type {Map<number, { resolve: (value: any) => void, reject: (error: Error) => void }>} */
  const waiting = new Map();
  /** The request that waits for work. @type {(() => void) | null} */
  let wake = null;
  let greet = (/** @type {string} */ _agent) => {};
  let count = 0;

  const control = createServer(async (request, response) => {
    response.setHeader("access-control-allow-origin", "*");
    const { pathname } = new URL(request.url ?? "/", "http://127.0.0.1");
    if (pathname === "/next") {
      // One page asks; an older request has been given up.
      wake?.();
      if (queue.length === 0) {
        await new Promise((resolve) => {
          const timer = setTimeout(resolve, 20_000, undefined);
          wake = () => {
            clearTimeout(timer);
            resolve(undefined);
          };
        });
        wake = null;
      }
      const work = response.destroyed ? undefined : queue.shift();
      response.writeHead(work ? 200 : 204, { "content-type": "application/json" }).end(work && JSON.stringify(work));
      return;
    }
    const pieces = [];
    for await (const piece of request) pieces.push(piece);
    const body = Buffer.concat(pieces).toString();
    response.end();
    if (pathname === "/hello") greet(body);
    else if (pathname === "/line") console.log(body);
    else {
      const id = Number(pathname.slice("/result/".length));
      const { value, error } = JSON.parse(body);
      if (error) waiting.get(id)?.reject(Object.assign(new Error(`in Firefox: ${error.message}\n${error.stack}`), { name: error.name, code: error.code }));
      else waiting.get(id)?.resolve(value);
      waiting.delete(id);
    }
  });
  await new Promise((resolve) => control.listen(0, "127.0.0.1", () => resolve(undefined)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (control.address());

  const profile = mkdtempSync(path.join(tmpdir(), "firefox-"));
  const lines = Object.entries({ ...PREFERENCES, ...preferences }).map(([name, value]) => `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});`);
  writeFileSync(path.join(profile, "user.js"), lines.join("\n"));
  // A group of its own, so that its children end with it.
  const program = spawn(PROGRAM, ["--headless", "--no-remote", "--profile", profile, `${address}#${port}`], {
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...softwareAdapter(), ...process.env },
  });
  const kill = () => {
    try {
      if (program.pid) process.kill(-program.pid, "SIGKILL");
    } catch {
      // It has ended by itself.
    }
  };
  process.once("exit", kill);
  for (const stream of [program.stdout, program.stderr]) {
    createInterface({ input: stream }).on("line", (line) => {
      output.push(line);
      // The program's own parts name themselves: "console.error: services.settings: ".
      if (/^(console\.error: (?![\w.-]+: *$)|JavaScript error: (http|blob))/.test(line)) complaints.push(line);
    });
  }
  let closing = false;
  const ended = new Promise((resolve) => {
    program.once("exit", (code, signal) => {
      resolve(undefined);
      const error = new Error(`Firefox ended (${signal ?? code}). It said:\n${output.slice(-20).join("\n")}`);
      if (!closing) for (const { reject } of waiting.values()) reject(error);
    });
    program.once("error", resolve);
  });

  async function close() {
    closing = true;
    kill();
    await ended;
    process.removeListener("exit", kill);
    wake?.();
    control.close();
    control.closeAllConnections();
    rmSync(profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  }

  /** @param {object} work */
  function run(work) {
    if (program.exitCode !== null || program.signalCode !== null) throw new Error("Firefox has ended.");
    const id = ++count;
    const result = new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
    queue.push({ id, ...work });
    wake?.();
    return result;
  }

  const agent = await new Promise((resolve, reject) => {
    greet = resolve;
    waiting.set(0, { resolve, reject });
    setTimeout(() => reject(new Error(`Firefox did not open ${address} within ${PATIENCE / 1000} s. It said:\n${output.slice(-20).join("\n")}`)), PATIENCE).unref();
  }).catch(async (error) => {
    await close();
    throw error;
  });
  waiting.delete(0);

  return {
    /** The browser's own name for itself. @type {string} */
    agent,
    complaints,
    /** Everything the program printed. */
    output,
    close,
    /**
     * Runs a function in the browser; it cannot see anything of the test but its argument.
     * @template A, R
     * @param {(argument: A, view: any) => R | Promise<R>} task
     * @param {A} [argument]
     * @returns {Promise<R>}
     */
    evaluate: (task, argument) => run({ source: String(task), argument }),
    /** Opens a page of the same origin. @param {string} url */
    goto: (url) => run({ url }),
  };
}
