"""Sentence embeddings for the vote by similarity, from a folder with a sentence-transformers model."""

from __future__ import annotations

import hashlib
import importlib.util
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eot.errors import MissingExtraError, WeightsError
from local_models.once import TRANSFORMERS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Embedder:
    """Texts to unit vectors. The model is loaded at the first call, and each text is embedded once.

    Blocks for as long as the model computes (about 0.1 s a text on one core): call it in a thread. Calls from several
    threads take turns.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
        WeightsError: the folder holds no model that can be loaded (raised here if it is no folder, else by the call).
    """

    def __init__(self, folder: Path, *, remembered: int = 4096) -> None:
        if importlib.util.find_spec("sentence_transformers") is None:
            raise MissingExtraError("the embedding vote", "embed")
        if not folder.is_dir():
            raise WeightsError(f"there is no folder {folder} with an embedding model")
        self.folder = folder
        self._remembered = remembered
        self._vectors: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()
        self._model: Any = None

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[n] texts -> float32[n, d], each row of length 1."""
        import numpy as np  # noqa: PLC0415  # not before something is embedded

        keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
        with self._lock:
            vectors = {key: self._vectors[key] for key in keys if key in self._vectors}
            new = {key: text for key, text in zip(keys, texts, strict=True) if key not in vectors}
            vectors |= zip(new, self._encode(list(new.values())), strict=True)
            self._remember(vectors)
        return np.stack([vectors[key] for key in keys]) if keys else np.zeros((0, 0), dtype=np.float32)

    def _remember(self, vectors: dict[bytes, NDArray[np.float32]]) -> None:
        for key, vector in vectors.items():
            self._vectors[key] = vector
            self._vectors.move_to_end(key)
        while len(self._vectors) > self._remembered:
            self._vectors.popitem(last=False)

    def _encode(self, texts: list[str]) -> list[NDArray[np.float32]]:
        if not texts:
            return []
        self._model = self._model or _load(self.folder)
        # A tokenizer written in Rust refuses lone surrogates.
        readable = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        encoded = self._model.encode(
            readable, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
        )
        return list(encoded.astype("float32"))


def _load(folder: Path) -> Any:
    try:
        with TRANSFORMERS:
            from sentence_transformers import SentenceTransformer  # noqa: PLC0415  # torch takes seconds
            from transformers.utils import logging  # noqa: PLC0415

            logging.disable_progress_bar()  # the terminal is the caller's
            return SentenceTransformer(str(folder), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as fault:
        raise WeightsError(f"{folder} holds no sentence-transformers model that can be loaded: {fault}") from fault
