"""What the tables of ha-tasks.toml are made of: the strict table, forms of values, secrets, TLS."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from ha_tasks.inventory import forms
from ha_tasks.model.action import OWN_NAME

Name = Annotated[
    str,
    AfterValidator(forms.name),
    WithJsonSchema({"type": "string", "pattern": forms.NAME_PATTERN}),
]
ActionWord = Annotated[
    str,
    AfterValidator(forms.own_action),
    WithJsonSchema({"type": "string", "pattern": f"^{OWN_NAME.pattern}$"}),
]
Address = Annotated[str, AfterValidator(forms.address)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Table(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class SecretTable(Table):
    """Where a secret is found; exactly one of the three keys."""

    file: str | None = Field(
        default=None,
        min_length=1,
        description="Path of a file that holds it, closed to others.",
    )
    env: str | None = Field(
        default=None, min_length=1, description="Name of an environment variable that holds it."
    )
    command: Annotated[list[str], Field(min_length=1)] | None = Field(
        default=None, description="Program and arguments; what it prints within 10 s is the secret."
    )

    @model_validator(mode="after")
    def _one(self) -> SecretTable:
        if sum(source is not None for source in (self.file, self.env, self.command)) != 1:
            raise ValueError(
                "must name one source of the secret",
                'write one of { file = "path" }, { env = "NAME" }, { command = ["program", "argument"] }',
            )
        return self


class TlsTable(Table):
    """Whose certificates count on an encrypted connection; an empty table verifies as well."""

    ca: str | None = Field(
        default=None,
        min_length=1,
        description="Path of the authorities (PEM) for the server's certificate; left out: the machine's.",
    )
    certificate: str | None = Field(
        default=None, min_length=1, description="Path of our own certificate (PEM), where the server asks."
    )
    key: str | None = Field(
        default=None, min_length=1, description="Path of its key (PEM), a file that is closed to others."
    )
    verify: bool = Field(
        default=True, description="`false` encrypts, and trusts whoever answers; for a trial only."
    )
