"""Writes answers.json: tokens of answers, and the messages that openai-harmony reads in them.

Run: TIKTOKEN_ENCODINGS_BASE=FOLDER python3 parsing_golden.py > answers.json
Needs: what harmony_golden.py needs.
"""

import json
import random

import openai_harmony as harmony

ENCODING = harmony.load_harmony_encoding(harmony.HarmonyEncodingName.HARMONY_GPT_OSS)
TEXTS = ["Simple.", "2 + 2 = 4", "天气怎么样？", "💖👩‍👩‍👧", "a\n\nb  \n", " leading", "<|not special|>", '{"a": [1, "x"]}', "to=me analysis"]
CALLS = [
    "<|channel|>commentary to=functions.f <|constrain|>json",
    "<|channel|>commentary to=functions.f<|constrain|>json",
    " to=functions.get_weather<|channel|>commentary <|constrain|>json",
    " to=functions.get_weather<|channel|>commentary<|constrain|>json",
    "<|channel|>analysis to=browser.search code",
    " to=python<|channel|>analysis code",
    "<|channel|>commentary to=functions.f",
]


def tokens(text):
    return ENCODING.encode(text, allowed_special="all")


def answer(source):
    ids = []
    for place in range(source.randrange(1, 5)):
        if place:
            ids += tokens("<|start|>assistant")
        header = source.choice(CALLS + [f"<|channel|>{channel}" for channel in ("analysis", "commentary", "final")] * 2)
        ids += tokens(header) + tokens("<|message|>")
        for _ in range(source.randrange(1, 4)):
            ids += ENCODING.encode(source.choice(TEXTS), disallowed_special=())
        if source.random() < 0.2:
            ids.append(source.choice([9552, 132990]))  # halves of characters
        ids += tokens("<|call|>" if "to=" in header and source.random() < 0.3 else "<|end|>")
        if ids[-1] == 200012:
            break
    return ids


def main():
    source = random.Random(23)
    cases = []
    for _ in range(120):
        ids = answer(source)
        messages = [
            {
                "channel": message.channel,
                "recipient": message.recipient,
                "content_type": message.content_type,
                "text": "".join(content.text for content in message.content),
            }
            for message in ENCODING.parse_messages_from_completion_tokens(ids, harmony.Role.ASSISTANT)
        ]
        cases.append({"tokens": ids, "messages": messages})
    print("[\n" + ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases) + "\n]")


if __name__ == "__main__":
    main()
