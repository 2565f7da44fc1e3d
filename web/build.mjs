/**
 * Builds the page into what TensorBoard's plugin and the HTML report send: `index.js`, which is the page, a module for
 * each view that is loaded when it is first looked at, and the licences of what is in them.
 *
 * `node build.mjs` writes the files. `node build.mjs --check` writes nothing and fails where the committed ones differ.
 */

import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build, transform } from "esbuild";

const MODULES = {
  "index.js": { entry: "src/main.ts", most: 120_000 },
  "loading.js": { entry: "src/loading/main.ts", most: 40_000 },
  "ranks.js": { entry: "src/ranks/main.ts", most: 40_000 },
};
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

/** Hands a view what `index.js` has given away, so that there is one Preact and one of each part. */
const given = {
  name: "given",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^preact$|\/given$/ }, () => ({ path: "given", namespace: "given" }));
    onLoad({ filter: /.*/, namespace: "given" }, () => ({ contents: "module.exports = globalThis.profkit;" }));
  },
};

async function bundle(entry, plugins) {
  const { outputFiles, metafile } = await build({
    absWorkingDir: HERE,
    entryPoints: [entry],
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
    plugins,
    metafile: true,
    write: false,
  });
  return { text: outputFiles[0].text, sources: Object.keys(metafile.inputs) };
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

const built = {};
for (const [name, { entry }] of Object.entries(MODULES)) {
  built[name] = await bundle(entry, name === "index.js" ? [css] : [css, given]);
}

/** What is wrong with a module. A source that is in two modules has its state twice, such as a context. */
function complaintsOf(name, { text, sources }) {
  const [bytes, { most }] = [Buffer.byteLength(text), MODULES[name]];
  console.log(`${name}: ${bytes} of ${most} bytes`);
  const twice =
    name === "index.js" ? [] : sources.filter((one) => one !== "src/jsx.ts" && built["index.js"].sources.includes(one));
  return [
    ...(bytes > most ? [`${name} has ${bytes} bytes, more than ${most}.`] : []),
    ...twice.map((one) => `${one} is in index.js and in ${name}: take it from src/given.ts.`),
  ];
}

const complaints = Object.entries(built).flatMap(([name, module]) => complaintsOf(name, module));
const texts = Object.entries(built).map(([name, { text }]) => [name, text]);
for (const [name, content] of [...texts, ["index.js.LICENSES.txt", await licences()]]) {
  const path = new URL(name, STATIC);
  if (!process.argv.includes("--check")) await writeFile(path, content);
  else if ((await readFile(path, "utf8").catch(() => "")) !== content) {
    complaints.push(`${name} is not what web/ builds: run node build.mjs and commit it.`);
  }
}
if (complaints.length) console.log(complaints.join("\n"));
process.exitCode = complaints.length ? 1 : 0;
