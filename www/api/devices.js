// What this machine can compute with. Nothing here starts an engine.

/** A function that makes a v128: valid only where the engine's SIMD is. */
const SIMD_MODULE = wasmModule([0x41, 0x00, 0xfd, 0x0f]);
/** The same with i32x4.relaxed_dot_i8x16_i7x16_add_s over three of them. */
const RELAXED_SIMD_MODULE = wasmModule([0x41, 0x00, 0xfd, 0x0f, 0x41, 0x00, 0xfd, 0x0f, 0x41, 0x00, 0xfd, 0x0f, 0xfd, 0x93, 0x02]);

/** More threads than this share one memory bus without getting faster. */
const MAX_THREADS = 8;

/**
 * A module of one function () → v128 with these instructions.
 * @param {number[]} instructions
 */
function wasmModule(instructions) {
  const body = [0x00, ...instructions, 0x0b]; // no locals … end
  return Uint8Array.of(
    0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00, // "\0asm", version 1
    0x01, 0x05, 0x01, 0x60, 0x00, 0x01, 0x7b, // type section: () → v128
    0x03, 0x02, 0x01, 0x00, // function section: one, of type 0
    0x0a, body.length + 2, 0x01, body.length, ...body, // code section
  );
}

export function hasSimd() {
  return typeof WebAssembly === "object" && WebAssembly.validate(SIMD_MODULE);
}

/** Whether the module that uses relaxed SIMD can run; its integer dots are half of the quantized kernels' work. */
export function hasRelaxedSimd() {
  return typeof WebAssembly === "object" && WebAssembly.validate(RELAXED_SIMD_MODULE);
}

/**
 * Threads the CPU path could use here: they share memory, which browsers allow only in pages that are isolated from other sites.
 * @param {number} [wanted]  how many were asked for, which may be more than the machine has cores
 */
export function usableThreads(wanted = navigator.hardwareConcurrency || 1) {
  return globalThis.crossOriginIsolated ? Math.min(wanted, MAX_THREADS) : 1;
}

/**
 * @returns {Promise<import("../llava-web.js").DeviceReport>}
 */
export async function detectDevice() {
  return {
    webgpu: await webgpuReport(),
    cpu: {
      simd: hasSimd(),
      relaxedSimd: hasRelaxedSimd(),
      threads: usableThreads(),
    },
  };
}

async function webgpuReport() {
  const { subgroupMinSize, ...report } = await detectWebgpu();
  return report;
}

/** The adapter a page or a worker gets, and what it can do. */
export async function detectWebgpu() {
  const none = { available: false, adapter: null, software: false, features: /** @type {string[]} */ ([]), limits: {}, subgroupMinSize: 0 };
  /** @type {any} */
  const gpu = /** @type {any} */ (navigator).gpu;
  if (!gpu) return none;
  let adapter;
  try {
    adapter = await gpu.requestAdapter();
  } catch {
    return none;
  }
  if (!adapter) return none;
  const { vendor = "", architecture = "", device = "", description = "", isFallbackAdapter } = adapter.info ?? {};
  /** @type {Record<string, number>} */
  const limits = {};
  // The limits are getters of the prototype, which Object.keys does not see.
  for (const name in adapter.limits) if (typeof adapter.limits[name] === "number") limits[name] = adapter.limits[name];
  return {
    available: true,
    adapter: { vendor, architecture, device, description },
    // The flag moved from the adapter to its info.
    software: Boolean(isFallbackAdapter ?? adapter.isFallbackAdapter) || /swiftshader|llvmpipe|lavapipe|basic render/i.test(`${architecture} ${description}`),
    features: [...adapter.features].sort(),
    limits,
    subgroupMinSize: adapter.info?.subgroupMinSize ?? 0,
  };
}
