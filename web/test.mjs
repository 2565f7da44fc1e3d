/** Bundles tests/*.test.ts into a temporary folder and runs them with Node's own test runner. */

import { spawnSync } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const HERE = fileURLToPath(new URL(".", import.meta.url));

async function run(folder) {
  const names = (await readdir(join(HERE, "tests"))).filter((name) => name.endsWith(".test.ts"));
  await build({
    absWorkingDir: HERE,
    entryPoints: names.map((name) => join("tests", name)),
    outdir: folder,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    platform: "node",
    format: "esm",
    target: "es2022",
    jsx: "transform",
    jsxFactory: "h",
    jsxFragment: "Fragment",
    inject: ["src/jsx.ts"],
    tsconfigRaw: {}, // the checker's settings name the automatic runtime
    loader: { ".css": "text" },
    sourcemap: "inline",
  });
  const bundles = names.map((name) => join(folder, name.replace(/ts$/, "mjs")));
  const { status } = spawnSync(process.execPath, ["--enable-source-maps", "--test", "--test-reporter=dot", ...bundles], { stdio: "inherit" });
  return status ?? 1;
}

const folder = await mkdtemp(join(tmpdir(), "page-tests-"));
try {
  process.exitCode = await run(folder);
} finally {
  await rm(folder, { recursive: true });
}
