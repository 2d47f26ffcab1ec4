"""Checks Block Kit JSON with slack_sdk's own models, and says what it counted.

Usage: check.py DIRECTORY

Each file holds {"blocks": [...]} for a message, or a view. slack_sdk knows the lengths and numbers of most things but
is lenient: it drops properties and elements it does not know, and looks inside few of them. So each block is also
written out again by it, and whatever is missing then was not understood. What it does not look into at all
(elements inside rich_text, option values of an overflow menu, mrkdwn's `verbatim`, ids that occur twice, where a
block may stand, and Slack's limit on all blocks of a message) is checked here, by the documentation.
"""

import collections
import json
import logging
import pathlib
import sys

from slack_sdk.errors import SlackObjectFormationError
from slack_sdk.models.blocks import Block
from slack_sdk.models.views import View

# slackapi/bolt-js#2509: msg_blocks_too_long, measured.
MESSAGE_CHARACTERS = 13_200
# views.open: view_too_large.
VIEW_BYTES = 250_000

MESSAGE_ONLY = {"markdown"}
VIEW_ONLY = {"input"}

# Elements inside rich_text: required properties, and further ones.
RICH = {
    "rich_text_section": ({"elements"}, set()),
    "rich_text_preformatted": ({"elements"}, {"border", "language"}),
    "rich_text_quote": ({"elements"}, {"border"}),
    "rich_text_list": ({"elements", "style"}, {"indent", "offset", "border"}),
    "text": ({"text"}, {"style"}),
    "link": ({"url"}, {"text", "style", "unsafe"}),
    "user": ({"user_id"}, {"style"}),
    "usergroup": ({"usergroup_id"}, {"style"}),
    "channel": ({"channel_id"}, {"style"}),
    "emoji": ({"name"}, {"unicode", "style", "skin_tone"}),
    "date": ({"timestamp", "format"}, {"url", "fallback", "style"}),
}

unknown = []


class Listener(logging.Handler):
    """slack_sdk says in its log what it skipped."""

    def emit(self, record):
        unknown.append(record.getMessage())


logging.getLogger("slack_sdk").addHandler(Listener(logging.WARNING))


def missing(given, parsed, path=""):
    """What is in `given` and not in `parsed`."""
    if isinstance(given, dict) and isinstance(parsed, dict):
        for key, value in given.items():
            if key not in parsed:
                # False is what an absent property means; empty ones are left out.
                if value not in (False, "", None):
                    yield f"{path}/{key} is not understood"
            else:
                yield from missing(value, parsed[key], f"{path}/{key}")
    elif isinstance(given, list) and isinstance(parsed, (list, tuple)):
        if len(given) != len(parsed):
            yield f"{path}: {len(given)} items, of which {len(parsed)} are understood"
        for i, (one, other) in enumerate(zip(given, parsed)):
            yield from missing(one, other, f"{path}[{i}]")
    elif given != parsed:
        yield f"{path}: {given!r} is read as {parsed!r}"


def rich(element, path):
    kind = element.get("type")
    if kind not in RICH:
        yield f"{path}: there is no {kind!r} in rich_text"
        return
    required, more = RICH[kind]
    for key in required - element.keys():
        yield f"{path}: {kind} without {key}"
    for key in element.keys() - required - more - {"type"}:
        yield f"{path}: {kind} has no {key}"
    for key in required - {"elements", "timestamp"}:
        if not isinstance(element.get(key), str) or not element[key]:
            yield f"{path}: {key} is empty"
    style = element.get("style", {})
    if isinstance(style, dict) and not set(style) <= {"bold", "italic", "strike", "code", "underline", "highlight"}:
        yield f"{path}: style {style}"
    if "elements" in required and not element.get("elements"):
        yield f"{path}: {kind} is empty"
    for i, inner in enumerate(element.get("elements", [])):
        nested = inner.get("type", "").startswith("rich_text")
        if nested != (kind == "rich_text_list"):
            yield f"{path}[{i}]: {inner.get('type')} in {kind}"
        yield from rich(inner, f"{path}[{i}]")


def details(block, where, path):
    kind = block.get("type")
    if kind in (MESSAGE_ONLY if where == "view" else VIEW_ONLY):
        yield f"{path}: {kind} does not belong into a {where}"
    if kind == "rich_text":
        if not block.get("elements"):
            yield f"{path}: empty"
        for i, element in enumerate(block.get("elements", [])):
            if not element.get("type", "").startswith("rich_text_"):
                yield f"{path}[{i}]: {element.get('type')} in rich_text"
            yield from rich(element, f"{path}[{i}]")
    elements = block.get("elements", []) if kind in ("actions", "context") else []
    ids = [e["action_id"] for e in elements if "action_id" in e]
    if len(ids) != len(set(ids)):
        yield f"{path}: an action_id is there twice"
    for element in [*elements, block.get("accessory") or {}, block.get("element") or {}]:
        options = element.get("options", [])
        values = [option.get("value") for option in options]
        if len(values) != len(set(values)):
            yield f"{path}: two options have one value"
        if element.get("type") == "overflow" and any(len(value) > 75 for value in values):
            yield f"{path}: a value of an overflow menu above 75 characters"
        if element.get("type") == "plain_text_input":
            most = element.get("max_length", 3000)
            if not 1 <= most <= 3000 or len(element.get("initial_value", "")) > most:
                yield f"{path}: initial_value or max_length"
    for text in texts(block):
        if text["type"] not in ("plain_text", "mrkdwn") or not text.get("text"):
            yield f"{path}: {text}"
        if set(text) - {"type", "text", "emoji" if text["type"] == "plain_text" else "verbatim"}:
            yield f"{path}: {sorted(text)} in a {text['type']}"
    for field in block.get("fields", []):
        if len(field["text"]) > 2000:
            yield f"{path}: a field above 2000 characters"


def texts(value):
    """Every text object in a block."""
    if isinstance(value, dict):
        if value.get("type") in ("plain_text", "mrkdwn"):
            yield value
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)


def deep(value):
    """Validates an object of slack_sdk and all in it."""
    if isinstance(value, (list, tuple)):
        for inner in value:
            yield from deep(inner)
    elif hasattr(value, "validate_json"):
        try:
            value.validate_json()
        except SlackObjectFormationError as error:
            yield str(error)
        for name in value.attributes:
            yield from deep(getattr(value, name, None))


def check(document, counted):
    view = "type" in document
    where = "view" if view else "message"
    blocks = document.get("blocks", [])
    if view:
        parsed = View(**document)
        yield from deep(parsed)
        yield from missing(document, parsed.get_non_null_attributes())
        if any(block.get("type") == "input" for block in blocks) and document["type"] == "modal" and "submit" not in document:
            yield "inputs without a submit"
        if len(json.dumps(document).encode()) > VIEW_BYTES:
            yield "the view is too large"
    else:
        if not 1 <= len(blocks) <= 50:
            yield f"{len(blocks)} blocks"
        size = len(json.dumps(blocks, ensure_ascii=False, separators=(",", ":")))
        if size > MESSAGE_CHARACTERS:
            yield f"{size} characters of blocks"
        if sum(len(b["text"]) for b in blocks if b.get("type") == "markdown") > 12_000:
            yield "markdown above 12000 characters"
    ids = [block["block_id"] for block in blocks if "block_id" in block]
    if len(ids) != len(set(ids)):
        yield "a block_id is there twice"
    for i, block in enumerate(blocks):
        path = f"blocks[{i}]"
        counted[block.get("type")] += 1
        try:
            parsed = Block.parse(block)
        except (TypeError, SlackObjectFormationError) as error:
            yield f"{path}: {error}"
            continue
        if parsed is None:
            yield f"{path}: {block.get('type')!r} is no block"
            continue
        for error in deep(parsed):
            yield f"{path}: {error}"
        yield from missing(block, parsed.get_non_null_attributes(), path)
        yield from details(block, where, path)


def main(directory):
    counted, views, messages, bad = collections.Counter(), 0, 0, 0
    for file in sorted(pathlib.Path(directory).glob("*.json")):
        document = json.loads(file.read_text())
        unknown.clear()
        wrong = [*check(document, counted), *unknown]
        views, messages = views + ("type" in document), messages + ("type" not in document)
        bad += bool(wrong)
        for line in wrong:
            print(f"{file.name}: {line}")
    each = ", ".join(f"{n} {kind}" for kind, n in sorted(counted.items()))
    print(f"{messages} messages and {views} views, {sum(counted.values())} blocks ({each}): {bad} bad")
    return 1 if bad or not messages or not views else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
