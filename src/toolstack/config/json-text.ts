// The text form of libxl's JSON: what `xl list -l`, `xl create -n` and the configuration inside a saved domain look like.
//
// It is yajl's: four spaces a level, and an empty object or list has an empty line inside. Keys come in the order the object has them.

type Json = null | boolean | number | string | readonly unknown[] | Readonly<Record<string, unknown>>;

/** One value, without a line end after it. Members that are `undefined` are left out. */
export function libxlJsonText(value: unknown): string {
  return text(value as Json, "");
}

function text(value: Json, indent: string): string {
  if (Array.isArray(value)) {
    return block(
      "[",
      value.map((v) => text(v as Json, `${indent}    `)),
      "]",
      indent,
    );
  }
  if (typeof value === "object" && value !== null) {
    const members = Object.entries(value).filter(([, v]) => v !== undefined);
    return block(
      "{",
      members.map(([k, v]) => `${JSON.stringify(k)}: ${text(v as Json, `${indent}    `)}`),
      "}",
      indent,
    );
  }
  return JSON.stringify(value);
}

function block(open: string, items: readonly string[], close: string, indent: string): string {
  return `${open}\n${items.map((i) => `${indent}    ${i}`).join(",\n")}\n${indent}${close}`;
}
