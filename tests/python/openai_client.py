"""The official OpenAI client against a running host; ends with an error at the first thing that doesn't hold.

Run: python openai_client.py BASE_URL MODEL, where MODEL has the variants that `client.models.list()` shows.
"""

import sys

import openai

BASE_URL, MODEL = sys.argv[1:3]
PROMPT = "The capital of France is"
MESSAGES = [{"role": "user", "content": "Say hello in one sentence."}]

client = openai.OpenAI(base_url=f"{BASE_URL}/v1", api_key="none", max_retries=0, timeout=120)


def check(condition, what):
    if not condition:
        sys.exit(f"does not hold: {what}")


def models():
    names = [model.id for model in client.models.list()]
    check(MODEL in names, f"{MODEL} is listed, found {names}")
    check(f"{MODEL}@original" in names, f"{MODEL}@original is listed, found {names}")
    check(client.models.retrieve(MODEL).id == MODEL, "a model is retrieved by name")


def completion():
    options = {"model": MODEL, "prompt": PROMPT, "max_tokens": 12, "temperature": 0}
    whole = client.completions.create(**options)
    choice = whole.choices[0]
    check("Paris" in choice.text, f"SmolLM2 knows Paris, found {choice.text!r}")
    check(choice.finish_reason == "length", f"12 tokens end by length, found {choice.finish_reason}")
    check(whole.usage.completion_tokens == 12, f"usage counts 12 tokens, found {whole.usage.completion_tokens}")
    check(whole.usage.prompt_tokens > 0, "usage counts the prompt")
    check(whole.model_extra["espalier"]["variant"] == "original", "the answer names its variant")

    text, usage, reasons = "", None, []
    for chunk in client.completions.create(**options, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.text
            reasons.append(choice.finish_reason)
    check(text == whole.choices[0].text, f"streamed text {text!r} equals {whole.choices[0].text!r}")
    check(reasons[-1] == "length", f"the last chunk has the finish reason, found {reasons[-1]}")
    check(usage and usage.completion_tokens == 12, f"the stream ends with the usage, found {usage}")

    word = text.split()[1]
    stopped = client.completions.create(**options, stop=[word]).choices[0]
    check(stopped.finish_reason == "stop", f"a stop text ends by stop, found {stopped.finish_reason}")
    check(word not in stopped.text, f"the text {stopped.text!r} ends before {word!r}")
    check(text.startswith(stopped.text), f"the text before the stop is unchanged, found {stopped.text!r}")


def chat():
    options = {"model": MODEL, "messages": MESSAGES, "max_tokens": 24, "temperature": 0}
    whole = client.chat.completions.create(**options)
    message = whole.choices[0].message
    check(message.role == "assistant" and message.content, "a chat answer has a role and text")

    with client.chat.completions.create(**options, stream=True) as stream:
        chunks = list(stream)
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    check(text == message.content, f"streamed text {text!r} equals {message.content!r}")
    check(len(chunks) > 2, "a stream comes in pieces")
    check(chunks[0].choices[0].delta.role == "assistant", "the first chunk says who speaks")

    with client.chat.completions.with_streaming_response.create(**options) as response:
        check(response.headers.get("x-espalier-variant") == "original", "a header names the variant")
        check(response.headers.get("x-espalier-generation"), "a header names the generation")


def sampling():
    options = {"model": MODEL, "prompt": PROMPT, "max_tokens": 16, "temperature": 1.0, "top_p": 0.9}
    one, same, other = (client.completions.create(**options, seed=seed).choices[0].text for seed in (1, 1, 2))
    check(one == same, f"the same seed gives the same text, found {one!r} and {same!r}")
    check(one != other, f"another seed gives another text, found {one!r} twice")


def errors():
    def refused(kind, what, call):
        try:
            call()
        except kind as error:
            return error
        sys.exit(f"does not hold: {what} is refused")

    error = refused(
        openai.BadRequestError,
        "a field that isn't implemented",
        lambda: client.completions.create(model=MODEL, prompt=PROMPT, logprobs=3),
    )
    check(error.param == "logprobs", f"the error names the field, found {error.param}")
    error = refused(
        openai.BadRequestError,
        "a temperature of 9",
        lambda: client.chat.completions.create(model=MODEL, messages=MESSAGES, temperature=9),
    )
    check(error.param == "temperature", f"the error names the field, found {error.param}")
    refused(
        openai.NotFoundError,
        "an unknown model",
        lambda: client.completions.create(model="no-such-model", prompt=PROMPT),
    )


for part in (models, completion, chat, sampling, errors):
    part()
    print(f"{part.__name__} holds")
