// Translates sentences with bergamot-translator in node: the request as JSON on stdin, the translations as JSON on stdout.
// Usage: node bergamot.mjs PACKAGE, where PACKAGE is the folder of @browsermt/bergamot-translator.

import {readFileSync} from "node:fs";
import {join} from "node:path";
import {Worker} from "node:worker_threads";

/** @typedef {{model: string, vocabularies: string[], shortlist: string | null, config: Object<string, string>, texts: string[]}} Request */

/** @param {string} file */
function bytes(file) {
    const data = readFileSync(file);
    return data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength);
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

/** @type {Request} */
const request = JSON.parse(readFileSync(0, "utf-8"));
const call = functionsOf(startWorker(join(process.argv[2], "worker")));
const pair = {from: "source", to: "target"};
await call("initialize", {cacheSize: 0, useNativeIntGemm: false});
await call("loadTranslationModel", pair, {
    model: bytes(request.model),
    shortlist: request.shortlist === null ? new ArrayBuffer(0) : bytes(request.shortlist),
    vocabs: request.vocabularies.map(bytes),
    qualityModel: null,
    config: request.config,
});
const found = [];
for (const text of request.texts) {
    // One by one: a batch has one limit of length, and one shortlist.
    const [translation] = await call("translate", {models: [pair], texts: [{text, html: false, qualityScores: false}]});
    found.push(translation.target.text);
}
process.stdout.write(JSON.stringify(found), () => process.exit(0));
