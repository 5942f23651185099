// Runs the op suite as WebAssembly: on the CPU backend, once with simd128, once with relaxed SIMD too; or on the GPU of a browser.
//
//   node tests/wasm/ops.mjs                        the tests
//   node tests/wasm/ops.mjs bench                  times of the kernels, and how much of a plain loop's speed that is
//   node tests/wasm/ops.mjs bench_attention        times of attention
//   node tests/wasm/ops.mjs bench_long_context     of one token after 4095, over keys and values in 16 bits and in 8
//   node tests/wasm/ops.mjs bench candle           the same beside candle's kernels
//   node tests/wasm/ops.mjs bench simd128          one build only
//   node tests/wasm/ops.mjs bench cpu-time         times in which the thread computed, for a machine with other work to do (Linux)
//   node tests/wasm/ops.mjs bench chromium         in Chromium (the program CHROMIUM, or /usr/bin/chromium), not in node
//   node tests/wasm/ops.mjs run chromium-gpu       the tests on WebGPU in Chromium, on its adapter that computes on the CPU (SwiftShader)
//   node tests/wasm/ops.mjs run firefox-gpu        the same in Firefox (the program FIREFOX, or /usr/bin/firefox-esr) on Mesa's (lavapipe)
//
// Node 20 has relaxed SIMD behind a flag, in a draft that gives other results: that build is skipped there.

import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const features = { scalar: '', simd128: '+simd128', relaxed: '+simd128,+relaxed-simd' };

// Where the module of that name is put, and what it is built with. All modules, those that ship too, share what is compiled on the way.
function settings(name) {
  const target = join(root, 'target', 'ops-runner', name);
  const env = {
    ...process.env,
    CARGO_TARGET_DIR: target,
    CARGO_BUILD_BUILD_DIR: join(root, 'target', 'wasm'),
    CARGO_PROFILE_RELEASE_LTO: 'off',
    CARGO_PROFILE_RELEASE_CODEGEN_UNITS: '4',
    CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS: features[name] ? `-C target-feature=${features[name]}` : '',
  };
  return { target, env };
}

function build(name, candle) {
  const { target, env } = settings(name);
  const args = ['build', '--quiet', '--release', '--target', 'wasm32-unknown-unknown', '-p', 'ops-runner'];
  if (candle) args.push('--features', 'candle');
  execFileSync('cargo', args, { cwd: root, env, stdio: 'inherit' });
  return join(target, 'wasm32-unknown-unknown', 'release', 'ops_runner.wasm');
}

async function call(path, name, clock) {
  let memory;
  // Imports of wasm-bindgen are there when candle is (its random numbers), but nothing calls them.
  const unused = new Proxy({}, { get: (_, key) => () => { throw new Error(`${String(key)} is not provided`); } });
  const host = {
    print_line: (at, len) => console.log(new TextDecoder().decode(new Uint8Array(memory.buffer, at, len))),
    now: clock === 'cpu-time' ? () => process.cpuUsage().user / 1e3 : () => performance.now(),
  };
  const module = await WebAssembly.compile(readFileSync(path));
  const imports = Object.fromEntries(WebAssembly.Module.imports(module).map((i) => [i.module, i.module === 'host' ? host : unused]));
  const instance = await WebAssembly.instantiate(module, imports);
  memory = instance.exports.memory;
  instance.exports[name]();
}

// Milliseconds that a browser's worker has computed.
function workerTime(browser) {
  const parents = new Map();
  for (const pid of readdirSync('/proc').filter((name) => /^[0-9]+$/.test(name))) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      parents.set(Number(pid), Number(stat.slice(stat.lastIndexOf(')') + 4).split(' ')[0]));
    } catch {
      // A process that ended meanwhile.
    }
  }
  const isOfBrowser = (pid) => pid === browser || (parents.has(pid) && isOfBrowser(parents.get(pid)));
  for (const pid of [...parents.keys()].filter(isOfBrowser)) {
    for (const task of readdirSync(`/proc/${pid}/task`)) {
      if (!readFileSync(`/proc/${pid}/task/${task}/comm`, 'utf8').startsWith('DedicatedWorker')) continue;
      return Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]) / 1e6;
    }
  }
  throw new Error('the browser has no worker');
}

// The same as `call`, in a worker of a page of a headless Chromium.
async function callInChromium(path, name, clock) {
  const body = `
    onmessage = async () => {
      const lines = [];
      const send = (text) => fetch('/line', { method: 'POST', body: text });
      try {
        let memory;
        const decode = (at, len) => new TextDecoder().decode(new Uint8Array(memory.buffer, at, len));
        const cpuTime = () => {
          const request = new XMLHttpRequest();
          request.open('GET', '/cpu-time', false);
          request.send();
          return Number(request.response);
        };
        const now = ${clock === 'cpu-time'} ? cpuTime : () => performance.now();
        const host = { print_line: (at, len) => lines.push(decode(at, len)), now };
        const unused = new Proxy({}, { get: () => () => { throw new Error('not provided'); } });
        const module = await WebAssembly.compileStreaming(fetch('/module.wasm'));
        const used = WebAssembly.Module.imports(module).map((i) => [i.module, i.module === 'host' ? host : unused]);
        const instance = await WebAssembly.instantiate(module, Object.fromEntries(used));
        memory = instance.exports.memory;
        instance.exports.${name}();
        await send(lines.join('\\n'));
        await fetch('/end', { method: 'POST', body: '0' });
      } catch (error) {
        await send([...lines, error.stack].join('\\n'));
        await fetch('/end', { method: 'POST', body: '1' });
      }
    };`;
  const served = {
    '/': ['text/html', '<script>new Worker("worker.js").postMessage(0)</script>'],
    '/worker.js': ['text/javascript', body],
    '/module.wasm': ['application/wasm', readFileSync(path)],
  };
  const profile = mkdtempSync(join(tmpdir(), 'ops-'));
  const status = await new Promise((resolve) => {
    let browser;
    const server = createServer(async (request, response) => {
      if (request.method === 'POST') {
        let text = '';
        for await (const chunk of request) text += chunk;
        response.end();
        if (request.url === '/line') return console.log(text);
        browser.once('exit', () => resolve(Number(text)));
        browser.kill();
        server.closeAllConnections();
        return server.close();
      }
      if (request.url === '/cpu-time') return response.end(String(workerTime(browser.pid)));
      const [type, content] = served[request.url] ?? ['text/plain', ''];
      response.writeHead(200, { 'content-type': type }).end(content);
    });
    server.listen(0, '127.0.0.1', () => {
      const url = `http://127.0.0.1:${server.address().port}/`;
      const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'];
      const program = process.env.CHROMIUM ?? '/usr/bin/chromium';
      browser = spawn(program, [...flags, `--user-data-dir=${profile}`, url], { stdio: 'ignore' });
    });
  });
  // The browser's children outlive it by a moment.
  await new Promise((resolve) => setTimeout(resolve, 500));
  rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  return status;
}

// The module of the WebGPU backend with its bindings; gives their folder.
function buildGpu() {
  const { target, env } = settings('gpu');
  const args = ['build', '--quiet', '--release', '--target', 'wasm32-unknown-unknown', '-p', 'ops-runner', '--features', 'gpu'];
  execFileSync('cargo', args, { cwd: root, env, stdio: 'inherit' });
  const wasm = join(target, 'wasm32-unknown-unknown', 'release', 'ops_runner.wasm');
  const folder = join(target, 'pkg');
  execFileSync('cargo', ['run', '--quiet', '--profile', 'tool', '--target-dir', 'target/tools', '--package', 'bindgen', '--', wasm, folder, 'ops_runner'], { cwd: root, stdio: 'inherit' });
  return folder;
}

// Runs in a page: the worker's lines are printed as they come.
async function runWorker() {
  const worker = new Worker('/wasm/gpu-worker.js', { type: 'module' });
  return new Promise((resolve, reject) => {
    worker.onerror = (event) => reject(new Error(event.message || 'the worker could not be started'));
    worker.onmessage = ({ data: { line, ...end } }) => {
      if (line) globalThis.say(line);
      else resolve(end);
    };
  });
}

// The suite on a browser's GPU; gives the exit status.
async function runOnGpu(name) {
  const { serve } = await import('../tools/serve.mjs');
  const tests = join(root, 'tests');
  const mounts = { '/www/': join(root, 'www'), '/pkg/': buildGpu(), '/wasm/': join(tests, 'wasm') };
  const server = await serve({ root: join(tests, 'browser'), mounts });
  const start = performance.now();
  let browser;
  try {
    let page;
    if (name === 'firefox-gpu') {
      const { launchFirefox } = await import('../browser/firefox.mjs');
      browser = page = await launchFirefox(`${server.origin}/firefox.html`);
    } else {
      const { chromium } = await import('playwright-core');
      const { QUICK_SWIFTSHADER } = await import('../browser/support.mjs');
      const args = ['--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking', ...QUICK_SWIFTSHADER];
      browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args });
      page = await browser.newPage();
      await page.exposeFunction('say', (line) => console.log(line));
      await page.goto(`${server.origin}/blank.html`);
    }
    const { passed, failed } = await page.evaluate(runWorker);
    if (failed) console.error(failed);
    else console.log(`${passed} tests passed in ${((performance.now() - start) / 1000).toFixed(1)} s`);
    return failed ? 1 : 0;
  } finally {
    await browser?.close();
    await server.close();
  }
}

const [command = 'run', ...options] = process.argv.slice(2);
const gpu = options.find((option) => option.endsWith('-gpu'));
if (gpu) process.exit(await runOnGpu(gpu));
if (command === 'call') {
  await call(...options);
} else {
  const candle = options.includes('candle');
  const chosen = Object.keys(features).filter((name) => options.includes(name));
  for (const name of chosen.length ? chosen : command.startsWith('bench') ? ['simd128', 'relaxed'] : Object.keys(features)) {
    console.log(`# ${name}`);
    const path = build(name, candle && name !== 'scalar');
    if (options.includes('chromium')) {
      const status = await callInChromium(path, command, options.find((o) => o === 'cpu-time'));
      if (status !== 0) process.exit(status);
      continue;
    }
    if (name === 'relaxed' && Number(process.versions.v8.split('.')[0]) < 12) {
      console.log(`skipped: node ${process.versions.node} has only a draft of relaxed SIMD; run it with the option chromium`);
      continue;
    }
    const { status } = spawnSync(process.execPath, [fileURLToPath(import.meta.url), 'call', path, command, ...options.filter((o) => o === 'cpu-time')], { stdio: 'inherit' });
    if (status !== 0) process.exit(status ?? 1);
  }
}
