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


    choices = client.completions.create(**options, seed=1, n=2).choices
    check([choice.index for choice in choices] == [0, 1], "two choices are numbered")
    check([choice.text for choice in choices] == [one, other], "the second choice has the next seed")
    cut = client.completions.create(**options, seed=1, extra_body={"top_k": 1}).choices[0].text
    greedy = client.completions.create(**options | {"temperature": 0}).choices[0].text
    check(cut == greedy, f"one candidate is the greedy one, found {cut!r} and {greedy!r}")
    fresh = client.completions.create(**options | {"temperature": 0, "max_tokens": 24}, frequency_penalty=2)
    check(fresh.choices[0].text != greedy, "penalties change the text")


def logprobs():
    options = {"model": MODEL, "max_tokens": 6, "temperature": 0}
    scored = client.completions.create(**options, prompt=PROMPT, logprobs=2, echo=True).choices[0]
    found = scored.logprobs
    check("".join(found.tokens) == scored.text, f"the tokens {found.tokens} are those of {scored.text!r}")
    check(found.token_logprobs[0] is None, "nothing precedes the first token of a prompt")
    for token, logprob, top, offset in zip(found.tokens, found.token_logprobs, found.top_logprobs, found.text_offset):
        check(scored.text[offset:].startswith(token), f"{token!r} is at {offset} of {scored.text!r}")
        check(logprob is None or top[token] == logprob, f"{token!r} is among {top}")
    greedy = zip(found.token_logprobs[-6:], found.top_logprobs[-6:])
    check(all(logprob == max(top.values()) for logprob, top in greedy), "greedy tokens are the most probable")

    chat = client.chat.completions.create(**options, messages=MESSAGES, logprobs=True, top_logprobs=4).choices[0]
    entries = chat.logprobs.content
    spoken = b"".join(bytes(entry.bytes) for entry in entries).decode()
    check(spoken == chat.message.content, f"the bytes are those of the answer, found {spoken!r}")
    check(all(len(entry.top_logprobs) == 4 for entry in entries), "four alternatives each")
    check(all(entry.top_logprobs[0].logprob == entry.logprob for entry in entries), "the first is the greedy one")


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
        lambda: client.completions.create(model=MODEL, prompt=PROMPT, suffix="."),
    )
    check(error.param == "suffix", f"the error names the field, found {error.param}")
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


for part in (models, completion, chat, sampling, logprobs, errors):
    part()
    print(f"{part.__name__} holds")
