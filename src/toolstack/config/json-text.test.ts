import { expect, it } from "vitest";
import { libxlJsonText } from "./json-text.js";

it("libxl's JSON text: four spaces a level, an empty line in what is empty, absent members left out", () => {
  expect(libxlJsonText({ a: { "type.pv": {} }, b: [0, "x"], c: undefined, d: [] })).toBe(
    `{
    "a": {
        "type.pv": {

        }
    },
    "b": [
        0,
        "x"
    ],
    "d": [

    ]
}`,
  );
});
