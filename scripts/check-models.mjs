// Runs the published models with the packages' own JavaScript, on pictures of pseudo-random pixels.
// Usage: node check-models.mjs FOLDER-WITH-node_modules OUTPUT.json

import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';


const [folder, output] = process.argv.slice(2);
const modules = path.resolve(folder, 'node_modules/@vladmandic');
const bytes = (file) => {
  const data = fs.readFileSync(path.join(modules, file));
  return data.buffer.slice(data.byteOffset, data.byteOffset + data.length);
};

const text = (file) => new TextDecoder().decode(bytes(file));

// Smooth enough to resemble pictures; `check-models.py` makes the same ones.
// Values are whole numbers from 0 to 255, in the order height, width, channel.
function picture(seed, size) {
  const values = new Float32Array(size * size * 3);
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      for (let c = 0; c < 3; c++) {
        const wave = Math.floor((x * (seed + 3) + y * (2 * seed + 1) + c * 40) / 2) % 256;
        values[(y * size + x) * 3 + c] = wave < 128 ? 2 * wave : 511 - 2 * wave;
      }
    }
  }
  return values;
}

const seeds = [1, 2, 3, 4];
const results = { faceres: [], 'faceapi-expression': [] };

const require = createRequire(path.resolve(folder, 'x.cjs'));
// The library with which both packages run their models.
const tf = require('@tensorflow/tfjs');
await tf.setBackend('cpu');

{
  const json = JSON.parse(text('human/models/faceres.json'));
  const model = await tf.loadGraphModel({
    load: async () => ({
      modelTopology: json.modelTopology,
      weightSpecs: json.weightsManifest.flatMap((group) => group.weights),
      weightData: bytes('human/models/faceres.bin'),
      signature: json.signature,
    }),
  });
  const means = [103.939, 116.779, 123.68];
  for (const seed of seeds) {
    const pixels = picture(seed, 224).map((value, i) => value - means[i % 3]);
    const input = tf.tensor4d(pixels, [1, 224, 224, 3]);
    const names = ['age_pred/Softmax', 'gender_pred/Sigmoid'];
    const found = model.execute(input, names);
    results.faceres.push(Object.fromEntries(names.map((n, i) => [n, [...found[i].dataSync()]])));
  }
}
{
  const faceapi = require('@vladmandic/face-api/dist/face-api.node-wasm.js');
  const manifest = JSON.parse(text('face-api/model/face_expression_model-weights_manifest.json'));
  const net = new faceapi.FaceExpressionNet();
  net.loadFromWeightMap(tf.io.decodeWeights(
    bytes('face-api/model/face_expression_model.bin'), manifest.flatMap((group) => group.weights)));
  for (const seed of seeds) {
    // The net subtracts the means and divides by 255 itself.
    const input = new faceapi.NetInput([tf.tensor3d(picture(seed, 112), [112, 112, 3])]);
    const found = net.forwardInput(input);
    results['faceapi-expression'].push({ expression: [...found.dataSync()] });
  }
}
fs.writeFileSync(output, JSON.stringify(results));
