"""The page that shows the OpenAPI document to people: plain HTML, no script, nothing from elsewhere."""

import json
import re
import shlex
from collections.abc import Iterator
from html import escape
from typing import Any, Final, NamedTuple

from api.operations import REALTIMEKIT

_Json = dict[str, Any]

STYLE: Final = """
:root { --ink: #1c2430; --soft: #5b6675; --line: #dfe4ea; --pale: #f4f6f8; --link: #1558b0; --page: #fff }
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #dde3ea; --soft: #98a3b1; --line: #303947; --pale: #1d232d; --link: #8ab4f8; --page: #14181f
  }
}
* { box-sizing: border-box }
html { scroll-padding-top: 1rem }
body { margin: 0; color: var(--ink); background: var(--page); font: 16px/1.5 system-ui, sans-serif }
a { color: var(--link); text-decoration: none }
a:hover { text-decoration: underline }
nav { padding: 1.5rem; border-bottom: 1px solid var(--line); background: var(--pale); font-size: .9rem }
nav ul { list-style: none; margin: .25rem 0 1rem; padding: 0 }
nav li { padding: .1rem 0 }
main { max-width: 60rem; padding: 1.5rem }
h1 { margin-top: 0 }
h2 { margin: 3rem 0 0; border-bottom: 1px solid var(--line) }
h4 { margin: 1.25rem 0 .25rem; font-size: .85rem; color: var(--soft) }
article { margin: 1.5rem 0 2.5rem }
code, pre { font: .85rem/1.5 ui-monospace, monospace }
code { overflow-wrap: anywhere }
pre { padding: .75rem 1rem; border-radius: 6px; background: var(--pale); overflow-x: auto }
table { width: 100%; border-collapse: collapse; font-size: .9rem }
td { padding: .35rem .75rem .35rem 0; border-top: 1px solid var(--line); vertical-align: top }
td:first-child { width: 14rem }
small { color: var(--soft) }
.method { padding: .15rem .5rem; border-radius: 4px; background: #5b6675; color: #fff; font-size: .8rem }
.get { background: #1558b0 }
.post { background: #19703a }
.put, .patch { background: #8a5300 }
.delete { background: #ab2626 }
@media (min-width: 60rem) {
  body { display: grid; grid-template-columns: 17rem 1fr }
  nav { position: sticky; top: 0; height: 100vh; overflow-y: auto }
  nav { border: 0; border-right: 1px solid var(--line) }
  main { padding: 2rem 3rem }
}
@media (max-width: 40rem) {
  td { display: block; border: 0; padding: 0 }
  td:first-child { padding-top: .6rem; width: auto }
}
"""


def docs_page(document: _Json, base_url: str) -> str:
    """The page of a document whose paths lie below `base_url`."""
    operations = list(_operations(document))
    tags = list(dict.fromkeys(operation["tags"][0] for _, _, operation in operations))
    sections = "".join(
        f"<h2>{escape(tag)}</h2>"
        + "".join(
            _operation(path, method, operation, document, base_url)
            for path, method, operation in operations
            if operation["tags"][0] == tag
        )
        for tag in tags
    )
    info = document["info"]
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{escape(info["title"])} API</title>
<style>{STYLE}</style>
<nav>
{"".join(_contents(tag, operations) for tag in tags)}
<b>objects</b><ul>{_object_links(document)}</ul>
</nav>
<main>
<h1>{escape(info["title"])} API <small>{escape(info["version"])}</small></h1>
<p>{_prose(info["description"])} Below are the paths of the first;
<a href="/openapi.json">openapi.json</a> has all.</p>
<p>Answers are <code>{{"success": true, "data": …}}</code>, errors are an
<a href="#ErrorAnswer">ErrorAnswer</a>. Bodies are JSON.</p>
{sections}
<h2>objects</h2>
{"".join(_objects(document))}
</main>
</html>
"""


def _operations(document: _Json) -> Iterator[tuple[str, str, _Json]]:
    for path, item in document["paths"].items():
        if not path.startswith(REALTIMEKIT):
            for method, operation in item.items():
                yield path, method, operation


def _contents(tag: str, operations: list[tuple[str, str, _Json]]) -> str:
    links = "".join(
        f'<li><a href="#{operation["operationId"]}">{escape(operation["operationId"].replace("_", " "))}</a>'
        for _, _, operation in operations
        if operation["tags"][0] == tag
    )
    return f"<b>{escape(tag)}</b><ul>{links}</ul>"


def _operation(path: str, method: str, operation: _Json, document: _Json, base_url: str) -> str:
    parameters = [
        _Row(each["name"], each["in"], each["required"], each["schema"], each.get("description", ""))
        for each in operation["parameters"]
    ]
    body = _content(operation.get("requestBody", {}))
    answers = "".join(_answer(status, answer, document) for status, answer in operation["responses"].items())
    return f"""<article id="{operation["operationId"]}">
<h3><span class="method {method}">{method.upper()}</span> <code>{escape(path)}</code></h3>
<p>{_prose(operation["summary"])}.{"" if operation["security"] else " Needs no key."}</p>
{_table("Parameters", parameters, document)}
{f"<h4>Body</h4><p>{_type(body, document)}</p>" if body else ""}
<h4>Answers</h4><table>{answers}</table>
<h4>Example</h4><pre>{escape(_curl(path, method, operation, body, document, base_url))}</pre>
</article>
"""


def _answer(status: str, answer: _Json, document: _Json) -> str:
    schema = _content(answer)
    shown = schema.get("properties", {}).get("data", schema)
    text = _type(shown, document) if shown else ", ".join(map(escape, answer.get("content", {})))
    headers = "".join(f" <small>{escape(name)}</small>" for name in answer.get("headers", {}))
    paging = (
        f", {_type(schema['properties']['paging'], document)}"
        if "paging" in schema.get("properties", {})
        else ""
    )
    return f"<tr><td>{status} {escape(answer['description'])}<td>{text}{paging}{headers}"


class _Row(NamedTuple):
    """A parameter, with where it is sent, or a field of an object."""

    name: str
    place: str
    required: bool
    schema: _Json
    description: str


def _table(title: str, rows: list[_Row], document: _Json) -> str:
    cells = "".join(_row(row, document) for row in rows)
    return f"{f'<h4>{title}</h4>' if title else ''}<table>{cells}</table>" if rows else ""


def _row(row: _Row, document: _Json) -> str:
    notes = " ".join(filter(None, (row.place, "required" if row.required else "")))
    default = row.schema.get("default")
    shown = f", by default {json.dumps(default)}" if default not in (None, "", []) and row.place else ""
    return (
        f"<tr><td><code>{escape(row.name)}</code> <small>{notes}</small>"
        f"<td>{_type(row.schema, document)}{escape(shown)}"
        f"{f'<br><small>{_prose(row.description)}</small>' if row.description else ''}"
    )


def _is_object(schema: _Json) -> bool:
    return "properties" in schema


def _object_links(document: _Json) -> str:
    schemas = document["components"]["schemas"]
    return "".join(
        f'<li><a href="#{name}">{name}</a>' for name in sorted(schemas) if _is_object(schemas[name])
    )


def _objects(document: _Json) -> Iterator[str]:
    for name, schema in sorted(document["components"]["schemas"].items()):
        if _is_object(schema):
            required = schema.get("required", ())
            rows = [
                _Row(field, "", field in required, each, each.get("description", ""))
                for field, each in schema["properties"].items()
            ]
            yield f'<article id="{name}"><h3>{name}</h3><p>{_prose(schema.get("description", ""))}</p>'
            yield f"{_table('', rows, document)}</article>"


def _type(schema: _Json, document: _Json) -> str:
    """What a value may be, in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        meant = document["components"]["schemas"][name]
        return f'<a href="#{name}">{name}</a>' if _is_object(meant) else _type(meant, document)
    if "anyOf" in schema:
        return " or ".join(_type(option, document) for option in schema["anyOf"])
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        return " | ".join(f"<code>{escape(json.dumps(value))}</code>" for value in values)
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}), document)}"
    return escape(f"{schema.get('format', schema.get('type', 'any'))}{_limits(schema)}")


def _limits(schema: _Json) -> str:
    limits = ""
    if "maximum" in schema:
        limits += f", {schema.get('minimum', 0):.0f} to {schema['maximum']:.0f}"
    if "maxLength" in schema:
        limits += f", {schema.get('minLength', 0)} to {schema['maxLength']} characters"
    return limits


def _prose(text: str) -> str:
    """Text with `code` in it, on one line."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(" ".join(text.split())))


def _content(part: _Json) -> _Json:
    """The schema of a body or an answer, empty if it has none."""
    for content in part.get("content", {}).values():
        schema: _Json = content.get("schema", {})
        return schema
    return {}


def _curl(path: str, method: str, operation: _Json, body: _Json, document: _Json, base_url: str) -> str:
    words = ["curl"]
    if operation["security"]:
        words.append("-u ORGANISATION:KEY")
    if method != "get":
        words.append(f"-X {method.upper()}")
    words.append(shlex.quote(base_url + path.replace("{", "$").replace("}", "")).replace("'", '"'))
    if body:
        words.append("--json " + shlex.quote(json.dumps(_example(body, document))))
    return " ".join(words)


def _example(schema: _Json, document: _Json) -> Any:
    """A value that the schema allows; of an object what it requires, or else one of its fields."""
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        return _example(schema["anyOf"][0], document)
    if _is_object(schema):
        fields = schema["properties"]
        wanted = schema.get("required") or list(fields)[1:2]
        return {name: _example(fields[name], document) for name in wanted}
    if "const" in schema or "enum" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    if schema.get("type") == "array":
        return [_example(schema["items"], document)]
    examples = {"integer": schema.get("minimum", 1), "number": 1, "boolean": True, "null": None}
    return examples.get(
        schema.get("type", ""), "https://example.com/" if schema.get("format") == "uri" else "demo"
    )
