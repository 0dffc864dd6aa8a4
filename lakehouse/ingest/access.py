"""Access to a place of objects with its own endpoint or keys: the YAML model and its resolved form.

The YAML names environment variables, never keys. Their values are looked up when a connection is made, through the
lookup passed to `Access.resolve`, and never appear in the text form of these objects. `ingest.stores` defines which
store accepts which credentials.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from lakehouse.errors import SourceError

Lookup = Callable[[str], str | None]
"""The value of an environment variable; None if it is unset."""
_OfS3 = Literal["access_key_id", "secret_access_key", "session_token"]
_OfOthers = Literal["service_account_key", "account_name", "account_key", "sas_token", "password", "passphrase"]
Credential = _OfS3 | _OfOthers
_Variable = Annotated[str, StringConstraints(pattern=r"^[A-Z_][A-Z0-9_]*$")]


class Access(BaseModel):
    """The endpoint and the keys of one source or report. Defaults come from the environment. Keys are never mixed:
    either all are named here, or none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^/@?#]+/?$",
        description="URL of the service; by default AWS_ENDPOINT_URL, or the provider's own.",
    )
    region: str | None = Field(None, description="Region of the bucket; by default AWS_REGION.")
    anonymous: bool = Field(False, description="Send no keys, for public buckets.")
    known_hosts: str | None = Field(
        None, description="File with the keys of SFTP hosts; by default those of OpenSSH (~/.ssh/known_hosts)."
    )
    key_file: str | None = Field(
        None, description="File with the user's private key for SFTP, or with the service account for Google."
    )
    credentials: dict[Credential, _Variable] = Field(
        {},
        description="Name of a credential -> the environment variable that holds it. S3: access_key_id, "
        "secret_access_key, session_token. Google: service_account_key (JSON). Azure: account_name, account_key or "
        "sas_token. SFTP and FTP: password, passphrase (of the key file).",
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Access:
        if self.anonymous and self.credentials:
            raise ValueError("anonymous access has no credentials; remove one of the two")
        of_s3 = self.credentials.keys() & {"access_key_id", "secret_access_key", "session_token"}
        if of_s3 and (missing := sorted({"access_key_id", "secret_access_key"} - of_s3)):
            raise ValueError(f"credentials lack {' and '.join(missing)}; name the environment variable that holds it")
        return self

    def resolve(self, lookup: Lookup) -> ResolvedAccess:
        """Returns this access with the lookup of its variables."""
        return ResolvedAccess(self, lookup)


@dataclass(frozen=True)
class ResolvedAccess:
    """An access whose credentials can be looked up."""

    declared: Access
    lookup: Lookup = field(repr=False, compare=False)

    def require_only(self, known: Iterable[str], scheme: str) -> None:
        """Checks that a kind of place supports all given entries and credentials.

        Raises:
            SourceError: it doesn't.
        """
        given = {*self.declared.model_dump(exclude_defaults=True, exclude={"credentials"}), *self.declared.credentials}
        if unknown := sorted(given - set(known)):
            raise SourceError(f"access: {scheme}:// takes no {', '.join(unknown)}; it takes {', '.join(sorted(known))}")

    def credential(self, name: Credential) -> str | None:
        """The value of a credential; None if the access doesn't name it.

        Raises:
            SourceError: its variable is unset.
        """
        variable = self.declared.credentials.get(name)
        if variable is None:
            return None
        value = self.lookup(variable)
        if value is None:
            raise SourceError(
                f"{variable}, which access.credentials names as the {name}, is not set; set it in the environment or "
                "in .env"
            )
        return value


FROM_ENVIRONMENT = Access().resolve(lambda variable: None)
"""The access of a place without an entry in the YAML."""
