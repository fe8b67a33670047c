# Read by ./demo and ./run-tests: packages and build, where they are missing or older than the sources.
say() { echo "== $*" >&2; }

if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
  echo "Node.js 20.19 or newer with npm is needed: https://nodejs.org or your distribution's packages" >&2
  exit 1
fi
if ! node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)'; then
  echo "Node.js 20.19 or newer is needed, this is $(node --version)" >&2
  exit 1
fi
if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  say "npm packages"
  npm ci --no-audit --no-fund >&2
fi
if [ ! -e dist/cli/main.js ] || [ -n "$(find src package.json tsconfig*.json -newer dist/cli/main.js -type f | head -n 1)" ]; then
  say "build"
  npm run --silent build:lib >&2
  touch dist/cli/main.js
fi
