"""HTTP to the service: sent again where that may help, and every refusal turned into one line."""

from __future__ import annotations

import itertools
import random
import ssl
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Final, Self

import httpx

from app.client.config import TOKEN_VARIABLE, Connection, Identity
from app.client.errors import ClientError, ExitCode, one_line

__all__ = ["Transport", "exit_code", "line_of_problem"]

_API: Final = "/api/v1"
_TIMEOUT: Final = httpx.Timeout(60, connect=10)
_PASSING: Final = frozenset({429, 502, 503, 504})
_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 10.0
_LONGEST_RETRY_AFTER: Final = 60.0
_PAGE: Final = 1000
_CODES: Final[Mapping[int, ExitCode]] = {
    400: ExitCode.USAGE,
    401: ExitCode.UNAUTHENTICATED,
    403: ExitCode.FORBIDDEN,
    404: ExitCode.NOT_FOUND,
    409: ExitCode.CONFLICT,
    413: ExitCode.USAGE,
    422: ExitCode.USAGE,
}


class Transport:
    """A connection to one service; a context manager. ``sleep`` may return early."""

    def __init__(
        self,
        connection: Connection,
        *,
        sleep: Callable[[float], object] = time.sleep,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._connection = connection
        self._sleep = sleep
        self._rng = rng
        headers = {"User-Agent": "tiny-ca"}
        if connection.token is not None:
            headers["Authorization"] = f"Bearer {connection.token}"
        try:
            self._http = httpx.Client(
                base_url=connection.url,
                headers=headers,
                timeout=_TIMEOUT,
                verify=_trust(connection),
                follow_redirects=False,  # the token goes where it was meant to go
            )
        except httpx.InvalidURL as error:
            raise ClientError(f"--url: {connection.url!r} is no URL: {error}", code=ExitCode.USAGE) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def public(self, path: str) -> bytes:
        """A public file, without a token."""
        return self._send("GET", path, headers={"Accept": "*/*"}).content

    def get(self, path: str) -> dict[str, Any]:
        """One object of the API.

        Raises
        ------
        ClientError
            The service refused or did not answer; so do all methods here.
        """
        return self._json(self._api("GET", path))

    def post(self, path: str, body: Mapping[str, Any], *, idempotency_key: str | None = None) -> dict[str, Any]:
        """Do something once, however often it must be sent for that."""
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        return self._json(self._api("POST", path, json=body, headers=headers))

    def delete(self, path: str) -> None:
        """Delete something."""
        self._api("DELETE", path)

    def pages(self, path: str, filters: Mapping[str, str | None], *, limit: int | None) -> Iterator[dict[str, Any]]:
        """Every item of a list, or the first ``limit``, page by page."""
        parameters = {name: value for name, value in filters.items() if value is not None}
        left = limit
        while left is None or left > 0:
            size = _PAGE if left is None else min(_PAGE, left)
            page = self._json(self._api("GET", path, params={**parameters, "limit": str(size)}))
            items = page.get("items", [])
            yield from items
            cursor = page.get("next_cursor")
            if cursor is None:
                return
            parameters["cursor"] = cursor
            left = None if left is None else left - len(items)

    def _api(self, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401  # httpx's own
        if self._connection.token is None and self._connection.identity is None:
            message = f"no token: give --token-file, {TOKEN_VARIABLE}, or token_file in the config"
            raise ClientError(message, code=ExitCode.UNAUTHENTICATED)
        headers = {"Accept": "application/json", **options.pop("headers", {})}
        return self._send(method, _API + path, headers=headers, **options)

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401  # httpx's own
        for attempt in itertools.count():
            wait = 0.0
            try:
                response = self._http.request(method, path, **options)
            except httpx.RequestError as error:
                failure = self._unreachable(error)
                if _is_distrust(error):
                    raise failure from error
            else:
                if response.is_success:
                    return response
                failure = _refusal(response)
                wait = _retry_after(response)
                if response.status_code not in _PASSING or wait > _LONGEST_RETRY_AFTER:
                    raise failure
            if attempt >= self._connection.retries:
                raise failure
            self._sleep(max(wait, self._pause(attempt)))
        raise AssertionError("unreachable")  # pragma: no cover  # count() does not end

    def _pause(self, attempt: int) -> float:
        """Exponential, with jitter: clients that failed together do not come back together."""
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(attempt, 16))
        return longest * (1 + self._rng()) / 2

    def _unreachable(self, error: httpx.RequestError) -> ClientError:
        url = self._connection.url
        if _is_distrust(error):
            return ClientError(
                f"{url} cannot be trusted: {one_line(str(error))}; give the CA it stands under as --ca-file"
            )
        reason = one_line(str(error)) or type(error).__name__
        return ClientError(f"{url} does not answer: {reason}")

    def _json(self, response: httpx.Response) -> dict[str, Any]:
        try:
            value = response.json()
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise ClientError(f"{self._connection.url} answered without JSON; is it a tiny-ca?")
        return value


def line_of_problem(problem: Mapping[str, Any]) -> str:
    """One line of a problem document (RFC 9457): what is wrong, by which rule or in which field, and the request."""
    where = [f"rule {problem['rule']}"] if problem.get("rule") else []
    fields = [str(error["field"]) for error in problem.get("errors") or () if error.get("field")]
    if fields:
        where.append(f"field {', '.join(fields)}")
    if problem.get("request_id"):
        where.append(f"request {problem['request_id']}")
    detail = str(problem.get("detail") or problem.get("title") or "no reason given")
    return one_line(f"{detail} ({'; '.join(where)})" if where else detail)


def exit_code(status: int) -> ExitCode:
    """How a command ends that was answered with this HTTP status."""
    return _CODES.get(status, ExitCode.FAILED)


def _refusal(response: httpx.Response) -> ClientError:
    code = exit_code(response.status_code)
    if response.is_redirect:
        where = one_line(response.headers.get("location", ""))
        return ClientError(f"{response.url} redirects to {where}; give that as --url", code=ExitCode.USAGE)
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if isinstance(problem, dict) and "detail" in problem:
        return ClientError(line_of_problem(problem), code=code, rule=problem.get("rule"))
    return ClientError(f"{response.url} answered {response.status_code} {response.reason_phrase}", code=code)


def _retry_after(response: httpx.Response) -> float:
    """Seconds, from either form of the header (RFC 9110 §10.2.3); 0 without one."""
    given = response.headers.get("retry-after", "")
    if given.isascii() and given.isdigit():
        return float(given[:9])
    try:
        return max(0.0, parsedate_to_datetime(given).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0


def _is_distrust(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _trust(connection: Connection) -> ssl.SSLContext | bool:
    if not connection.url.startswith("https:"):
        if connection.identity is not None:
            raise ClientError("--mtls: a certificate is shown over https only; give such a --url", code=ExitCode.USAGE)
        return True
    try:
        context = ssl.create_default_context(cafile=connection.ca_file)
    except (ssl.SSLError, OSError) as error:
        message = f"--ca-file: {connection.ca_file} holds no certificates in PEM"
        raise ClientError(message, code=ExitCode.USAGE) from error
    if connection.identity is not None:
        _show(context, connection.identity)
    return context


def _show(context: ssl.SSLContext, identity: Identity) -> None:
    key = identity.key or identity.certificate
    try:
        context.load_cert_chain(identity.certificate, key, password="")  # else OpenSSL would ask the terminal for one
    except (ssl.SSLError, OSError) as error:
        message = f"--mtls: {identity.certificate} and {key} hold no certificate and its unencrypted key"
        raise ClientError(message, code=ExitCode.USAGE) from error
