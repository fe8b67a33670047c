/**
 * The lab as static files: `vite build` makes dist/web, which any file server can host; `vite` serves it from its sources.
 * Addresses are relative, so that it works in any folder.
 */
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin } from "vite";

/** iced-x86 is packed for Node: as a module for pages, that fetches its WebAssembly file. */
function icedForPages(): Plugin {
  return {
    name: "iced-for-pages",
    enforce: "pre",
    transform(code, id) {
      if (!/iced-x86[\\/]iced_x86\.js$/.test(id)) return null;
      const body = code
        .replace(/const \{ TextDecoder, TextEncoder \} = require\(.util.\);/, "")
        .replace(/const path = require\('path'\)[^\n]*\n/, "")
        .replace(
          /const bytes = require\('fs'\)[^\n]*\n/,
          "const bytes = await (await fetch(wasmUrl)).arrayBuffer();\n",
        );
      if (!body.includes("fetch(wasmUrl)")) throw new Error("iced-x86 is packed in another way than this knows");
      const names = ["Decoder", "DecoderOptions", "Formatter", "FormatterSyntax"];
      const own = names.map((n) => `const own${n} = module.exports.${n};`).join("");
      const exports = names.map((n) => `own${n} as ${n}`).join(", ");
      return {
        code: `import wasmUrl from "iced-x86/iced_x86_bg.wasm?url";\nconst module = { exports: {} };\n${body}\n${own}\nexport { ${exports} };\n`,
        map: null,
      };
    },
  };
}

/** What a server has beside the lab: `xenolith web` answers with its own, a plain file server with this. */
function labFile(): Plugin {
  return {
    name: "lab-file",
    generateBundle() {
      this.emitFile({ type: "asset", fileName: "lab.json", source: '{ "debian": null, "service": false }\n' });
    },
  };
}

const root = fileURLToPath(new URL("src/web", import.meta.url));

export default defineConfig({
  root,
  base: "./",
  publicDir: false,
  assetsInclude: ["**/*.elf"],
  plugins: [icedForPages(), labFile(), svelte({ configFile: false })],
  worker: { format: "es" },
  build: {
    outDir: fileURLToPath(new URL("dist/web", import.meta.url)),
    emptyOutDir: true,
    target: "es2022",
    // Guests are files of their own, never text within the program.
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 2000,
  },
  optimizeDeps: { exclude: ["iced-x86"] },
  server: {
    headers: {
      "Cross-Origin-Opener-Policy": "same-origin",
      "Cross-Origin-Embedder-Policy": "require-corp",
    },
  },
});
