"""Validation of plain data, and the fields that a model has at some key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from polytask.config.nodes import Key, Node

Error: TypeAlias = "dict[str, Any]"
M = TypeVar("M", bound=BaseModel)
STRICT = {"bool_type", "int_type", "float_type"}


def validate(model: type[M], value: Any) -> tuple[M | None, list[Error]]:
    """A model of plain data, or pydantic's errors.

    Lists do for tuples and text for paths, but text never passes for a number, nor a number for a
    boolean: YAML writes them differently. pydantic's strict mode alone would refuse the former
    behind a `before` validator, its lax mode accepts the latter.
    """
    text = json.dumps(value)
    try:
        return model.model_validate_json(text, strict=True), []
    except ValidationError as error:
        strict = error.errors(include_url=False)
    try:
        valid, errors = model.model_validate_json(text), []
    except ValidationError as error:
        valid, errors = None, [dict(e) for e in error.errors(include_url=False)]
    told = {e["loc"] for e in errors}
    errors += [
        dict(e)
        for e in strict
        if e["type"] in STRICT and isinstance(e["input"], str | int) and e["loc"] not in told
    ]
    return (None if errors else valid), errors


def fields_at(model: type[BaseModel], node: Node, path: Key) -> dict[str, FieldInfo]:
    """The fields of the model at `path`, by the keys a config writes."""
    current: Node | None = node
    for step in path:
        current = current.child(step) if current is not None else None
    models = _models_at(model, path)
    chosen = [m for m in models if _has_name(m, current)] or models
    return {key: field for m in chosen for key, field in _fields(m).items()}


def names_at(model: type[BaseModel], path: Key) -> list[str]:
    """The names of the alternatives at `path`."""
    return [name for m in _models_at(model, path) for name in _names(m)]


def _models_at(model: type[BaseModel], path: Key) -> list[type[BaseModel]]:
    models = [model]
    for step in path:
        # A step that is no field is a key or a position inside one.
        found = [_fields(m)[str(step)] for m in models if str(step) in _fields(m)]
        if found:
            models = [inner for field in found for inner in _models_in(field.annotation)]
    return models


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _names(model: type[BaseModel]) -> tuple[str, ...]:
    field = model.model_fields.get("name")
    is_choice = field is not None and get_origin(field.annotation) is Literal
    return get_args(field.annotation) if field is not None and is_choice else ()


def _has_name(model: type[BaseModel], node: Node | None) -> bool:
    field = model.model_fields.get("name")
    name = field and field.default
    if node is not None and isinstance(node.value, str):
        name = node.value  # a bare name stands for a mapping with that name
    elif node is not None and (written := node.child("name")) is not None:
        name = written.value
    return name in _names(model)
