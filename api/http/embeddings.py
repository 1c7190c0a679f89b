"""`/v1/embeddings`: the vectors that the vote by similarity compares."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.http.errors import ApiError, ErrorEnvelope
from api.http.service import Serving
from api.http.types import Asked
from api.service import Service
from eot.text import MAX_CHARACTERS, fault_in

if TYPE_CHECKING:
    from numpy.typing import NDArray

router = APIRouter(prefix="/v1", tags=["embeddings"])

Vector = list[float]


class EmbeddingsRequest(Asked):
    """`model` may have any name: there is one, that of the vote."""

    input: str | Annotated[list[str], Field(min_length=1, max_length=2048)]
    model: str = ""
    encoding_format: Literal["float", "base64"] | None = None

    @property
    def texts(self) -> list[str]:
        return [self.input] if isinstance(self.input, str) else self.input


class Embedding(BaseModel):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: Vector | str


class EmbeddingsUsage(BaseModel):
    """Tokens as far as they can be told without the model's tokenizer: four characters each."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingsUsage


@router.post(
    "/embeddings", responses={503: {"model": ErrorEnvelope, "description": "The vote's model is not on this machine."}}
)
async def embed(body: EmbeddingsRequest, service: Serving) -> EmbeddingList:
    """Vectors of length 1 by the vote's model, or 503 with what to do where it is not installed."""
    return await complete_embeddings(service, body)


async def complete_embeddings(service: Service, body: EmbeddingsRequest) -> EmbeddingList:
    """The vectors, for routes and jobs alike.

    Raises:
        ApiError: a text cannot be read, or is too long.
        MissingExtraError, WeightsError: the model is not at hand.
    """
    _refuse_unreadable(body.texts)
    embedder = service.house.embedder("emb_a_s")
    assert embedder is not None, "this vote has an embedder or raises"
    vectors = await asyncio.to_thread(embedder, body.texts)
    tokens = sum(map(len, body.texts)) // 4 + 1
    return EmbeddingList(
        data=[
            Embedding(index=index, embedding=_written(vector, body.encoding_format))
            for index, vector in enumerate(vectors)
        ],
        model=service.settings.embed.name,
        usage=EmbeddingsUsage(prompt_tokens=tokens, total_tokens=tokens),
    )


def _refuse_unreadable(texts: list[str]) -> None:
    if (size := sum(map(len, texts))) > MAX_CHARACTERS:
        raise ApiError(400, f"the texts have {size:,} characters; at most {MAX_CHARACTERS:,} are taken", param="input")
    for text in texts:
        if wrong := "it is empty" if not text else fault_in(text):
            raise ApiError(400, f"a text cannot be embedded: {wrong}", param="input", code="invalid_value")


def _written(vector: NDArray[Any], form: str | None) -> Vector | str:
    if form == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    return [float(value) for value in vector]
