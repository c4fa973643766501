"""Makes conversations.json: see README.md.

Run: python3 chat_templates.py
"""

import datetime
import json
import pathlib

import transformers.utils.chat_template_utils as chat_template_utils

HERE = pathlib.Path(__file__).parent

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather at a place; \"quoted\", <tagged> & naïve",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Köln", "days": [1, 2.5, None, True]}}}

SYSTEM = {"role": "system", "content": "  Be brief.\n"}
USER = {"role": "user", "content": "Hi, who are you?  "}
ASSISTANT = {"role": "assistant", "content": "<think>\nA greeting.\n</think>\n\nI'm a model."}
AGAIN = {"role": "user", "content": "日本語 <|im_end|> {{ no }} 'quotes' \"double\"\n\nend"}

CONVERSATIONS = {
    "one turn": {"messages": [USER]},
    "system": {"messages": [SYSTEM, USER]},
    "several turns": {"messages": [SYSTEM, USER, ASSISTANT, AGAIN]},
    "no prompt": {"messages": [USER, ASSISTANT], "add_generation_prompt": False},
    "tools": {"messages": [SYSTEM, USER], "tools": [TOOL, TOOL]},
    "a call": {
        "messages": [
            USER,
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "content": "{\"sky\": \"grey\"}"},
            {"role": "tool", "content": "12"},
        ],
        "tools": [TOOL],
    },
    "out of order": {"messages": [USER, USER]},
    "a switch": {"messages": [USER], "enable_thinking": False},
}


class Frozen(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2025, 3, 6, 12, 0, 0)


def main():
    chat_template_utils.datetime = Frozen
    cases = []
    for path in sorted(HERE.glob("templates/*.jinja")):
        source = path.read_text()
        for name, variables in CONVERSATIONS.items():
            variables = {"add_generation_prompt": True, **variables}
            case = {"template": path.stem, "conversation": name, "variables": variables}
            try:
                compiled = chat_template_utils._compile_jinja_template(source)
                case["text"] = compiled.render(bos_token="<|bos|>", eos_token="<|eos|>", **variables)
            except Exception as error:
                case["error"] = f"{type(error).__name__}: {error}"
            cases.append(case)
    (HERE / "conversations.json").write_text(json.dumps(cases, ensure_ascii=False, indent=1) + "\n")
    for case in cases:
        if "error" in case:
            print(case["template"], "/", case["conversation"], ":", case["error"])


if __name__ == "__main__":
    main()
