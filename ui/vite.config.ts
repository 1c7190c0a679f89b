import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

// The built files are kept in the repository: a user of the package needs no Node.
export default defineConfig({
  plugins: [svelte()],
  base: "./",
  build: {
    outDir: "../api/page",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0, // the content security policy takes no data: scripts or styles
    modulePreload: { polyfill: false },
    license: { fileName: "licences.md" },
  },
  server: { proxy: { "/v1": "http://127.0.0.1:8000" } },
});
