"""The docs page: `/openapi.json` for people, in one file without anything from elsewhere."""

from __future__ import annotations

DOCS_PAGE = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Inferno inference API</title>
<style>
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --accent: #d9480f; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2rem; border-bottom: 1px solid var(--line); }
code, pre, .method { font-family: ui-monospace, monospace; font-size: .9em; }
pre { background: var(--soft); padding: .75rem; overflow-x: auto; border-radius: .4rem; }
details { border: 1px solid var(--line); margin: .4rem 0;
padding: .4rem .8rem; }
summary { cursor: pointer; }
.method { color: var(--accent); font-weight: 700; margin-right: .5rem; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: .25rem .6rem;
border-bottom: 1px solid var(--line); vertical-align: top; } .muted { opacity: .7; }
</style>
</head>
<body>
<h1>Inferno inference API</h1>
<p class="muted" id="about"></p>
<p>Every call but <code>/health</code> takes <code>Authorization: Bearer YOUR_API_KEY</code>.
The machine-readable document is at <a href="/openapi.json">/openapi.json</a>.
The registry and the cluster API are at the control plane, by default on port 8085.</p>
<main id="operations"></main>
<script>
"use strict";
const element = (tag, text, parent) => {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
};
const typeOf = (schema) => {
  if (!schema) return "any";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" | ");
  if (schema.enum) return schema.enum.map((v) => JSON.stringify(v)).join(" | ");
  if (schema.type === "array") return typeOf(schema.items) + "[]";
  return schema.type || "any";
};
const limits = (schema) => ["minimum", "maximum", "exclusiveMinimum", "minLength", "maxLength",
  "minItems", "maxItems", "default"]
  .filter((k) => schema[k] !== undefined && schema[k] !== null)
  .map((k) => k + " " + JSON.stringify(schema[k])).join(", ");
const fieldTable = (schema, parent) => {
  const table = element("table", undefined, parent);
  const head = element("tr", undefined, table);
  ["field", "type", "limits"].forEach((t) => element("th", t, head));
  const required = new Set(schema.required || []);
  for (const [name, field] of Object.entries(schema.properties || {})) {
    const row = element("tr", undefined, table);
    element("code", name + (required.has(name) ? " *" : ""), element("td", undefined, row));
    element("td", typeOf(field), row);
    const inner = (field.anyOf || []).map(limits).concat(limits(field)).filter(Boolean);
    element("td", inner.join("; "), row);
  }
};
fetch("/openapi.json").then((answer) => answer.json()).then((api) => {
  document.getElementById("about").textContent = "Version " + api.info.version;
  const main = document.getElementById("operations");
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const box = element("details", undefined, main);
      const line = element("summary", undefined, box);
      const shown = element("span", method.toUpperCase(), line);
      shown.className = "method";
      element("code", path, line);
      element("span", "  " + operation.summary, line).className = "muted";
      const body = operation.requestBody;
      if (body) {
        const name = typeOf(body.content["application/json"].schema);
        fieldTable(api.components.schemas[name], box);
      }
      element("p", "Answer: " + operation.responses["200"].description, box);
    }
  }
}).catch((error) => { document.getElementById("about").textContent = String(error); });
</script>
</body>
</html>
"""
