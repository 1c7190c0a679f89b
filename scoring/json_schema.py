"""Whether a JSON value fits a schema that a stranger wrote: nothing is fetched, and nothing takes for ever."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from eot.errors import QuestionError
from scoring.json_answers import canonical_json

MAX_CHARACTERS = 64_000
_MAX_DEPTH, _MAX_NODES, _MAX_REFS, _LONGEST_FAULT = 40, 5_000, 2_000, 300
_REFUSED = ("patternProperties", "$dynamicRef", "$recursiveRef", "$id")

Check = Callable[[Any], str]
"""Says what is wrong with a value, or "" when it fits."""


@lru_cache(maxsize=256)
def schema_check(schema: str) -> Check:
    """The check for a schema, given as JSON text. `pattern` is not checked: a regular expression can take for ever.

    Raises:
        QuestionError: it is no JSON schema, or one that is not taken here.
    """
    from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # noqa: PLC0415 - few need it
    from jsonschema.exceptions import SchemaError  # type: ignore[import-untyped]  # noqa: PLC0415

    found = _loaded(schema)
    try:
        Draft202012Validator.check_schema(found)
    except SchemaError as fault:
        raise QuestionError(f"this is no JSON schema: {fault.message[:_LONGEST_FAULT]}") from None
    return _check(found)


def _loaded(schema: str) -> Any:
    if len(schema) > MAX_CHARACTERS:
        raise QuestionError(f"the JSON schema has {len(schema):,} characters; at most {MAX_CHARACTERS:,} are taken")
    found = json.loads(schema)
    for count, (depth, node) in enumerate(_nodes(found)):
        if depth > _MAX_DEPTH or count > _MAX_NODES:
            raise QuestionError(f"the JSON schema is nested deeper than {_MAX_DEPTH} or has over {_MAX_NODES:,} parts")
        if not isinstance(node, dict):
            continue
        if refused := [key for key in _REFUSED if key in node]:
            raise QuestionError(f"the JSON schema has {refused[0]!r}, which is not taken here")
        if isinstance(ref := node.get("$ref"), str) and not ref.startswith("#"):
            raise QuestionError("the JSON schema has a $ref to elsewhere; only those within it (#/$defs/...) are taken")
    return found


def _nodes(value: Any, depth: int = 0) -> Iterator[tuple[int, Any]]:
    yield depth, value
    if depth > _MAX_DEPTH:
        return
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        yield from _nodes(part, depth + 1)


def _check(schema: Any) -> Check:
    from jsonschema import Draft202012Validator  # noqa: PLC0415
    from jsonschema.exceptions import ValidationError  # noqa: PLC0415
    from jsonschema.validators import extend  # type: ignore[import-untyped]  # noqa: PLC0415
    from referencing import Registry  # noqa: PLC0415
    from referencing.exceptions import Unresolvable  # noqa: PLC0415

    left = 0

    def followed(validator: Any, ref: Any, instance: Any, _: Any) -> Iterator[Any]:
        nonlocal left
        left -= 1
        if left < 0:
            raise RecursionError
        yield from validator._validate_reference(ref=ref, instance=instance)

    def unique(_: Any, wanted: Any, instance: Any, __: Any) -> Iterator[Any]:
        if wanted and isinstance(instance, list) and len({canonical_json(part) for part in instance}) < len(instance):
            yield ValidationError("two items are equal")

    keywords = {"$ref": followed, "pattern": lambda *_: None, "uniqueItems": unique}
    validator = extend(Draft202012Validator, keywords)(schema, registry=Registry())

    def check(value: Any) -> str:
        nonlocal left
        left = _MAX_REFS
        try:
            fault = next(validator.iter_errors(value), None)
        except RecursionError:
            return "it is nested too deeply for its schema"
        except Unresolvable as missing:
            return f"its schema has a $ref to nowhere: {missing.ref}"
        return "" if fault is None else f"{fault.json_path}: {fault.message}"[:_LONGEST_FAULT]

    return check
