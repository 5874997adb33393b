// Make one low square with the AI SDK and print what it is as JSON.
import { env, stdout } from 'node:process';
import { createOpenAI } from '@ai-sdk/openai';
import { generateImage } from 'ai';

const openai = createOpenAI({ baseURL: env.BASE_URL, apiKey: env.API_KEY });
const { image } = await generateImage({
  model: openai.image('gpt-image-1.5'),
  prompt: 'a small red fox',
  size: '1024x1024',
  providerOptions: { openai: { quality: 'low' } },
});
const picture = Buffer.from(image.uint8Array);
stdout.write(JSON.stringify({ head: picture.subarray(1, 4).toString(), bytes: picture.length }));
