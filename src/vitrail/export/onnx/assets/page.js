/* The page: unpacks what it holds, starts onnxruntime-web, and translates what is typed, line by line. Nothing is sent anywhere. */
import {Translator} from "./search.js";

async function unpacked(id) {
  const packed = Uint8Array.from(atob(document.getElementById(id).textContent), sign => sign.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function start() {
  const program = globalThis.ort;
  const script = new Blob([await unpacked("runtime-script")], {type: "text/javascript"});
  program.env.wasm.numThreads = 1; // more would need headers of a server
  program.env.wasm.wasmPaths = {mjs: URL.createObjectURL(script)};
  program.env.wasm.wasmBinary = (await unpacked("runtime")).buffer;
  const options = {executionProviders: ["wasm"]};
  const [encoder, decoder] = [
    await program.InferenceSession.create(await unpacked("encoder"), options),
    await program.InferenceSession.create(await unpacked("decoder"), options),
  ];
  const settings = JSON.parse(new TextDecoder().decode(await unpacked("settings")));
  return new Translator(program, settings, encoder, decoder);
}

export async function open() {
  const [status, form, source, target] = ["status", "form", "source", "target"].map(id => document.getElementById(id));
  try {
    globalThis.translator = await start();
  } catch (error) {
    status.textContent = `This browser cannot run it: ${error.message}`;
    throw error;
  }
  status.textContent = "Ready. Everything is computed on this machine.";
  const beams = document.getElementById("beams"), button = document.getElementById("translate");
  beams.value = globalThis.translator.settings.search.beams;
  button.disabled = false;
  form.addEventListener("submit", async event => {
    event.preventDefault();
    button.disabled = true;
    try {
      const lines = [];
      for (const line of source.value.split("\n")) {
        lines.push(await globalThis.translator.translate(line, {beams: Number(beams.value)}));
        target.textContent = lines.join("\n");
      }
    } catch (error) {
      status.textContent = `No translation: ${error.message}`;
    } finally {
      button.disabled = false;
    }
  });
}
