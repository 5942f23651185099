// The engine's worker with an eye on how much it holds at once outside of the wasm module: the longest byte arrays it makes, and the
// most that it hands to the GPU in one call. Asked with { watched: true } it answers; everything else is the worker's.

const largest = { array: 0, write: 0, mapped: 0 };
let written = 0;

for (const name of ["ArrayBuffer", "Uint8Array"]) {
  globalThis[name] = new Proxy(globalThis[name], {
    construct(target, [first, ...rest], newTarget) {
      // A view of another buffer holds nothing itself.
      if (typeof first === "number") largest.array = Math.max(largest.array, first);
      return Reflect.construct(target, [first, ...rest], newTarget === globalThis[name] ? target : newTarget);
    },
  });
}
const { writeBuffer } = GPUQueue.prototype;
GPUQueue.prototype.writeBuffer = function (buffer, offset, data, from = 0, size = data.byteLength - from) {
  largest.write = Math.max(largest.write, size);
  written += size;
  return writeBuffer.call(this, buffer, offset, data, from, size);
};
const { createBuffer } = GPUDevice.prototype;
GPUDevice.prototype.createBuffer = function (descriptor) {
  if (descriptor.mappedAtCreation) largest.mapped = Math.max(largest.mapped, descriptor.size);
  return createBuffer.call(this, descriptor);
};

// What comes before the worker listens is given to it when it does.
const early = [];
self.onmessage = (event) => early.push(event);
self.addEventListener("message", (event) => {
  if (!event.data?.watched) return;
  event.stopImmediatePropagation();
  event.data.port.postMessage({ ...largest, written });
});
await import(new URL(self.location.href).searchParams.get("worker"));
early.forEach((event) => self.onmessage(event));
