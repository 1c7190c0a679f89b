"""The exact distribution of a model's next byte, by summing over every way to write the text: slow, and only for tests.

P(next byte b | x) = P(xb) / P(x), where P(x) sums over the covers of x: token sequences whose bytes begin with x, and
without the last token are a proper prefix of it. Phan et al., "Exact Byte-Level Probabilities from Tokenized Language
Models", ICLR 2025 (arXiv 2410.09303). The number of covers grows exponentially with x.
"""

import torch

from local_models.fusion.vocabulary import END, Vocabulary


class ByteModel:
    """A member after `prompt`, byte by byte. Its control tokens are left out, and all its ends are one."""

    def __init__(self, member, prompt):
        self.words = Vocabulary(member.tokenizer, member.ends, member.name)
        self.model, self.prompt = member.model, list(prompt)
        self.rows = {}

    def row(self, ids):
        """Probabilities of the next token after the reply `ids`: V+1."""
        if ids not in self.rows:
            with torch.inference_mode():
                logits = self.model(torch.tensor([[*self.prompt, *ids]])).logits[0, -1]
            self.rows[ids] = self.words.folded(logits).double().exp()
        return self.rows[ids]

    def written(self, text):
        """Every way to write exactly `text`, with its probability."""
        ways = {0: {(): 1.0}}
        for end in range(1, len(text) + 1):
            ways[end] = {
                (*ids, token): p * float(self.row(ids)[token])
                for start in range(end)
                if (token := self.words.ids.get(text[start:end])) is not None
                for ids, p in ways[start].items()
            }
        return ways

    def next(self, text):
        """The distribution after `text`: 257, the last one for the end."""
        found = torch.zeros(257, dtype=torch.float64)
        for at, ways in self.written(text).items():
            rest = text[at:]
            for ids, p in ways.items():
                for place, piece in enumerate(self.words.surfaces):
                    if piece == END and not rest:
                        found[256] += p * self.row(ids)[place]
                    elif piece and piece.startswith(rest) and len(piece) > len(rest) and self.words.ids[piece] == place:
                        found[piece[len(rest)]] += p * self.row(ids)[place]
        return found / found.sum()


def first_bytes(ballot):
    """What a ballot says of the next byte: 257, the last one for the end."""
    found = torch.zeros(257, dtype=torch.float64)
    for piece, p in zip(ballot.pieces, ballot.fused.double().exp(), strict=True):
        if piece is not None:
            found[piece[0] if piece != END else 256] += p
    return found
