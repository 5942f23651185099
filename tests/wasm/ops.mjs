// Runs the op suite on the CPU backend as WebAssembly: once with simd128, once with relaxed SIMD too.
//
//   node tests/wasm/ops.mjs                        the tests
//   node tests/wasm/ops.mjs bench                  times of the kernels
//   node tests/wasm/ops.mjs bench candle           the same beside candle's kernels
//   node tests/wasm/ops.mjs bench simd128          one build only

import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const features = { scalar: '', simd128: '+simd128', relaxed: '+simd128,+relaxed-simd' };

function build(name, candle) {
  const target = join(root, 'target', 'ops-runner', name);
  const env = {
    ...process.env,
    CARGO_TARGET_DIR: target,
    CARGO_PROFILE_RELEASE_LTO: 'off',
    CARGO_PROFILE_RELEASE_CODEGEN_UNITS: '4',
    CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS: features[name] ? `-C target-feature=${features[name]}` : '',
  };
  const args = ['build', '--quiet', '--release', '--target', 'wasm32-unknown-unknown', '-p', 'ops-runner'];
  if (candle) args.push('--features', 'candle');
  execFileSync('cargo', args, { cwd: root, env, stdio: 'inherit' });
  return join(target, 'wasm32-unknown-unknown', 'release', 'ops_runner.wasm');
}

async function call(path, name) {
  let memory;
  // Imports of wasm-bindgen are there when candle is (its random numbers), but nothing calls them.
  const unused = new Proxy({}, { get: (_, key) => () => { throw new Error(`${String(key)} is not provided`); } });
  const host = {
    print_line: (at, len) => console.log(new TextDecoder().decode(new Uint8Array(memory.buffer, at, len))),
    now: () => performance.now(),
  };
  const module = await WebAssembly.compile(readFileSync(path));
  const imports = Object.fromEntries(WebAssembly.Module.imports(module).map((i) => [i.module, i.module === 'host' ? host : unused]));
  const instance = await WebAssembly.instantiate(module, imports);
  memory = instance.exports.memory;
  instance.exports[name]();
}

const [command = 'run', ...options] = process.argv.slice(2);
if (command === 'call') {
  await call(options[0], options[1]);
} else {
  const candle = options.includes('candle');
  const chosen = Object.keys(features).filter((name) => options.includes(name));
  for (const name of chosen.length ? chosen : command === 'bench' ? ['simd128', 'relaxed'] : Object.keys(features)) {
    console.log(`# ${name}`);
    const path = build(name, candle && name !== 'scalar');
    // Engines before V8 11.4 have relaxed SIMD behind a flag; newer ones ignore it with a warning.
    const flags = name === 'relaxed' && Number(process.versions.v8.split('.')[0]) < 12 ? ['--experimental-wasm-relaxed-simd'] : [];
    const { status } = spawnSync(process.execPath, [...flags, fileURLToPath(import.meta.url), 'call', path, command], { stdio: 'inherit' });
    if (status !== 0) process.exit(status ?? 1);
  }
}
