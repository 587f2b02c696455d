// Vercel's AI SDK with its providers for OpenAI and for servers of OpenAI's API.

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, generateObject, generateText, stepCountIs, streamObject, streamText, tool } from "ai";
import { z } from "zod";
import { COUNT, FRANCE, PERSON_REQUEST, WEATHER, main, refused, url } from "./cases.mjs";

const settings = { name: "forge", baseURL: `${url}/v1`, apiKey: "none" };
const compatible = createOpenAICompatible({ ...settings, supportsStructuredOutputs: true, includeUsage: true });
const openai = createOpenAI(settings);
const common = { temperature: 0, maxOutputTokens: 32, maxRetries: 0 };
const Person = z.object({ name: z.string(), age: z.number().int() });
const weather = (called) => ({
  get_weather: tool({
    description: "Return the weather in a city",
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => { called.push(city); return `Sunny in ${city}`; },
  }),
});

async function streamed(model) {
  const errors = [];
  const made = streamText({ ...common, model, prompt: FRANCE, onError: ({ error }) => errors.push(error) });
  const pieces = [];
  for await (const piece of made.textStream) pieces.push(piece);
  if (errors.length) throw errors[0];
  const usage = await made.usage;
  return { text: pieces.join(""), pieces: pieces.length, usage: [usage.inputTokens, usage.outputTokens] };
}

await main({
  async chat() {
    const made = await generateText({ ...common, model: compatible("llm"), prompt: FRANCE });
    return { text: made.text, usage: [made.usage.inputTokens, made.usage.outputTokens], reason: made.finishReason };
  },
  chat_stream: () => streamed(compatible("llm")),
  async chat_openai() {
    return (await generateText({ ...common, model: openai.chat("llm"), prompt: FRANCE })).text;
  },
  chat_openai_stream: () => streamed(openai.chat("llm")),
  async generate_object() {
    const made = await generateObject({ ...common, maxOutputTokens: 200, model: compatible("llm"), schema: Person, prompt: PERSON_REQUEST });
    return made.object;
  },
  async stream_object() {
    const made = streamObject({ ...common, maxOutputTokens: 200, model: compatible("llm"), schema: Person, prompt: PERSON_REQUEST });
    for await (const _ of made.partialObjectStream);
    return await made.object;
  },
  async output_object() {
    const made = await generateText({ ...common, maxOutputTokens: 200, model: openai.chat("llm"), prompt: PERSON_REQUEST, output: Output.object({ schema: Person }) });
    return made.output;
  },
  async tool() {
    const called = [];
    const made = await generateText({
      ...common, maxOutputTokens: 100, model: compatible("llm"), prompt: WEATHER, tools: weather(called),
      toolChoice: { type: "tool", toolName: "get_weather" }, stopWhen: stepCountIs(1),
    });
    return { called, name: made.toolCalls[0].toolName, arguments: made.toolCalls[0].input, reason: made.finishReason };
  },
  async tool_stream() {
    const called = [];
    const made = streamText({
      ...common, maxOutputTokens: 100, model: compatible("llm"), prompt: WEATHER, tools: weather(called),
      toolChoice: "required", stopWhen: stepCountIs(1),
    });
    await made.consumeStream();
    const [call] = await made.toolCalls;
    return { called, name: call.toolName, arguments: call.input };
  },
  async stop() {
    const made = await generateText({ ...common, maxOutputTokens: 40, model: compatible("llm"), prompt: COUNT, stopSequences: ["4"] });
    return { text: made.text, reason: made.finishReason };
  },
  async completion() {
    return (await generateText({ ...common, maxOutputTokens: 8, model: compatible.completionModel("llm"), prompt: "The capital of France is" })).text;
  },
  async responses() {
    return (await generateText({ ...common, model: openai.responses("llm"), prompt: FRANCE })).text;
  },
  async responses_stream() {
    return await streamed(openai.responses("llm"));
  },
  wrong_model: () => refused(() => generateText({ ...common, model: compatible("gpt-4o"), prompt: FRANCE })),
});
