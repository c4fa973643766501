"""Answers kept to schemas, through the official OpenAI client, validated by the jsonschema package.

Run: python structured_client.py BASE_URL MODEL [PROMPTS], where MODEL has a chat format. Ends with an error at the first
thing that doesn't hold.
"""

import json
import random
import re
import sys
from typing import Literal

import jsonschema
import openai
import pydantic

BASE_URL, MODEL = sys.argv[1:3]
PROMPTS = int(sys.argv[3]) if len(sys.argv) > 3 else 200
WORDS = "river stone seven quick lantern paper order green city mountain list letter number of the and with".split()
SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{1,4}$"},
        "title": {"type": "string", "minLength": 1, "maxLength": 12},
        "kind": {"enum": ["small", "large", 7, None]},
        "price": {"type": "number", "minimum": 0.5, "exclusiveMaximum": 100},
        "count": {"type": "integer", "minimum": -3, "maximum": 250},
        "sold": {"type": "boolean"},
        "parts": {"type": "array", "items": {"$ref": "#/$defs/part"}, "minItems": 1, "maxItems": 2},
        "owner": {"anyOf": [{"$ref": "#/$defs/person"}, {"type": "null"}]},
    },
    "required": ["id", "title", "kind", "price", "parts", "owner"],
    "additionalProperties": False,
    "$defs": {
        "person": {
            "type": "object",
            "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "minimum": 0}},
            "required": ["name"],
            "additionalProperties": False,
        },
        "part": {
            "type": "object",
            "properties": {
                "code": {"type": "string", "pattern": "^[a-f0-9]+$", "minLength": 2, "maxLength": 6},
                "weights": {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1}, "maxItems": 2},
            },
            "required": ["code", "weights"],
            "additionalProperties": False,
        },
    },
}

client = openai.OpenAI(base_url=f"{BASE_URL}/v1", api_key="none", max_retries=0, timeout=600)


def check(condition, what):
    if not condition:
        sys.exit(f"does not hold: {what}")


def random_prompts():
    """Hot answers to nonsense: nothing but the grammar makes them JSON."""
    validator = jsonschema.Draft202012Validator(SCHEMA)
    draw = random.Random(1)
    ended = 0
    for first in range(0, PROMPTS, 50):
        count = min(50, PROMPTS - first)
        prompts = [" ".join(draw.choices(WORDS, k=draw.randint(1, 12))) for _ in range(count)]
        answer = client.completions.create(
            model=MODEL, prompt=prompts, temperature=1.5, seed=first, max_tokens=400, extra_body={"structured_outputs": {"json": SCHEMA}}
        )
        for choice in answer.choices:
            if choice.finish_reason == "stop":
                validator.validate(json.loads(choice.text))
                ended += 1
    print(f"{ended} of {PROMPTS} texts ended in time, and all of them are valid")
    check(ended >= PROMPTS // 2, f"most texts end in time, found {ended} of {PROMPTS}")


class Step(pydantic.BaseModel):
    kind: Literal["add", "remove"]
    amount: int = pydantic.Field(ge=0, le=99)


class Plan(pydantic.BaseModel):
    steps: list[Step] = pydantic.Field(max_length=2)
    done: bool


def chat():
    messages = [{"role": "user", "content": "Plan something."}]
    options = {"model": MODEL, "messages": messages, "temperature": 1.5, "max_tokens": 300}
    strict = {"type": "json_schema", "json_schema": {"name": "item", "schema": SCHEMA, "strict": True}}
    text, reason = "", None
    for chunk in client.chat.completions.create(**options, seed=3, response_format=strict, stream=True):
        text += chunk.choices[0].delta.content or ""
        reason = chunk.choices[0].finish_reason or reason
    whole = client.chat.completions.create(**options, seed=3, response_format=strict).choices[0]
    check((whole.message.content, whole.finish_reason) == (text, reason), "a stream says what the whole answer says")
    if reason == "stop":
        jsonschema.validate(json.loads(text), SCHEMA)
    parsed = 0
    for seed in range(8):
        try:
            answer = client.chat.completions.parse(**options, seed=seed, response_format=Plan)
        except openai.LengthFinishReasonError:
            continue
        check(isinstance(answer.choices[0].message.parsed, Plan), "an answer is parsed into the model that it is kept to")
        parsed += 1
    check(parsed >= 4, f"most answers end in time, found {parsed} of 8")


def others():
    options = {"model": MODEL, "prompt": "x", "temperature": 1.5, "max_tokens": 60, "seed": 5}
    for extra, expression in (
        ({"guided_choice": ["north", "south"]}, "north|south"),
        ({"guided_regex": "[0-9]{4}-[0-9]{2}"}, "[0-9]{4}-[0-9]{2}"),
        ({"guided_grammar": 'start: "(" WORD ")"\nWORD: /[a-z]{1,5}/'}, r"\([a-z]{1,5}\)"),
    ):
        choice = client.completions.create(**options, extra_body=extra).choices[0]
        check(re.fullmatch(expression, choice.text), f"{extra} is kept, found {choice.text!r}")
        check(choice.finish_reason == "stop", f"{extra} ends by stop, found {choice.finish_reason}")
    try:
        client.completions.create(**options, extra_body={"guided_json": {"type": "array", "uniqueItems": True}})
    except openai.BadRequestError as error:
        check(error.param == "guided_json" and "uniqueItems" in error.message, f"the keyword is named, found {error}")
    else:
        sys.exit("does not hold: what can't be enforced is refused")


random_prompts()
chat()
others()
