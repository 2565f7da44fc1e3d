/**
 * Builds the page into what TensorBoard's plugin and the HTML report send: one module and the licences of what is in it.
 *
 * `node build.mjs` writes the files. `node build.mjs --check` writes nothing and fails where the committed ones differ.
 */

import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build, transform } from "esbuild";

const MOST_BYTES = 120_000;
const STATIC = new URL("../src/profkit/tensorboard/static/", import.meta.url);
const HERE = fileURLToPath(new URL(".", import.meta.url));
const LICENSED = ["preact"];

/** CSS as text, minified, as the page hands it to the browser itself. */
const css = {
  name: "css",
  setup({ onLoad }) {
    onLoad({ filter: /\.css$/ }, async ({ path }) => {
      const { code } = await transform(await readFile(path, "utf8"), { loader: "css", minify: true });
      return { contents: code.trim(), loader: "text" };
    });
  },
};

async function bundle() {
  const { outputFiles } = await build({
    absWorkingDir: HERE,
    entryPoints: ["src/main.ts"],
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    charset: "utf8",
    jsx: "transform",
    jsxFactory: "h",
    jsxFragment: "Fragment",
    inject: ["src/jsx.ts"],
    tsconfigRaw: {}, // the checker's settings name the automatic runtime
    legalComments: "none", // licences() has them whole
    plugins: [css],
    write: false,
  });
  return outputFiles[0].text;
}

/** What the licences ask for: their texts, beside the module. */
async function licences() {
  const texts = LICENSED.map(async (name) => {
    const root = new URL(`node_modules/${name}/`, import.meta.url);
    const { version } = JSON.parse(await readFile(new URL("package.json", root), "utf8"));
    return `${name} ${version}\n\n${(await readFile(new URL("LICENSE", root), "utf8")).trim()}\n`;
  });
  return `index.js holds:\n\n${(await Promise.all(texts)).join(`\n${"-".repeat(80)}\n\n`)}`;
}

const files = { "index.js": await bundle(), "index.js.LICENSES.txt": await licences() };
const bytes = Buffer.byteLength(files["index.js"]);
const complaints = bytes > MOST_BYTES ? [`index.js has ${bytes} bytes, more than ${MOST_BYTES}.`] : [];
for (const [name, content] of Object.entries(files)) {
  const path = new URL(name, STATIC);
  if (!process.argv.includes("--check")) await writeFile(path, content);
  else if ((await readFile(path, "utf8").catch(() => "")) !== content) {
    complaints.push(`${name} is not what web/ builds: run node build.mjs and commit it.`);
  }
}
console.log([`index.js: ${bytes} of ${MOST_BYTES} bytes`, ...complaints].join("\n"));
process.exitCode = complaints.length ? 1 : 0;
