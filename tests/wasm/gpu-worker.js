// Runs the op suite on this browser's GPU and posts lines of text as it goes, at last { passed } or { failed }.

import { chooseDevice } from "/www/worker/choose-device.js";
import init, { Suite } from "/pkg/ops_runner.js";

/** Tests under way at once. A browser may take a tenth of a second to give a buffer back, and gives many back together. */
const TOGETHER = 48;

// Assertions say what they are about; other tests are under way meanwhile.
globalThis.testFailed = (message) => {
  postMessage({ failed: message });
  close();
};

try {
  await init();
  // The page's own way to subgroups.
  const { adapterName, subgroupMinSize } = await chooseDevice("webgpu");
  const packedDots = navigator.gpu.wgslLanguageFeatures?.has("packed_4x8_integer_dot_product") ?? false;
  const suite = await Suite.open(subgroupMinSize, packedDots);
  const names = suite.names();
  postMessage({ line: `${names.length} tests on ${adapterName || "an adapter without a name"}, ${subgroupMinSize ? `subgroups of ${subgroupMinSize}` : "no subgroups"}` });
  let next = 0;
  const work = async () => {
    while (next < names.length) await suite.run(next++);
  };
  await Promise.all(Array.from({ length: TOGETHER }, work));
  postMessage({ passed: names.length });
} catch (error) {
  postMessage({ failed: String(error.stack ?? error) });
}
