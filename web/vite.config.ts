import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";

// The studio's server, or the mock, during development.
const server = process.env.STUDIO_URL ?? "http://127.0.0.1:10101";

export default defineConfig({
  plugins: [svelte()],
  build: {
    target: "es2022",
    // The server's content policy allows files of its own only: nothing may be inlined.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
  },
  server: { proxy: { "/api": server, "/v1": server } },
  test: { include: ["tests/unit/**/*.test.ts"], environment: "jsdom", setupFiles: ["tests/unit/setup.ts"] },
});
