"""A word-level Hugging Face tokenizer whose vocabulary is the benchmark's symbols, with its chat
template.

The vocabulary is the same for every spec, so token ids never change with the data.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from data_modules.benchmark import instructions
from data_modules.benchmark.general import CONTENT_WORDS, GREETING
from data_modules.benchmark.machine import ADD, LOAD, RET
from data_modules.benchmark.payload import CAPITALS, DIGITS, LETTERS, QUERY_MARK
from data_modules.benchmark.spec import TASKS
from data_modules.benchmark.tasks import CUES, constraint_of, tag_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, UNK, BOS, EOS = "<pad>", "<unk>", "<bos>", "<eos>"

#: Ends the prompt: the model answers after it.
ANSWER = "<ans>"

#: Stands for a line break. An ordinary symbol, so decoding turns it back into one.
SEPARATOR = "<sep>"

#: `<bos>` system? user `<ans>` answer `<eos>` user `<ans>` ... The marker belongs to the answer,
#: and nothing follows `<eos>`: for every k the rendering of messages[:k] with the generation prompt
#: (which an answered conversation does not get) is a prefix of that of messages[:k+1].
CHAT_TEMPLATE = (
    "{{- bos_token -}}"
    "{%- for message in messages -%}"
    "{%- set before = messages[loop.index0 - 1].role if loop.index0 else 'start' -%}"
    "{%- if message.role == 'system' and before == 'start' -%}"
    "{{- message.content + '\\n' -}}"
    "{%- elif message.role == 'user' and before != 'user' -%}"
    "{{- message.content -}}"
    "{%- elif message.role == 'assistant' and before == 'user' -%}"
    "{{- '" + ANSWER + "' + message.content + eos_token -}}"
    "{%- else -%}"
    "{{- raise_exception('expected an optional system message, then user and assistant in turn; '"
    " + 'saw ' + message.role + ' after ' + before) -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt and messages and messages[-1].role == 'user' -%}"
    "{{- '" + ANSWER + "' -}}"
    "{%- endif -%}"
)

#: Longest sequence that any model of the benchmark is meant for, in tokens.
MODEL_MAX_LENGTH = 512


def vocabulary() -> list[str]:
    """All symbols; a symbol's place is its token id."""
    words = (
        instructions.VERBS,
        instructions.OBJECTS,
        instructions.GENERAL_VERBS,
        instructions.GENERAL_OBJECTS,
    )
    symbols = [
        *(PAD, UNK, BOS, EOS, ANSWER, SEPARATOR),
        *LETTERS,
        *CAPITALS,
        *DIGITS,
        *(f"{letter}_{digit}" for letter in LETTERS for digit in DIGITS),
        QUERY_MARK,
        *sorted(set(CUES.values())),
        *("ans", ".", ",", "[", "]", "{", "}", ":", "!", "+", "="),
        *("UP", "DOWN", "SELF"),
        *(LOAD, ADD, RET),
        *GREETING.split(),
        *CONTENT_WORDS,
        *instructions.FILLERS,
        *chain.from_iterable(chain.from_iterable(words)),
        *(tag_of(task) for task in TASKS),
        *chain.from_iterable(constraint_of(task).split() for task in TASKS),
    ]
    return list(dict.fromkeys(symbols))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer: splits at white space, reads a line break as `<sep>`, and back.

    Decoding gives the encoded text with single spaces between symbols; special tokens may be
    skipped.
    """
    # Takes seconds to import, which every worker process of the data module would wait for.
    from transformers import PreTrainedTokenizerFast

    ids = {symbol: number for number, symbol in enumerate(vocabulary())}
    core = Tokenizer(models.WordLevel(ids, unk_token=UNK))
    core.normalizer = normalizers.Replace("\n", f" {SEPARATOR} ")
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    # WordPiece is used for nothing but its space before every token but the first; no symbol begins
    # with "##".
    core.decoder = decoders.Sequence(
        [
            decoders.WordPiece(prefix="##", cleanup=False),
            decoders.Fuse(),
            decoders.Replace(f" {SEPARATOR} ", "\n"),
        ]
    )
    core.add_special_tokens(
        [AddedToken(symbol, special=True) for symbol in (PAD, UNK, BOS, EOS, ANSWER)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        unk_token=UNK,
        bos_token=BOS,
        eos_token=EOS,
        additional_special_tokens=[ANSWER],
        clean_up_tokenization_spaces=False,
        model_max_length=MODEL_MAX_LENGTH,
        padding_side="right",
        chat_template=CHAT_TEMPLATE,
    )
