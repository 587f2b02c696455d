// Cases of one client: runs all of them and prints JSON, as tests/clients/cases.py does.

export const FRANCE = "What is the capital of France?";
export const PERSON_REQUEST = "Ada Lovelace is 36 years old. Give her name and age as JSON.";
export const WEATHER = "What is the weather in Paris?";
export const COUNT = "Count from 1 to 10.";
export const WEATHER_PARAMETERS = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
export const url = process.argv[2];

export async function refused(what) {
  try {
    return { type: null, text: JSON.stringify(await what()) };
  } catch (error) {
    return { type: error.constructor.name, text: error.message, status: error.status ?? error.statusCode };
  }
}

export async function main(cases) {
  const names = process.argv.length > 3 ? process.argv.slice(3) : Object.keys(cases);
  const results = {};
  for (const name of names) {
    try {
      results[name] = { value: await cases[name]() };
    } catch (error) {
      console.error(name, error);
      results[name] = { error: error.constructor.name, message: String(error.message).slice(0, 2000) };
    }
  }
  console.log("\nRESULTS " + JSON.stringify(results));
}
