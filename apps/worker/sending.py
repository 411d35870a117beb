"""Sends one delivery of an alert: HTTP for webhooks, Slack and PagerDuty, SMTP for mail.

1. A socket is made only for an address that may be reached, at the moment it is connected, and for that very
   address: what a name resolves to cannot change between the question and the connection. Host and the TLS server
   name stay those of the URL.
2. No redirect is followed, no proxy or cookie of the environment is used, and of an answer only its head is read.
3. An attempt ends after TIMEOUT_S, whatever the receiver does.
Not here: when to try again (webhooks.py), what is kept of it (delivering.py).
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

import aiohttp
import aiosmtplib

from tracehub.protocol import announcements, webhooks
from tracehub.protocol.addresses import is_public
from tracehub.protocol.channels import Channel, is_address, is_server_wide, is_url
from tracehub.protocol.times import moment_of
from tracehub.protocol.webhooks import Attempt
from tracehub.runtime.clock import Clock
from tracehub.runtime.settings import Settings
from tracehub.storage.postgres.alerts import Taken

NOT_CONFIGURED = Attempt("not_configured", final=True)
NO_ADDRESS = Attempt("the address is no http(s) address", final=True)
REFUSED = "the address is not one that may be reached"
HEADERS = {"Content-Type": "application/json", "User-Agent": "TraceHub"}
ERROR_CHARS_MAX = 200

# The first that fits; what an error says itself may hold addresses, and names of classes.
WHY: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.ClientConnectorDNSError, "its name is not known"),
    (aiohttp.ClientSSLError, "its certificate is not trusted, or it speaks no TLS"),
    (aiosmtplib.SMTPAuthenticationError, "it does not take the user and password"),
    (aiosmtplib.SMTPRecipientsRefused, "it does not take the mail"),
    (aiosmtplib.SMTPResponseException, "it does not take the mail"),
    (aiohttp.ServerDisconnectedError, "it ended the connection"),
    (ConnectionRefusedError, "nothing listens there"),
)
# Whether private addresses may be reached right now.
MayReach = Callable[[], Awaitable[bool]]


class NotReachable(OSError):
    """An address that alerts may not be sent to."""


class Sender:
    """Sends. `may_reach_private` is asked before each attempt."""

    def __init__(self, settings: Settings, may_reach_private: MayReach, clock: Clock) -> None:
        self._settings = settings
        self._may_reach_private = may_reach_private
        self._clock = clock

    async def send(self, taken: Taken) -> Attempt:
        """One attempt; what fails is in what it returns."""
        channel = taken.channel
        send = {
            "webhook": self._webhook,
            "slack": self._slack,
            "email": self._email,
            "pagerduty": self._pagerduty,
        }[channel["type"]]
        try:
            async with asyncio.timeout(webhooks.TIMEOUT_S):
                return await send(taken, channel)
        except TimeoutError:
            return Attempt(f"no answer within {webhooks.TIMEOUT_S:g} s")
        except (aiohttp.ClientError, aiosmtplib.SMTPException, OSError, ValueError) as error:
            return Attempt(f"the receiver could not be reached: {_why(error)}")

    async def _webhook(self, taken: Taken, channel: Channel) -> Attempt:
        url, secret = channel.get("url"), channel.get("secret")
        if is_server_wide(channel):
            url = self._settings.alert_webhook.get_secret_value()
            secret = self._settings.alert_webhook_secret.get_secret_value() or None
        signature = webhooks.signed(secret, str(taken.id), self._clock() // 1000, taken.body)
        return await self._post(url, taken.body, signature)

    async def _slack(self, taken: Taken, channel: Channel) -> Attempt:
        url = channel.get("webhook") or self._settings.slack_webhook.get_secret_value()
        return await self._post(url, _encoded(announcements.slack(json.loads(taken.body))), {})

    async def _pagerduty(self, taken: Taken, channel: Channel) -> Attempt:
        key = channel.get("integration_key") or channel.get("routing_key")
        key = key or self._settings.pagerduty_key.get_secret_value()
        if not key:
            return NOT_CONFIGURED
        body = _encoded(announcements.pagerduty(json.loads(taken.body), key))
        return await self._post(self._settings.pagerduty_url, body, {})

    async def _post(self, url: str | None, body: bytes, headers: Mapping[str, str]) -> Attempt:
        if not url:
            return NOT_CONFIGURED
        if not is_url(url):
            return NO_ADDRESS
        guard = Guard(may_reach_private=await self._may_reach_private())
        connector = aiohttp.TCPConnector(
            socket_factory=guard.socket,
            resolver=aiohttp.ThreadedResolver(),
            use_dns_cache=False,
            force_close=True,
        )
        timeout = aiohttp.ClientTimeout(total=webhooks.TIMEOUT_S)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
        ) as session:
            try:
                async with session.post(
                    url, data=body, headers={**HEADERS, **headers}, allow_redirects=False
                ) as answer:
                    return webhooks.of_answer(answer.status, answer.headers, self._clock())
            except aiohttp.InvalidURL:
                return NO_ADDRESS
            except aiohttp.ClientError:
                if guard.has_refused:
                    return Attempt(REFUSED, final=True)
                raise

    async def _email(self, taken: Taken, channel: Channel) -> Attempt:
        settings = self._settings
        recipients = channel.get("recipients") or [
            address for part in settings.alert_email.split(",") if is_address(address := part.strip())
        ]
        if not settings.smtp_host or not recipients:
            return NOT_CONFIGURED
        message = self._message(taken, recipients)
        refused, _ = await aiosmtplib.send(
            message,
            sender=settings.smtp_from,
            recipients=recipients,
            hostname=settings.smtp_host,
            port=settings.smtp_port,
            username=settings.smtp_user or None,
            password=settings.smtp_password.get_secret_value() or None,
            use_tls=settings.smtp_tls == "tls",
            start_tls=settings.smtp_tls == "starttls",
            tls_context=ssl.create_default_context() if settings.smtp_tls != "none" else None,
            timeout=webhooks.TIMEOUT_S,
        )
        if refused:  # once more would be a second mail to the others
            told = f"{len(refused)} of {len(recipients)} recipients were refused; the others have it"
            return Attempt(told, final=True)
        return Attempt()

    def _message(self, taken: Taken, recipients: list[str]) -> EmailMessage:
        document = json.loads(taken.body)
        message = EmailMessage()
        message["Subject"] = announcements.subject(document)
        message["From"] = self._settings.smtp_from
        message["To"] = ", ".join(recipients)
        message["Date"] = format_datetime(moment_of(self._clock()))
        message["Message-ID"] = f"<{taken.id}@tracehub>"  # the same over retries
        message.set_content(announcements.mail_text(document))
        return message


class Guard:
    """Makes sockets, for addresses that may be reached only."""

    def __init__(self, *, may_reach_private: bool) -> None:
        self._may_reach_private = may_reach_private
        self.has_refused = False

    def socket(self, found: tuple[Any, ...]) -> socket.socket:
        """What aiohttp asks for just before it connects to `found`. Raises NotReachable."""
        family, kind, protocol, _, address = found
        if not self._may_reach_private and not is_public(str(address[0])):
            self.has_refused = True
            raise NotReachable(REFUSED)
        return socket.socket(family, kind, protocol)


def _encoded(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()


def _why(error: Exception) -> str:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return next(
        (said for kind, said in WHY if isinstance(error, kind) or isinstance(cause, kind)),
        "the connection failed",
    )
