"""What a tokenizer makes of documents: tokens, and for prompts or messages which of them the model is to say."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from galvatron.errors import GalvatronError, first_line

NO_LABEL = -100


@dataclass
class Settings:
    """What a worker needs to know; plain values, as it may be in another process."""

    tokenizer: str  # a folder, or its tokenizer.json
    fields: list[str]  # one of text; prompt and completion; or messages
    kind: str = "text"  # or "prompt", "messages"
    append_eod: bool = False
    eod_token: str = ""


def tokenizer_file(path: str) -> Path:
    return Path(path) / "tokenizer.json" if Path(path).is_dir() else Path(path)


def load_tokenizer(path: str):
    import tokenizers

    file = tokenizer_file(path)
    if not file.is_file():
        raise GalvatronError(f"there is no tokenizer {file}; name a folder with tokenizer.json, or the file")
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises no class of its own
        raise GalvatronError(f"{file} is no tokenizer that can be read ({first_line(error)})") from error
    # Documents are taken whole, whatever the file says of batches of a model.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def read_eos_token(config: Path) -> str | None:
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GalvatronError(f"cannot read {config} ({first_line(error)}); mend it, or pass --eod-token") from error
    named = values.get("eos_token") if isinstance(values, dict) else None
    token = named.get("content") if isinstance(named, dict) else named
    if not isinstance(values, dict) or not isinstance(token, str | None):
        raise GalvatronError(f"{config} is no JSON object with a text as its eos_token; mend it, or pass --eod-token")
    return token


def check_unicode(place: str, text: str):
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = shown(text[error.start])
        raise GalvatronError(f"{place} has {half}, half of a surrogate pair, which is no text; mend it") from error


def shown(value) -> str:
    """The beginning of a record's value, as JSON; parquet also has what JSON has not."""
    return json.dumps(value, default=str)[:60]


def find_eod(settings: Settings, tokenizer) -> int:
    """The token that ends a document: --eod-token, else the eos_token of the tokenizer's folder."""
    config, token = tokenizer_file(settings.tokenizer).with_name("tokenizer_config.json"), settings.eod_token
    if not token and config.is_file():
        token = read_eos_token(config)
    if not token:
        raise GalvatronError(
            f"{settings.tokenizer} names no end-of-document token: there is no eos_token in {config}; pass --eod-token"
        )
    number = tokenizer.token_to_id(token)
    if number is None:
        raise GalvatronError(f"{settings.tokenizer} has no token {token}; name one of its vocabulary with --eod-token")
    return number


def largest_token(tokenizer) -> int:
    return max(tokenizer.get_vocab(with_added_tokens=True).values())


class DocumentTokenizer:
    def __init__(self, settings: Settings):
        self.settings = settings
        self.tokenizer = load_tokenizer(settings.tokenizer)
        self.end = [find_eod(settings, self.tokenizer)] if settings.append_eod else []
        self.template = load_template(settings.tokenizer) if settings.kind == "messages" else None

    def encode(self, records: list[tuple[str, dict]]) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Tokens and labels (None of text) of each record; a record is its place and values by field."""
        for place, values in records:
            self.check(place, values)
        if self.settings.kind == "text":
            texts = [values[self.settings.fields[0]] for _, values in records]
            return [(self.join(ids), None) for ids in self.batch(texts)]
        if self.settings.kind == "messages":
            return [self.encode_messages(place, values[self.settings.fields[0]]) for place, values in records]
        prompts, completions = (self.batch([values[field] for _, values in records]) for field in self.settings.fields)
        return [
            (self.join(prompt, completion), self.join([NO_LABEL] * len(prompt), completion))
            for prompt, completion in zip(prompts, completions, strict=True)
        ]

    def batch(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def join(self, *parts: list[int]) -> np.ndarray:
        return np.concatenate([np.array(part, np.int64) for part in (*parts, self.end)])

    def check(self, place: str, values: dict):
        for field, value in values.items():
            expected = list if self.settings.kind == "messages" else str
            if not isinstance(value, expected):
                what = "a list of messages" if expected is list else "text"
                raise GalvatronError(f"{place}: expects {what} in {field}, but got {shown(value)}")
            for number, message in enumerate(value if expected is list else [], 1):
                if not isinstance(message, dict):
                    raise GalvatronError(
                        f"{place}: expects message {number} of {field} to be an object, but got {shown(message)}"
                    )
            if expected is str:
                check_unicode(place, value)

    def encode_messages(self, place: str, messages: list[dict]) -> tuple[np.ndarray, np.ndarray]:
        """The template's text; labels are what it adds for each message of the assistant to the conversation before,
        with the words that make the assistant speak."""
        text = self.render(place, messages)
        check_unicode(place, text)
        spans = []
        for number, message in enumerate(messages):
            if message.get("role") != "assistant":
                continue
            before = self.render(place, messages[:number], prompts=True)
            after = self.render(place, messages[: number + 1])
            if not after.startswith(before) or not text.startswith(after):
                raise GalvatronError(
                    f"{place}: the chat template changes what was said before message {number + 1}, so it is not known "
                    "what the model is to say; split the conversation there"
                )
            spans.append((len(before), len(after)))
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        labels = [
            token if any(begin <= start and stop <= end for begin, end in spans) else NO_LABEL
            for token, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True)
        ]
        return self.join(encoding.ids), self.join(labels)

    def render(self, place: str, messages: list[dict], prompts: bool = False) -> str:
        if not messages:
            return ""
        try:
            return self.template.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompts)
        except Exception as error:  # templates raise what they like
            raise GalvatronError(f"{place}: the chat template fails ({first_line(error)})") from error


def load_template(path: str):
    import transformers

    folder = tokenizer_file(path).parent
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever a tokenizer's own code raises
        raise GalvatronError(f"cannot load the chat template of {folder} ({first_line(error)})") from error
    if not tokenizer.chat_template:
        raise GalvatronError(f"{folder} has no chat template; use one that has, or --prompt-field and --completion-field")
    return tokenizer


worker: DocumentTokenizer | None = None  # of a process of its own


def start_worker(settings: Settings):
    global worker
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    worker = DocumentTokenizer(settings)


def encode_in_worker(records: list) -> list:
    return worker.encode(records)
