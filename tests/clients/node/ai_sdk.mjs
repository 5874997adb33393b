// The AI SDK, through its provider for OpenAI or its provider for what is like OpenAI ($PROVIDER).
import assert from 'node:assert/strict';
import { env } from 'node:process';
import { APICallError, generateImage, RetryError } from 'ai';
import {
  API_KEY, BASE_URL, BLOCKED_PROMPT, FAILED_PROMPT, MODEL, OLD_MODEL, OTHER_KEY, POOR_KEY, PROMPT,
  SLOW_PROMPT, WRONG_KEY, checkPicture, rejected, run,
} from './cases.mjs';

const provided = await import(env.PROVIDER);
function modelOf(name, apiKey = API_KEY) {
  if (provided.createOpenAICompatible) {
    const provider = provided.createOpenAICompatible({ name: 'openai', baseURL: BASE_URL, apiKey });
    return provider.imageModel(name);
  }
  return provided.createOpenAI({ baseURL: BASE_URL, apiKey }).image(name);
}

const LOW = { size: '1024x1024', providerOptions: { openai: { quality: 'low' } } };
const ask = (prompt, fields = {}, apiKey = API_KEY) => (
  generateImage({ model: modelOf(MODEL, apiKey), prompt, ...LOW, ...fields }));

async function generate() {
  const { image, usage } = await ask(PROMPT);
  checkPicture(image.uint8Array);
  assert.ok(usage.totalTokens > 0);
}

async function several() {
  const { images } = await ask(PROMPT, { n: 2 });
  assert.equal(images.length, 2);
  for (const image of images) checkPicture(image.uint8Array);
}

// It reads a link where the old model had one.
async function links() {
  const { image } = await generateImage({ model: modelOf(OLD_MODEL), prompt: PROMPT });
  checkPicture(image.uint8Array);
}

// One picture, then two.
async function edit() {
  const { image } = await ask(PROMPT);
  for (const images of [[image.uint8Array], [image.uint8Array, image.uint8Array]]) {
    const edited = await ask({ text: 'make it blue', images });
    checkPicture(edited.image.uint8Array);
  }
}

async function refused(status, prompt, apiKey) {
  const error = await rejected(() => ask(prompt, { maxRetries: 0 }, apiKey));
  assert.ok(APICallError.isInstance(error), error.name);
  assert.equal(error.statusCode, status);
  assert.ok(JSON.parse(error.responseBody).error.message.includes(error.message));
}

async function errors() {
  await refused(401, PROMPT, WRONG_KEY);
  await refused(403, PROMPT, OTHER_KEY);
  await refused(400, '');
  await refused(400, BLOCKED_PROMPT);
  await refused(429, PROMPT, POOR_KEY);
  await refused(502, FAILED_PROMPT);
}

// The gateway sends it away before the picture is there, and it comes back without a sign of it.
async function retry() {
  try {
    checkPicture((await ask(SLOW_PROMPT, { maxRetries: 4 })).image.uint8Array);
  } catch (error) {
    throw RetryError.isInstance(error) ? error.lastError : error;
  }
}

await run({ generate, n: several, url: links, edit, errors, retry });
