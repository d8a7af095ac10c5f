"""Messages: frozen values with an address. The body is the model; who, when and why travel in the envelope."""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from contracts import subjects
from contracts.refs import DEFAULT_COMPANY, Slug, Value
from contracts.subjects import Kind

A = TypeVar("A", bound=BaseModel)


class Message(Value):
    """A command or a fact. `story` names the field whose value is the last token of the subject."""

    kind: ClassVar[Kind]
    owner: ClassVar[str]
    entity: ClassVar[str]
    verb: ClassVar[str]
    story: ClassVar[str]

    company: Slug = DEFAULT_COMPANY

    def __init_subclass__(
        cls, *, owner: str = "", entity: str = "", verb: str = "", story: str = "", **kw: Any
    ) -> None:
        super().__init_subclass__(**kw)
        if owner:
            cls.owner, cls.entity, cls.verb, cls.story = owner, entity, verb, story
            subjects.story(cls.kind, "default", owner, entity, verb, "id")

    @property
    def story_id(self) -> str:
        return str(getattr(self, self.story))

    @property
    def subject(self) -> str:
        return subjects.story(self.kind, self.company, self.owner, self.entity, self.verb, self.story_id)

    @classmethod
    def type_name(cls) -> str:
        """`ce-type`, and the key of the catalogue: `executor.node.completed`."""
        return f"{cls.owner}.{cls.entity}.{cls.verb}"

    @classmethod
    def pattern(cls) -> str:
        """The subject with wildcards for company and story: the label of metrics and spans, and the filter."""
        return subjects.story_filter(cls.kind, owner=cls.owner, entity=cls.entity, verb=cls.verb)


class Command(Message):
    """What a service is asked to do by another that does not wait. Imperative; the receiver owns it."""

    kind = Kind.COMMAND


class Event(Message):
    """What has happened. Past tense; the emitter owns it."""

    kind = Kind.EVENT


class Live(Message):
    """A delta for whoever watches right now; never stored."""

    kind = Kind.LIVE


class Request(BaseModel, Generic[A]):
    """A question or order to the owner of something, answered with `answer` or a Failure.

    Unknown fields are refused: a request is written by our own gateway of the same release or an older one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    owner: ClassVar[str]
    entity: ClassVar[str]
    verb: ClassVar[str]
    answer: ClassVar[type[BaseModel]]
    #: seconds the caller waits before it gives up; `waits` has the last word
    patience: ClassVar[float] = 5.0

    company: Slug = DEFAULT_COMPANY

    def __init_subclass__(
        cls, *, verb: str = "", owner: str = "", entity: str = "", patience: float = 5.0, **kw: Any
    ) -> None:
        super().__init_subclass__(**kw)
        if owner:
            cls.owner, cls.entity, cls.verb, cls.patience = owner, entity, verb, patience
            subjects.request(owner, entity, verb)

    @classmethod
    def __pydantic_init_subclass__(cls, **kw: Any) -> None:
        for base in cls.__mro__:
            arguments = getattr(base, "__pydantic_generic_metadata__", {}).get("args") or ()
            if arguments and isinstance(arguments[0], type):
                cls.answer = arguments[0]
                return

    def waits(self) -> float:
        """How long the answer to this very request may take, in seconds."""
        return self.patience

    @classmethod
    def subject(cls) -> str:
        return subjects.request(cls.owner, cls.entity, cls.verb)
