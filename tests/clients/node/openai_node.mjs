// OpenAI's library for Node.

import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { COUNT, FRANCE, PERSON_REQUEST, WEATHER, WEATHER_PARAMETERS, main, refused, url } from "./cases.mjs";

const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0, timeout: 60000 });
const Person = z.object({ name: z.string(), age: z.number().int() });
const tool = {
  type: "function",
  function: { name: "get_weather", description: "Return the weather in a city", parameters: WEATHER_PARAMETERS },
};
const forced = { type: "function", function: { name: "get_weather" } };
const ask = (content, options = {}) =>
  client.chat.completions.create({
    model: "llm", max_tokens: 32, temperature: 0, messages: [{ role: "user", content }], ...options,
  });

await main({
  async chat() {
    const made = await ask(FRANCE);
    return { text: made.choices[0].message.content, usage: made.usage };
  },
  async chat_stream() {
    const stream = await ask(FRANCE, { stream: true, stream_options: { include_usage: true } });
    const pieces = [];
    const usage = [];
    for await (const chunk of stream) {
      if (chunk.choices.length) pieces.push(chunk.choices[0].delta.content ?? "");
      if (chunk.usage) usage.push(chunk.usage);
    }
    return { text: pieces.join(""), pieces: pieces.filter(Boolean).length, usage };
  },
  async aborted() {
    // A stream that its reader leaves; the next request is answered all the same.
    const stream = await ask("Tell a very long story.", { stream: true, max_tokens: 500 });
    for await (const _ of stream) break;
    return (await ask(FRANCE)).choices[0].message.content;
  },
  async parsed() {
    const made = await client.chat.completions.parse({
      model: "llm", max_tokens: 200, temperature: 0, messages: [{ role: "user", content: PERSON_REQUEST }],
      response_format: zodResponseFormat(Person, "person"),
    });
    return made.choices[0].message.parsed;
  },
  async tool() {
    const made = await ask(WEATHER, { tools: [tool], tool_choice: forced, max_tokens: 100 });
    const [call] = made.choices[0].message.tool_calls;
    return { name: call.function.name, arguments: JSON.parse(call.function.arguments), reason: made.choices[0].finish_reason };
  },
  async run_tools() {
    const called = [];
    const runner = client.chat.completions.runTools({
      model: "llm", max_tokens: 100, temperature: 0, messages: [{ role: "user", content: WEATHER }],
      tool_choice: forced,
      tools: [{
        type: "function",
        function: {
          name: "get_weather", description: "Return the weather in a city", parameters: WEATHER_PARAMETERS,
          parse: JSON.parse,
          function: ({ city }) => { called.push(city); return `Sunny in ${city}`; },
        },
      }],
    }, { maxChatCompletions: 2 });
    await runner.done();
    return { called };
  },
  async stop() {
    const made = await ask(COUNT, { max_tokens: 40, stop: ["4"] });
    return { text: made.choices[0].message.content, reason: made.choices[0].finish_reason };
  },
  async several_choices() {
    return (await ask(COUNT, { n: 2, max_tokens: 6, temperature: 1 })).choices.map((one) => one.message.content);
  },
  async logprobs() {
    const made = await ask(FRANCE, { logprobs: true, top_logprobs: 1, max_tokens: 8 });
    const content = made.choices[0].logprobs.content;
    return { text: made.choices[0].message.content, tokens: content.map((one) => one.token), tops: content.map((one) => one.top_logprobs.length) };
  },
  async completion() {
    const made = await client.completions.create({ model: "llm", prompt: "The capital of France is", max_tokens: 8, temperature: 0 });
    return made.choices[0].text;
  },
  async responses() {
    const made = await client.responses.create({ model: "llm", input: FRANCE, max_output_tokens: 32, temperature: 0 });
    return made.output_text;
  },
  async models() {
    const found = [];
    for await (const one of client.models.list()) found.push(one.id);
    return found;
  },
  wrong_model: () => refused(() => ask(FRANCE, { model: "gpt-4o" })),
});
