#!/usr/bin/env bash
# Checks what people see in Slack with a Block Kit validator that is not ours: the models of Python's slack_sdk.
# A test writes every card in every state, every modal and the App Home to a directory; the script reads them.
# Needs cargo, python3 with venv, and PyPI. Ends with 1 if anything is wrong, and if a planted fault is not found.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check slack_sdk==3.47.0
check() { "$work/venv/bin/python" tests/block_kit/check.py "$1"; }

mkdir "$work/ours"
TWELVE_BLOCKS="$work/ours" cargo test --quiet --test it slack_blocks::blocks_are_written_out >/dev/null
check "$work/ours"

# A validator that lets everything pass would be no use: each of these has to be found.
plant() {
    rm -rf "$work/planted" && mkdir "$work/planted"
    cp "$work/ours/card_pending.json" "$work/ours/modal_deny.json" "$work/planted/"
    "$work/venv/bin/python" - "$work/planted/card_pending.json" "$1" <<'PY'
import json, sys
path, fault = sys.argv[1:]
card = json.load(open(path))
blocks = card["blocks"]
button = next(b for b in blocks if b["type"] == "actions")["elements"][0]
if fault == "a header that is too long":
    blocks[0]["text"]["text"] = "x" * 151
elif fault == "a button with a value that is too long":
    button["value"] = "x" * 2001
elif fault == "an unknown style":
    button["style"] = "green"
elif fault == "a block_id that is there twice":
    blocks[0]["block_id"] = blocks[1]["block_id"] = "same"
elif fault == "an unknown block":
    blocks.append({"type": "marquee", "text": "x"})
elif fault == "an unknown property":
    blocks[0]["colour"] = "red"
elif fault == "an unknown element of rich text":
    blocks[1]["elements"][0]["elements"].append({"type": "blink", "text": "x"})
elif fault == "an empty text":
    blocks[1]["elements"][0]["elements"][0]["text"] = ""
elif fault == "an input in a message":
    blocks.append({"type": "input", "label": {"type": "plain_text", "text": "x"},
                   "element": {"type": "plain_text_input", "action_id": "v"}})
elif fault == "too much in all":
    blocks.append({"type": "markdown", "text": "x" * 12000})
else:
    sys.exit(f"no such fault: {fault}")
json.dump(card, open(path, "w"))
PY
    if check "$work/planted" >"$work/said"; then
        echo "not found: $1"
        exit 1
    fi
    echo "found, as it should be: $1: $(head -1 "$work/said")"
}
plant "a header that is too long"
plant "a button with a value that is too long"
plant "an unknown style"
plant "a block_id that is there twice"
plant "an unknown block"
plant "an unknown property"
plant "an unknown element of rich text"
plant "an empty text"
plant "an input in a message"
plant "too much in all"
