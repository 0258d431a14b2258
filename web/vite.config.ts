/**
 * Builds the editor into `../server/static`, from where the node serves it: `index.html` for `/` and `/r/…`, everything
 * else hashed below `/assets/`. Text assets also get a `.br` and a `.gz` beside them, compressed once here instead of
 * on each request.
 *
 * `npm run dev` proxies `/ws`, `/api` and `/health` to a running node (TUTTI_DEV_SERVER, default 127.0.0.1:8000).
 */
import { readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { brotliCompressSync, gzipSync } from "node:zlib";

import { defineConfig, type Plugin } from "vite";

const devServer = process.env["TUTTI_DEV_SERVER"] ?? "http://127.0.0.1:8000";

/** Below this a compressed copy saves less than the header that announces it. */
const COMPRESS_MIN_BYTES = 1024;

function precompress(): Plugin {
  return {
    name: "precompress",
    apply: "build",
    async writeBundle(options) {
      const root = options.dir ?? ".";
      for (const file of await readdir(root, { recursive: true })) {
        if (!/\.(js|css|svg)$/.test(file)) continue;
        const bytes = await readFile(path.join(root, file));
        if (bytes.length < COMPRESS_MIN_BYTES) continue;
        await writeFile(path.join(root, `${file}.br`), brotliCompressSync(bytes));
        await writeFile(path.join(root, `${file}.gz`), gzipSync(bytes, { level: 9 }));
      }
    },
  };
}

export default defineConfig({
  base: "/",
  plugins: [precompress()],
  build: {
    outDir: "../server/static",
    emptyOutDir: true,
    target: "es2022",
    // A strict content security policy: no data: addresses and no inline script in the built page.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: {
      output: {
        // Libraries change seldom: apart from the app's own code they stay in the browser's cache over a release.
        codeSplitting: {
          groups: [
            { name: "yjs", test: /node_modules\/(yjs|lib0|y-[a-z]+)\// },
            { name: "tiptap", test: /node_modules\// },
          ],
        },
      },
    },
  },
  server: {
    proxy: {
      "/ws": { target: devServer, ws: true },
      "/api": devServer,
      "/health": devServer,
    },
  },
});
