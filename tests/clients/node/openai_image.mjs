// Make one low square with the stock openai package ($PACKAGE) and print what it is as JSON.
import { env, stdout } from 'node:process';

const { default: OpenAI } = await import(env.PACKAGE);
const client = new OpenAI({
  baseURL: env.BASE_URL,
  apiKey: env.API_KEY,
  timeout: Number(env.TIMEOUT_MS),
});
const answer = await client.images.generate({
  model: 'gpt-image-1.5',
  prompt: 'a small red fox',
  size: '1024x1024',
  quality: 'low',
});
const picture = Buffer.from(answer.data[0].b64_json, 'base64');
stdout.write(JSON.stringify({ head: picture.subarray(1, 4).toString(), bytes: picture.length }));
