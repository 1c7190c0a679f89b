"""A Llama with random weights, and what its rows write."""

import random

import torch
import transformers

from local_models.decode import Row, decode

VOCABULARY = 64
NEVER = 10**6
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def random_llama():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = transformers.LlamaConfig(
        **SIZES,
        max_position_embeddings=96,
        initializer_range=0.5,  # wide, so that greedy choices differ from token to token
        eos_token_id=NEVER,
    )
    return transformers.LlamaForCausalLM(config).float().eval()


def tokens_of(model, prompts, **how):
    """Decode prompts as one batch, 12 tokens each; the seed of a row is its prompt's sum."""
    found = [[] for _ in prompts]

    def row(prompt, into):
        def take(token, logprob, top):
            into.append(token)
            return len(into) < how.get("length", 12)

        draws = random.Random(sum(prompt))
        return Row(prompt, how.get("temperature", 0.0), how.get("top_p", 1.0), draws, take)

    decode(model, [row(prompt, into) for prompt, into in zip(prompts, found, strict=True)], pad=0)
    return found
