"""Components that a model describes, whatever they make."""

from typing import Any, ClassVar, Self

import dagster as dg
from pydantic import BaseModel


class DescribedComponent(dg.Component):
    """A component whose attributes are those of `model`. Each kind is a subclass with a model of its own."""

    model: ClassVar[type[BaseModel]]

    def __init__(self, config: Any) -> None:
        self.config = config

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        return cls.model

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        assert isinstance(attributes, cls.model)
        return cls(attributes)
