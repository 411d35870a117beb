"""Where an alert goes (log-service.md §7): webhook, Slack, e-mail, PagerDuty; a bare word is the server-wide one. Pure.

Kept as a list of objects; `{"type": "slack"}` alone is the bare word. `disabled` is set where a receiver said 410.
Secrets go out to admin only, else "***", and a "***" that comes back keeps what it stands for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from tracehub.protocol import webhooks
from tracehub.protocol.errors import InvalidField

CHANNELS_MAX: Final = 20
RECIPIENTS_MAX: Final = 50
RECIPIENT_CHARS_MAX: Final = 254
URL_CHARS_MAX: Final = 2_048
SECRET_CHARS_MAX: Final = 255
MASK: Final = "***"
SECRETS: Final = ("secret", "webhook", "integration_key", "routing_key")
_ADDRESS: Final = re.compile(r"[^\s@<>,;:\"()\[\]\\]+@[^\s@<>,;:\"()\[\]\\]+").fullmatch
_PLAIN: Final = re.compile(r"[!-~]+").fullmatch

Channel = dict[str, Any]
Random = Callable[[int], bytes]
Url = Annotated[str, Meta(max_length=URL_CHARS_MAX, extra_json_schema={"format": "uri"})]
Secret = Annotated[str, Meta(min_length=1, max_length=SECRET_CHARS_MAX, description="visible ASCII")]
Recipient = Annotated[str, Meta(max_length=RECIPIENT_CHARS_MAX, extra_json_schema={"format": "email"})]


class _Channel(msgspec.Struct, tag_field="type", forbid_unknown_fields=True):
    disabled: bool = False


class Webhook(_Channel, tag="webhook"):
    """A signed POST; one without a secret is given one."""

    url: Url | None = None
    secret: Secret | None = None


class Slack(_Channel, tag="slack"):
    """An incoming webhook of Slack."""

    webhook: Url | None = None


class Email(_Channel, tag="email"):
    """Mail by the server's SMTP."""

    recipients: Annotated[list[Recipient], Meta(min_length=1, max_length=RECIPIENTS_MAX)] | None = None


class PagerDuty(_Channel, tag="pagerduty"):
    """PagerDuty's events; either name of the key."""

    integration_key: Secret | None = None
    routing_key: Secret | None = None


# A bare word is the server-wide receiver, and so is an object of which only `disabled` is said.
Channels = Annotated[
    list[Literal["webhook", "slack", "email", "pagerduty"] | Webhook | Slack | Email | PagerDuty],
    Meta(max_length=CHANNELS_MAX),
]


def read_channels(
    given: Sequence[str | Channel], random: Random, known: Sequence[Channel] = ()
) -> list[Channel]:
    """What the type Channels has let pass; `known` are those they replace. Raises InvalidField that names the first bad
    one."""
    return [_read(one, f"channels[{place}]", random, known) for place, one in enumerate(given)]


def shown_channels(channels: Iterable[Channel], *, secrets: bool) -> list[Any]:
    """As answers have them."""
    return [_shown(channel, secrets=secrets) for channel in channels]


def _shown(channel: Channel, *, secrets: bool) -> Any:
    if channel.keys() == {"type"}:
        return channel["type"]
    if secrets:
        return channel
    return {name: MASK if name in SECRETS else value for name, value in channel.items()}


def is_server_wide(channel: Channel) -> bool:
    """Whether the server's own receiver is meant."""
    return channel.keys() <= {"type", "disabled"}


def _read(given: str | Channel, field: str, random: Random, known: Sequence[Channel]) -> Channel:
    if isinstance(given, str):
        return {"type": given}
    kind = given["type"]
    made: Channel = {"type": kind}
    if not (given.get("disabled") and given.keys() <= {"type", "disabled"}):
        made |= _READERS[kind](_unmasked(given, field, known), field)
        if kind == "webhook" and "secret" not in made:
            made["secret"] = webhooks.make_secret(random(webhooks.SECRET_BYTES))
    if given.get("disabled"):
        made["disabled"] = True
    return made


def _unmasked(given: Channel, field: str, known: Sequence[Channel]) -> Channel:
    """The channel with the secrets that it stands for. Raises InvalidField where nothing is known that fits."""
    masked = [name for name in SECRETS if given.get(name) == MASK]
    for name in masked:
        same = [
            old
            for old in known
            if old["type"] == given["type"] and name in old and old.get("url") == given.get("url")
        ]
        if len(same) != 1:
            raise InvalidField("is masked; send the secret itself", field=f"{field}.{name}")
        given = {**given, name: same[0][name]}
    return given


def _webhook(given: Channel, field: str) -> Channel:
    made = {"url": _url(given, "url", field)}
    if given.get("secret") is not None:
        secret = _word(given, "secret", field)
        try:
            webhooks.key_of(secret)
        except ValueError:
            raise InvalidField("must be base64 behind whsec_", field=f"{field}.secret") from None
        made["secret"] = secret
    return made


def _slack(given: Channel, field: str) -> Channel:
    return {"webhook": _url(given, "webhook", field)}


def _email(given: Channel, field: str) -> Channel:
    recipients = given.get("recipients")
    if recipients is None:
        raise InvalidField("is required", field=f"{field}.recipients")
    for place, address in enumerate(recipients):
        if not is_address(address):
            raise InvalidField("must be an e-mail address", field=f"{field}.recipients[{place}]")
    return {"recipients": recipients}


def is_address(text: Any) -> bool:
    """Whether mail could go there: one address, without a name, a comment or a second line."""
    return isinstance(text, str) and len(text) <= RECIPIENT_CHARS_MAX and bool(_ADDRESS(text))


def _pagerduty(given: Channel, field: str) -> Channel:
    name = "routing_key" if "routing_key" in given and "integration_key" not in given else "integration_key"
    return {name: _word(given, name, field)}


_READERS: Final = {"webhook": _webhook, "slack": _slack, "email": _email, "pagerduty": _pagerduty}


def _word(given: Channel, name: str, field: str) -> str:
    value = given.get(name)
    if not isinstance(value, str) or len(value) > SECRET_CHARS_MAX or not _PLAIN(value):
        raise InvalidField(
            f"must be 1 to {SECRET_CHARS_MAX} visible ASCII characters", field=f"{field}.{name}"
        )
    return value


def _url(given: Channel, name: str, field: str) -> str:
    value = given.get(name)
    if not is_url(value):
        raise InvalidField("must be an address that begins with http:// or https://", field=f"{field}.{name}")
    assert isinstance(value, str)
    return value


def is_url(value: Any) -> bool:
    """Whether it is an http(s) address with a host, without a user and with nothing invisible in it."""
    if not isinstance(value, str) or len(value) > URL_CHARS_MAX or re.search(r"[\s\x00-\x1f\x7f\\]", value):
        return False
    try:
        parts = urlsplit(value)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and not parts.username
        )
    except ValueError:
        return False
