// Translates a text with the model of this folder, line by line, by bergamot-translator in node:
//
//     node translate.mjs [PACKAGE] < source.txt > translation.txt
//
// PACKAGE is the folder of @browsermt/bergamot-translator; without it, the one in the node_modules of this folder or of one above it.

import {readFileSync, readdirSync} from "node:fs";
import {createRequire} from "node:module";
import {dirname, join} from "node:path";
import {fileURLToPath} from "node:url";
import {Worker} from "node:worker_threads";

const HERE = dirname(fileURLToPath(import.meta.url));
const PACKAGE = "@browsermt/bergamot-translator";

/**
 * The files of this folder whose names begin so, as bytes.
 * @param {string} start
 */
function files(start) {
    const names = readdirSync(HERE).filter((name) => name.startsWith(start));
    return names.map((name) => new Uint8Array(readFileSync(join(HERE, name))).buffer);
}

/** The folder of the package. */
function findPackage() {
    try {
        return dirname(createRequire(import.meta.url).resolve(`${PACKAGE}/package.json`));
    } catch {
        console.error(`${PACKAGE} is in no node_modules above ${HERE}: npm install ${PACKAGE}, or give its folder: node translate.mjs FOLDER`);
        process.exit(2);
    }
}

/** The settings of this folder; each line of the file is a name and JSON. */
function settings() {
    const text = Buffer.from(files("config.")[0]).toString("utf-8");
    const lines = text.split("\n").filter((line) => line !== "");
    return Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf(":")), JSON.parse(line.slice(line.indexOf(":") + 1))]));
}

/**
 * The functions of a worker, each of which answers by a promise.
 * @param {Worker} worker
 */
function functionsOf(worker) {
    const waiting = new Map();
    let calls = 0;
    worker.on("message", ({id, result, error}) => {
        const {resolve, reject} = waiting.get(id);
        waiting.delete(id);
        error === undefined ? resolve(result) : reject(new Error(error.message));
    });
    worker.on("error", (error) => waiting.forEach(({reject}) => reject(error)));
    return (/** @type {string} */ name, /** @type {unknown[]} */ ...args) =>
        new Promise((resolve, reject) => {
            calls += 1;
            waiting.set(calls, {resolve, reject});
            worker.postMessage({id: calls, name, args});
        });
}

/**
 * The package's worker. Its script asks for `require`, which node gives no script of a package of modules: it is run from its text.
 * @param {string} folder
 */
function startWorker(folder) {
    const file = join(folder, "translator-worker.js");
    const names = `const __dirname = ${JSON.stringify(folder)}, __filename = ${JSON.stringify(file)};`;
    return new Worker(`${names}\n${readFileSync(file, "utf-8")}`, {eval: true});
}

const call = functionsOf(startWorker(join(process.argv[2] ?? findPackage(), "worker")));
const pair = {from: "source", to: "target"};
const vocabularies = [...files("vocab."), ...files("srcvocab."), ...files("trgvocab.")];
await call("initialize", {cacheSize: 0, useNativeIntGemm: false});
await call("loadTranslationModel", pair, {
    model: files("model.")[0],
    shortlist: files("lex.")[0] ?? new ArrayBuffer(0),
    vocabs: vocabularies,
    qualityModel: null,
    // A line is a sentence.
    config: {"gemm-precision": settings()["gemm-precision"], "ssplit-mode": "sentence"},
});
const lines = readFileSync(0, "utf-8").split("\n");
if (lines.at(-1) === "") lines.pop();
for (const text of lines) {
    // One by one: sentences of a batch share one limit of length, and one shortlist.
    const [translation] = text.trim() === "" ? [{target: {text: ""}}] : await call("translate", {models: [pair], texts: [{text, html: false, qualityScores: false}]});
    process.stdout.write(`${translation.target.text.replaceAll("\n", " ")}\n`);
}
process.stdout.write("", () => process.exit(0));
