"""The official OpenAI client against a host that serves a gpt-oss with random weights: whatever it writes, answers are
well formed. Ends with an error at the first thing that doesn't hold.

Run: python reasoning_client.py BASE_URL MODEL
"""

import sys

import openai

BASE_URL, MODEL = sys.argv[1:3]
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Looks something up.",
        "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
    },
}

client = openai.OpenAI(base_url=f"{BASE_URL}/v1", api_key="none", max_retries=0, timeout=120)


def check(condition, what):
    if not condition:
        sys.exit(f"does not hold: {what}")


def options(seed, **fields):
    messages = [{"role": "user", "content": "What is the weather in Köln? 你好"}]
    return {"model": MODEL, "messages": messages, "max_completion_tokens": 48, "temperature": 1.0, "seed": seed, **fields}


def whole_parts(choice):
    message = choice.message
    calls = [(call.function.name, call.function.arguments) for call in message.tool_calls or []]
    return message.content or "", getattr(message, "reasoning_content", None) or "", calls, choice.finish_reason


def streamed_parts(stream):
    content, reasoning, calls, reason, usage = "", "", [], None, None
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            check(reason is None, "nothing follows the finish reason")
            content += choice.delta.content or ""
            reasoning += getattr(choice.delta, "reasoning_content", None) or ""
            for call in choice.delta.tool_calls or []:
                if call.index == len(calls):
                    check(call.id and call.type == "function", "a call begins with its id")
                    calls.append((call.function.name, ""))
                name, arguments = calls[call.index]
                calls[call.index] = (name, arguments + (call.function.arguments or ""))
            reason = choice.finish_reason
    return (content, reasoning, calls, reason), usage


def answers():
    for seed in range(8):
        fields = {"reasoning_effort": ["low", "medium", "high"][seed % 3]}
        if seed % 2:
            fields |= {"tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": seed % 4 == 1}
        whole = client.chat.completions.create(**options(seed, **fields))
        parts = whole_parts(whole.choices[0])
        check(parts[3] in ("stop", "length", "tool_calls"), f"a known finish reason, found {parts[3]}")
        check(bool(parts[2]) == (parts[3] == "tool_calls") or parts[3] == "length", "calls end by tool_calls")
        thoughts = whole.usage.completion_tokens_details.reasoning_tokens
        check(0 <= thoughts <= whole.usage.completion_tokens, f"{thoughts} tokens of thoughts are part of all")
        stream = client.chat.completions.create(
            **options(seed, **fields), stream=True, stream_options={"include_usage": True}
        )
        streamed, usage = streamed_parts(stream)
        check(streamed == parts, f"streamed {streamed!r} equals whole {parts!r}")
        check(usage.completion_tokens == whole.usage.completion_tokens, "both count the same tokens")


def forced_call():
    choice = {"type": "function", "function": {"name": "look_up"}}
    first = client.chat.completions.create(**options(3, tools=[TOOL], tool_choice=choice)).choices[0]
    call = first.message.tool_calls[0]
    check(call.function.name == "look_up", f"the named function is called, found {call.function.name}")
    streamed, _ = streamed_parts(client.chat.completions.create(**options(3, tools=[TOOL], tool_choice=choice), stream=True))
    check(streamed == whole_parts(first), "a forced call is streamed as it is answered")

    history = [
        {"role": "user", "content": "x"},
        first.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    for message in history[1]["tool_calls"]:
        message.pop("index", None)
    second = client.chat.completions.create(**{**options(4, tools=[TOOL]), "messages": history})
    check(second.choices[0].finish_reason, "a result of a call is answered")


def refusals():
    for field, value in (
        ("reasoning_effort", "none"),
        ("tool_choice", "required"),
        ("tools", [{"type": "custom", "custom": {"name": "x"}}]),
    ):
        try:
            client.chat.completions.create(**options(0, **{field: value}))
        except openai.BadRequestError as error:
            check(error.param.startswith(field), f"the error names {field}, found {error.param}")
        else:
            sys.exit(f"does not hold: {field} {value} is refused")


for part in (answers, forced_call, refusals):
    part()
    print(f"{part.__name__} holds")
