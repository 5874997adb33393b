// The stock `openai` package, any major version that there is.
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import OpenAI, { toFile } from 'openai';
import {
  API_KEY, BASE_URL, BLOCKED_PROMPT, DOWN_PROMPT, FAILED_PROMPT, HURRIED_KEY, MODEL, OLD_MODEL,
  OTHER_KEY, POOR_KEY, PROMPT, SLOW_PROMPT, WRONG_KEY, checkBase64, checkLink, rejected, run,
} from './cases.mjs';

const LOW = { model: MODEL, size: '1024x1024', quality: 'low' };
const client = new OpenAI({ baseURL: BASE_URL, apiKey: API_KEY });

async function generate() {
  const answer = await client.images.generate({ prompt: PROMPT, ...LOW });
  assert.equal(answer.data.length, 1);
  checkBase64(answer.data[0].b64_json);
  assert.equal(answer.data[0].url, undefined);
  assert.equal(
    answer.usage.total_tokens, answer.usage.input_tokens + answer.usage.output_tokens,
  );
  assert.match(answer._request_id, /^req_/);
}

async function several() {
  const { data } = await client.images.generate({ prompt: PROMPT, n: 2, ...LOW });
  assert.equal(data.length, 2);
  for (const picture of data) checkBase64(picture.b64_json);
}

async function eventsOf(prompt) {
  const events = [];
  const fields = { prompt, stream: true, partial_images: 1, ...LOW };
  for await (const event of await client.images.generate(fields)) events.push(event);
  return events;
}

async function stream() {
  const events = await eventsOf(PROMPT);
  const last = events.at(-1);
  assert.equal(last.type, 'image_generation.completed');
  for (const event of events.slice(0, -1)) {
    assert.equal(event.type, 'image_generation.partial_image');
  }
  checkBase64(last.b64_json);
  assert.ok(last.usage.total_tokens > 0);
  const error = await rejected(() => eventsOf(BLOCKED_PROMPT));
  assert.ok(error instanceof OpenAI.APIError);
  assert.equal(error.code, 'moderation_blocked');
}

async function links() {
  const fields = { model: OLD_MODEL, prompt: PROMPT, quality: 'standard' };
  await checkLink((await client.images.generate(fields)).data[0].url);
}

// One picture, then two: forms of one field and of a list.
async function edit() {
  const made = (await client.images.generate({ prompt: PROMPT, ...LOW })).data[0].b64_json;
  const file = () => toFile(Buffer.from(made, 'base64'), 'fox.png', { type: 'image/png' });
  for (const image of [await file(), [await file(), await file()]]) {
    const answer = await client.images.edit({ image, prompt: 'make it blue', ...LOW });
    checkBase64(answer.data[0].b64_json);
    assert.ok(answer.usage.input_tokens_details.image_tokens > 0);
  }
}

async function refused(kind, code, fields = {}, apiKey = API_KEY) {
  const asking = new OpenAI({ baseURL: BASE_URL, apiKey, maxRetries: 0 });
  const error = await rejected(() => asking.images.generate({ prompt: PROMPT, ...LOW, ...fields }));
  assert.ok(error instanceof kind, `${error.name} and not ${kind.name}`);
  assert.equal(error.code, code);
  const id = error.requestID ?? error.request_id;
  assert.match(id, /^req_/);
}

async function errors() {
  await refused(OpenAI.AuthenticationError, 'invalid_api_key', {}, WRONG_KEY);
  await refused(OpenAI.PermissionDeniedError, 'permission_denied', {}, OTHER_KEY);
  await refused(OpenAI.BadRequestError, 'integer_below_min_value', { n: 0 });
  await refused(OpenAI.BadRequestError, 'unknown_parameter', { bogus: 1 });
  await refused(OpenAI.BadRequestError, 'invalid_value', { model: 'foo' });
  await refused(OpenAI.BadRequestError, 'moderation_blocked', { prompt: BLOCKED_PROMPT });
  await refused(OpenAI.RateLimitError, 'insufficient_quota', {}, POOR_KEY);
  await refused(OpenAI.InternalServerError, 'upstream_failed', { prompt: FAILED_PROMPT });
  await refused(OpenAI.InternalServerError, 'upstream_unavailable', { prompt: DOWN_PROMPT });
  const hurried = new OpenAI({ baseURL: BASE_URL, apiKey: HURRIED_KEY, maxRetries: 0 });
  const error = await rejected(async () => {
    for (let times = 0; times < 2; times += 1) {
      await hurried.images.generate({ prompt: PROMPT, ...LOW });
    }
  });
  assert.ok(error instanceof OpenAI.RateLimitError);
  assert.equal(error.code, 'rate_limit_exceeded');
}

// It gives up some times before the picture is there, and asks again.
async function retry() {
  const patient = new OpenAI({ baseURL: BASE_URL, apiKey: API_KEY, timeout: 2000, maxRetries: 5 });
  const { data } = await patient.images.generate({ prompt: SLOW_PROMPT, ...LOW });
  checkBase64(data[0].b64_json);
}

async function models() {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.ok(ids.includes(MODEL));
  assert.equal((await client.models.retrieve(MODEL)).object, 'model');
  const error = await rejected(() => client.models.retrieve('foo'));
  assert.ok(error instanceof OpenAI.NotFoundError);
  assert.equal(error.code, 'model_not_found');
}

await run({ generate, n: several, stream, url: links, edit, errors, retry, models });
