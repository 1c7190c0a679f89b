"""Small random dense models and mixtures of them, on disk, for the tests of what is built, trained and served."""

import torch
import transformers
from fusion_models import byte_level

from local_models.moe.build import Source

COMMON = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
}
IDS = torch.arange(12)[None] * 5 % 64


def dense(kind, folder, *, seed=0, **more):
    """A random model of this architecture, saved."""
    torch.manual_seed(seed)
    extra = {"llama": {"tie_word_embeddings": True}, "mistral": {"sliding_window": 4}, "qwen2": {}}[kind]
    config = transformers.AutoConfig.for_model(kind, **(COMMON | extra | more))
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.2)  # else Qwen2's biases are zeros, and nobody would miss them
    model.save_pretrained(folder)
    return Source(folder, folder.name)


def branch(base, folder, seed):
    """A copy of the base with other feed-forward layers."""
    model = loaded(base.folder)
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if ".mlp." in name:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    return Source(folder, folder.name)


def loaded(folder, **more):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **more).eval()


@torch.inference_mode()
def logits(model, ids=IDS, **options):
    return model(input_ids=ids, **options).logits


@torch.inference_mode()
def logits_by_steps(model, ids=IDS):
    """As `generate` reads: a token at a time, with the cache."""
    cache, rows = None, []
    for at in range(ids.shape[1]):
        out = model(input_ids=ids[:, at : at + 1], past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        rows.append(out.logits)
    return torch.cat(rows, dim=1)


def with_tokenizer(folder):
    """The byte-level tokenizer that knows 300 tokens, beside a model of so many."""
    byte_level().save_pretrained(folder)
