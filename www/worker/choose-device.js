// Which device a model is loaded for, and what the module in WebAssembly cannot find out about it by itself.

import { detectWebgpu } from "../api/devices.js";
import { LlavaError } from "../api/errors.js";

/**
 * The device to load a model for: "auto" is the GPU where a real one is there. With it what the module cannot find out by itself: what
 * its adapter is called, the threads of its smallest subgroup (0 where it has none), and whether WGSL multiplies packed bytes here.
 * @param {"auto" | "webgpu" | "cpu"} wanted
 * @returns {Promise<{ device: "auto" | "webgpu" | "cpu", adapterName: string, subgroupMinSize: number, packedDots: boolean }>}
 */
export async function chooseDevice(wanted) {
  /** @type {{ device: "cpu", adapterName: string, subgroupMinSize: number, packedDots: boolean }} */
  const cpu = { device: "cpu", adapterName: "", subgroupMinSize: 0, packedDots: false };
  if (wanted === "cpu") return cpu;
  const { available, software, adapter, features, subgroupMinSize } = await detectWebgpu();
  if (!available && wanted === "webgpu") {
    throw new LlavaError("unsupported_browser",
      'This browser offers no WebGPU adapter here. Use device "cpu", or a current Chrome or Edge with hardware acceleration switched on.');
  }
  // An adapter that computes on the CPU is far slower than the engine's own CPU path.
  if (!available || (software && wanted === "auto")) return cpu;
  const { vendor = "", architecture = "", description = "" } = adapter ?? {};
  return {
    device: wanted,
    adapterName: description || [vendor, architecture].filter(Boolean).join(" "),
    subgroupMinSize: features.includes("subgroups") && askForSubgroups() ? subgroupMinSize : 0,
    packedDots: Boolean(/** @type {any} */ (navigator).gpu.wgslLanguageFeatures?.has("packed_4x8_integer_dot_product")),
  };
}

/** Devices that this thread asks for from now on have subgroups where the adapter has them: wgpu 30 does not know them in browsers. */
function askForSubgroups() {
  const prototype = /** @type {any} */ (globalThis).GPUAdapter?.prototype;
  if (!prototype) return false;
  if (prototype.requestDevice.asksForSubgroups) return true;
  const { requestDevice } = prototype;
  /** @param {any} descriptor */
  prototype.requestDevice = function (descriptor = {}) {
    const features = new Set(descriptor.requiredFeatures ?? []);
    if (this.features.has("subgroups")) features.add("subgroups");
    return requestDevice.call(this, { ...descriptor, requiredFeatures: [...features] });
  };
  prototype.requestDevice.asksForSubgroups = true;
  return true;
}
