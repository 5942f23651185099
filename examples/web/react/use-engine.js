import { useEffect, useState } from "react";

import { createEngine } from "llava-web";

/**
 * An engine for as long as the component is there. In StrictMode React mounts every component twice: the first load is then cancelled, and its worker
 * ends.
 *
 * @param {import("llava-web").EngineOptions} options  one object that stays the same; with another one, another model is loaded
 * @returns {{ engine: import("llava-web").Engine | null, progress: number, error: Error | null }}  `progress` from 0 to 1
 */
export function useEngine(options) {
  const [engine, setEngine] = useState(/** @type {import("llava-web").Engine | null} */ (null));
  const [progress, setProgress] = useState(0);
  const [error, setError] = useState(/** @type {Error | null} */ (null));

  useEffect(() => {
    const controller = new AbortController();
    const loading = createEngine({
      ...options,
      signal: controller.signal,
      onProgress: ({ loaded, total }) => {
        if (!controller.signal.aborted) setProgress(total > 0 ? loaded / total : 0);
      },
    });
    loading.then((engine) => !controller.signal.aborted && setEngine(engine), (error) => !controller.signal.aborted && setError(error));
    return () => {
      controller.abort();
      setEngine(null);
      setError(null);
      // Whether it was still loading or not.
      loading.then((engine) => engine.unload(), () => {});
    };
  }, [options]);

  return { engine, progress, error };
}
