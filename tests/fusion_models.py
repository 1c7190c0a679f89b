"""Tiny models with random weights and real tokenizers, byte-level and SentencePiece-like, for the tests of fusion."""

from functools import cache

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from local_models.fusion.vocabulary import Vocabulary
from local_models.transformers_engine import TransformersEngine

TEXT = (
    "the cat sat on the mat and the dog ran after the cat 123 4567 42 + 58 = 100\n"
    "def add(a, b):\n    return a + b\n\nprint(add(1, 2))\n你好，世界。小明有三个苹果。\n😀 is a face 🦊 fox\n"
) * 4
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"


def wrapped(tokenizer, template=TEMPLATE):
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>", clean_up_tokenization_spaces=False
    )
    fast.chat_template = template
    return fast


@cache
def byte_level(size=300):
    """A byte-level BPE like GPT-2's, trained on TEXT."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<|end|>", "<|user|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    return wrapped(tokenizer)


@cache
def sentence_piece():
    """A BPE with ▁ for spaces and a token for each byte, as Llama's and Gemma's."""
    merges = [
        ("t", "h"),
        ("th", "e"),
        ("▁", "the"),
        ("▁", "c"),
        ("▁c", "at"),
        ("a", "t"),
        ("o", "n"),
        ("▁", "on"),
        ("1", "2"),
    ]
    merges.sort(key=lambda pair: pair == ("▁c", "at"))
    letters = sorted({*"▁abcdefghijklmnopqrstuvwxyz0123456789=+,.()你好\n"})
    names = ["<|end|>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters, *("".join(m) for m in merges)]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={name: place for place, name in enumerate(names)},
            merges=merges,
            byte_fallback=True,
            unk_token="<unk>",
        )
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["<|end|>", "<unk>"])
    return wrapped(tokenizer)


@cache
def bytes_alone():
    """A vocabulary of 256 byte tokens, other ids than `byte_level`'s."""
    names = ["<|end|>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocab = {name: place for place, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], byte_fallback=True, unk_token="<unk>"))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["<|end|>", "<unk>"])
    return wrapped(tokenizer)


def muted(tokenizer):
    """Ids that no test wants to see: control tokens, and bytes that an ordinary token writes too."""
    words = Vocabulary(tokenizer, frozenset([tokenizer.eos_token_id]), "x")
    return sorted({*range(len(words.pieces))} - {*words.ids.values()})


def engine(seed, tokenizer=None, *, mute=(), name=None, context=512, head=None, scale=0.5, parallel=8, **config):
    """A Llama of two layers with its own random weights, in fp32, that never ends by itself.

    `head`: places of its head, padding included. `mute`: ids that it never writes either.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    tokenizer = tokenizer or byte_level()
    shape = {
        "vocab_size": head or len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "initializer_range": scale,  # wide, so that greedy choices differ from token to token
        "eos_token_id": None,
        "bos_token_id": None,
    }
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**(shape | config))).float().eval()
    silent = [*muted(tokenizer), *mute]

    def hold(_model, _inputs, out):
        out.logits[..., silent] -= 50
        return out

    model.register_forward_hook(hold)
    return TransformersEngine(model, tokenizer, name or f"tiny{seed}", parallel=parallel, context=context)
