// What clients from Node share: how cases are run and told, and what a picture is.
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { env, stdout } from 'node:process';

export const { BASE_URL, API_KEY, POOR_KEY, HURRIED_KEY, OTHER_KEY, LABEL } = env;

export const MODEL = 'gpt-image-1.5';
// A name of old times, which the gateway has as an alias.
export const OLD_MODEL = 'dall-e-3';
export const PROMPT = 'a small red fox';
// Longer than this client, or the gateway, waits for one answer.
export const SLOW_PROMPT = `${PROMPT} [[latency:10]][[label:${LABEL}]]`;
export const BLOCKED_PROMPT = `${PROMPT} [[fail:content_policy_violation]]`;
export const FAILED_PROMPT = `${PROMPT} [[empty-results]]`;
export const DOWN_PROMPT = `${PROMPT} [[submit:unauthorized]]`;
export const WRONG_KEY = 'sk-wrong-0123456789abcdef';

export function checkPicture(content, [width, height] = [1024, 1024]) {
  const picture = Buffer.from(content);
  assert.equal(picture.subarray(1, 4).toString(), 'PNG');
  assert.deepEqual([picture.readUInt32BE(16), picture.readUInt32BE(20)], [width, height]);
}

export function checkBase64(text) {
  assert.ok(text);
  checkPicture(Buffer.from(text, 'base64'));
}

export async function checkLink(url) {
  assert.ok(url);
  const answer = await fetch(url);
  checkPicture(await answer.arrayBuffer());
}

// The error that a call is rejected with.
export async function rejected(call) {
  try {
    await call();
  } catch (error) {
    return error;
  }
  assert.fail('nothing was thrown');
}

// Run the cases that are asked for; tell of each on a line of its own what was wrong.
export async function run(cases) {
  for (const name of env.CASES.split(',')) {
    let wrong = '';
    try {
      await cases[name]();
    } catch (error) {
      wrong = `${error.name}: ${error.message}`.slice(0, 500);
    }
    stdout.write(`${JSON.stringify({ case: name, wrong })}\n`);
  }
}
