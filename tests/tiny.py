"""A tokenizer of single bytes, as small as the random models of these tests: saved beside them, it makes them whole."""

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

TEMPLATE = (
    "{% for message in messages %}{{ '<' + message['role'][0] + '>' + message['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<a>' }}{% endif %}"
)


def tokenizer(*, chat=True):
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    bare = Tokenizer(
        models.BPE(vocab={"<|endoftext|>": 0} | {each: at for at, each in enumerate(letters, 1)}, merges=[])
    )
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bare, eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )
    made.chat_template = TEMPLATE if chat else None
    return made


def model(folder, *, layers=4, seed=0, chat=True, kind="llama", **more):
    """A random model with its tokenizer, saved in a folder."""
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(
        kind,
        **{
            "vocab_size": 257,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 256,
            "tie_word_embeddings": True,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "pad_token_id": 0,
        }
        | more,
    )
    made = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    made.save_pretrained(folder)
    tokenizer(chat=chat).save_pretrained(folder)
    return made
