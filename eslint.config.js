// Lint rules. The import rules are the room order of docs/architecture.md: a lower room never imports a higher one.
import { defineConfig, globalIgnores } from "eslint/config";
import tseslint from "typescript-eslint";

/** What each room may import, beside itself. */
const rooms = {
  abi: [],
  machine: ["abi"],
  hypervisor: ["abi", "machine"],
  xenstore: ["abi", "machine", "hypervisor"],
  devices: ["abi", "machine", "hypervisor", "xenstore"],
  toolstack: ["abi", "machine", "hypervisor", "xenstore", "devices"],
  api: ["abi", "machine", "hypervisor", "xenstore", "devices", "toolstack"],
  inspect: ["abi", "machine", "hypervisor", "xenstore", "devices", "toolstack", "api"],
  sys: ["abi", "machine", "hypervisor", "xenstore", "devices", "toolstack", "api", "inspect"],
  cli: ["abi", "machine", "hypervisor", "xenstore", "devices", "toolstack", "api", "sys", "inspect"],
  web: ["abi", "machine", "hypervisor", "xenstore", "devices", "toolstack", "api", "sys", "inspect"],
};

const noNode = {
  regex:
    "^node:|^(assert|buffer|child_process|crypto|events|fs|http|net|os|path|stream|tty|url|util|worker_threads|zlib)$",
  message: "Only src/sys and src/cli may use Node: take it through an interface that sys/ implements.",
};

function roomRules([room, below]) {
  const above = Object.keys(rooms).filter((r) => r !== room && !below.includes(r));
  const patterns = [];
  if (above.length > 0) {
    patterns.push({
      regex: `^(\\.\\./)+(${above.join("|")})/`,
      message: `${room} may import only ${[room, ...below].join(", ")} (docs/architecture.md).`,
    });
  }
  if (room !== "sys" && room !== "cli") patterns.push(noNode);
  return {
    files: [`src/${room}/**/*.ts`],
    ignores: ["src/**/*.test.ts"],
    rules: { "no-restricted-imports": ["error", { patterns }] },
  };
}

export default defineConfig(
  globalIgnores(["dist/", "node_modules/", ".cache/", "src/machine/core/generated/", "**/assembly/", "guests/"]),
  tseslint.configs.recommended,
  {
    rules: {
      "@typescript-eslint/consistent-type-imports": ["error", { fixStyle: "inline-type-imports" }],
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_" }],
      eqeqeq: "error",
      "no-restricted-syntax": [
        "error",
        { selector: "TSEnumDeclaration", message: "No enum: use `as const` objects or constants." },
      ],
    },
  },
  {
    files: ["src/*.ts"],
    ignores: ["src/**/*.test.ts"],
    rules: { "no-restricted-imports": ["error", { patterns: [noNode] }] },
  },
  Object.entries(rooms).map(roomRules),
);
