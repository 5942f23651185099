export default {
  esbuild: { jsx: "automatic" },
  // The engine's files are found beside its module, which Vite's development server would otherwise move.
  optimizeDeps: { exclude: ["llava-web"] },
  // The built-in model.
  publicDir: "../../../www/models",
};
