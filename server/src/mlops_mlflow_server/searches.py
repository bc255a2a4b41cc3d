# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep searches cheap, and silent about rows that the caller may not see.

mlflow-oidc-auth removes hidden rows from a page of results and fills the page up from the following ones. It fetches as
many rows at a time as the client asked for, so `max_results=1` costs a query for each hidden row. Also, the token of
the next page told whether hidden rows follow, and how many were skipped: with a filter on names or tags, this discloses
them letter by letter. Here a fetch has up to `ROWS` rows and a search at most `FETCHES` of them, there is a token only
if a visible row follows, and tokens are encrypted.

GraphQL judges a search of model versions by the first name in its filter. Here it is judged by all names, as MLflow
parses them, and a search by run returns no token.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from mlflow.exceptions import MlflowException
from mlflow.utils.search_utils import SearchLoggedModelsPaginationToken as LoggedModelsToken
from mlflow.utils.search_utils import SearchModelVersionUtils, SearchUtils
from mlflow_oidc_auth.config import config
from mlflow_oidc_auth.graphql import middleware as graphql
from mlflow_oidc_auth.hooks import after_request

from mlops_mlflow_server import ring

# Rows of the first fetch after a page, which mostly only looks for one more visible row, and of those after it.
FIRST_ROWS = 20
ROWS = 1000
FETCHES = 10
_TOP_UP = "_top_up_page"
_STORES = ("_get_tracking_store", "_get_model_registry_store")
_MODEL_VERSIONS = "mlflowSearchModelVersions"
_GRAPHQL = ("_get_input_attr", "_get_input_obj", "_can_read_model", "_can_read_run", "_get_auth_context")


class Larger:
    """A store of MLflow whose searches return at least `rows` rows at a time."""

    def __init__(self, store: Any):
        self._store = store
        self._rows = FIRST_ROWS

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not name.startswith("search_"):
            return found

        def search(*arguments: Any, max_results: int | None = None, **options: Any) -> Any:
            rows, self._rows = self._rows, ROWS
            return found(*arguments, max_results=max(max_results or 0, rows), **options)

        return search


def top_up_page(  # noqa: PLR0917  (the signature of what it replaces)
    rows: Any,
    max_results: int,
    page_token: str,
    fetch: Callable[[str], Any],
    keep: Callable[[Any], bool],
    decode_offset: Callable[[str], int] | None = None,
    encode_offset: Callable[[int], str] | None = None,
) -> str:
    """Replace mlflow-oidc-auth's function of this name: fill `rows` up, and return the token of the next page.

    The token is that of the next visible row, empty if there is none. After `FETCHES` fetches without an end, it is
    that of the next row, and the page may have fewer rows than asked for.
    """
    decode = decode_offset or SearchUtils.parse_start_offset_from_page_token
    encode = encode_offset or SearchUtils.create_page_token
    for _unused in range(FETCHES):
        if not page_token:
            return ""
        batch = fetch(page_token)
        offset = decode(page_token)
        for index, row in enumerate(batch):
            if not keep(row):
                continue
            if len(rows) >= max_results:
                return encode(offset + index)
            rows.append(row.to_proto())
        # MLflow's pages have no token if they are the last.
        page_token = encode(offset + len(batch)) if len(batch) and getattr(batch, "token", None) else ""
    return page_token


class Tokens:
    """Encrypts page tokens, the same in all replicas.

    Args:
        secret: what the key is derived from.
        others: what keys are derived from that decrypt as well.
    """

    def __init__(self, secret: str, others: Iterable[str] = ()):
        keys = [hashlib.sha256(b"mlops page tokens:" + each.encode()).digest() for each in (secret, *others)]
        self._cipher = MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in keys])

    def seal(self, text: str) -> str:
        """Return `text` encrypted."""
        return self._cipher.encrypt(text.encode()).decode()

    def open(self, token: str) -> str:
        """Return the text in `token`.

        Raises:
            MlflowException: it is not one of ours.
        """
        try:
            return self._cipher.decrypt(token).decode()
        except InvalidToken:
            raise MlflowException.invalid_parameter_value("Invalid page token: begin the search again") from None

    def create(self, offset: int) -> str:
        """Return the token of the row at `offset`; all have the same length, since the cipher fills 16 bytes up."""
        return self.seal(str(offset))

    def offset(self, token: str | None) -> int:
        """Return the offset in `token`, and 0 without a token; errors as in `open`."""
        return int(self.open(token)) if token else 0


def selected(filter_string: str, key: str) -> list[str]:
    """Return the values to which a filter of model versions limits the attribute `key`; empty if it does not.

    Raises:
        MlflowException: MLflow cannot parse the filter.
    """
    found: list[str] = []
    for comparison in SearchModelVersionUtils.parse_search_filter(filter_string):
        if comparison["type"] == "attribute" and comparison["key"] == key:
            if comparison["comparator"] == "=":
                found.append(comparison["value"])
            elif comparison["comparator"] == "IN":
                found.extend(comparison["value"])
    return found


def _install_pages() -> bool:
    if not all(hasattr(after_request, name) for name in (_TOP_UP, *_STORES)):
        return False
    setattr(after_request, _TOP_UP, top_up_page)
    for name in _STORES:
        setattr(after_request, name, _larger(getattr(after_request, name)))
    return True


def _larger(make: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: Larger(make())


def _install_tokens() -> bool:
    needed = (
        (SearchUtils, "create_page_token"),
        (SearchUtils, "parse_start_offset_from_page_token"),
        (LoggedModelsToken, "encode"),
        (LoggedModelsToken, "decode"),
    )
    if not all(hasattr(owner, name) for owner, name in needed):
        return False
    tokens = Tokens(config.SECRET_KEY, ring.others("SECRET_KEY"))
    encode, decode = LoggedModelsToken.encode, LoggedModelsToken.decode
    SearchUtils.create_page_token = classmethod(lambda _class, offset: tokens.create(offset))
    SearchUtils.parse_start_offset_from_page_token = classmethod(lambda _class, token: tokens.offset(token))
    LoggedModelsToken.encode = lambda self: tokens.seal(encode(self))
    LoggedModelsToken.decode = classmethod(lambda _class, token: decode(tokens.open(token)))
    return True


def _install_graphql() -> bool:
    middleware = getattr(graphql, "GraphQLAuthorizationMiddleware", None)
    if middleware is None or not all(hasattr(middleware, name) for name in ("resolve", "_check_authorization")):
        return False
    if not all(hasattr(graphql, name) for name in _GRAPHQL):
        return False
    resolve, check = middleware.resolve, middleware._check_authorization

    def check_authorization(self: Any, field_name: str, root: Any, args: dict[str, Any], username: str) -> bool:
        if field_name != _MODEL_VERSIONS:
            return check(self, field_name, root, args, username)
        text = str(graphql._get_input_attr(graphql._get_input_obj(args), "filter") or "")
        if names := selected(text, "name"):
            return all(graphql._can_read_model(name, username) for name in names)
        runs = selected(text, "run_id")
        return bool(runs) and all(graphql._can_read_run(run_id, username) for run_id in runs)

    def resolve_field(self: Any, next_: Callable[..., Any], root: Any, info: Any, **args: Any) -> Any:
        found = resolve(self, next_, root, info, **args)
        if (
            found is None
            or getattr(info, "field_name", None) != _MODEL_VERSIONS
            or graphql._get_auth_context().is_admin
        ):
            return found
        text = str(graphql._get_input_attr(graphql._get_input_obj(args), "filter") or "")
        if not graphql._get_auth_context().is_admin and not selected(text, "name"):
            # Versions of models that the caller may not see can follow.
            found.ClearField("next_page_token")
        return found

    middleware._check_authorization, middleware.resolve = check_authorization, resolve_field
    return True


def install() -> bool:
    """Patch mlflow-oidc-auth's searches and MLflow's page tokens; return whether they have the expected names."""
    return _install_pages() and _install_tokens() and _install_graphql()
