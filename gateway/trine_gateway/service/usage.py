"""What a key has spent and what verifiers said of its answers: as JSON, and as a page that loads nothing else."""

from __future__ import annotations

import base64
import hashlib
import html
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from trine.errors import TrineError
from trine_gateway.asking import Asking
from trine_gateway.records import Judged, Key, Usage
from trine_gateway.service.access import Access
from trine_gateway.service.refusing import refusal_of
from trine_gateway.store import GatewayStore
from trine_operator.refusal import Refusal

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #888; --good: #1a7f37; --bad: #cf222e; --bar: #0969da; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
table { border-collapse: collapse; width: 100%; } th { color: var(--soft); font-weight: 500; text-align: left; }
td, th { border-bottom: 1px solid var(--line); padding: .35rem .6rem .35rem 0; vertical-align: top; }
td { overflow-wrap: anywhere; } td:first-child { white-space: nowrap; }
main { overflow-x: auto; }
.n { font-variant-numeric: tabular-nums; text-align: right; white-space: nowrap; }
code { font: .85em ui-monospace, monospace; } .soft { color: var(--soft); }
.accept { color: var(--good); } .reject, .unavailable { color: var(--bad); }
progress { accent-color: var(--bar); display: block; margin-left: auto; width: 5rem; }
"""
POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    + "'"
)
HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "vary": "accept, authorization",
}


class UsageEndpoints:
    """For who has a key, of that key; of all keys for one that may see them."""

    def __init__(self, store: GatewayStore, asking: Asking, access: Access) -> None:
        self._store = store
        self._asking = asking
        self._access = access
        self.router = APIRouter()
        self.router.add_api_route("/usage", self.usage, methods=["GET"])

    async def usage(self, request: Request) -> Response:
        wants_page = "text/html" in request.headers.get("accept", "")
        try:
            key = await self._access.key_of_browser(request)
            self._access.rate(key)
            own = await self._asking.apart(self._store.usage, key.key_id)
            every = await self._asking.apart(self._store.usage) if key.is_admin else []
            nodes = await self._asking.apart(self._store.all_cut_off) if key.is_admin else []
        except Refusal as refusal:
            if wants_page and refusal.status == 401:
                asks = {"www-authenticate": 'Basic realm="Trine gateway: any user, the key as password"'}
                raise Refusal(str(refusal), status=401, code=refusal.code, headers=asks) from None
            raise
        except TrineError as error:
            raise refusal_of(error) from None
        if wants_page:
            return HTMLResponse(page(key, own[0], every, nodes), headers=HEADERS)
        return JSONResponse(document(key, own[0], every, nodes), headers={"cache-control": "no-store"})


def document(key: Key, own: Usage, every: Sequence[Usage], nodes: Sequence[tuple[str, int, str]]) -> dict[str, Any]:
    told = {"object": "usage", **of_key(own), "recent": [_of_answer(answer) for answer in own.recent]}
    if key.is_admin:
        told["keys"] = [of_key(usage) for usage in every]
        told["nodesCutOff"] = [
            {"node": node, "secondsLeft": seconds, "receipt": "0x" + digest} for node, seconds, digest in nodes
        ]
    return told


def of_key(usage: Usage) -> dict[str, Any]:
    """As JSON; amounts in wei, as text."""
    key = usage.key
    return {
        "key": key.key_id,
        "name": key.name,
        "isAdmin": key.is_admin,
        "createdAt": usage.created_at,
        "expiresAt": key.expires_at,
        "revokedAt": key.revoked_at,
        "requestsPerMinute": key.requests_per_minute,
        "budgetWei": None if key.budget_wei is None else str(key.budget_wei),
        "spentWei": str(usage.spent_wei),
        "reservedWei": str(usage.reserved_wei),
        "answers": usage.answers,
        "verdicts": {**usage.verdicts, "pending": usage.answers - sum(usage.verdicts.values())},
    }


def _of_answer(answer: Judged) -> dict[str, Any]:
    return {
        "receipt": answer.digest,
        "model": answer.model,
        "node": answer.node,
        "feeWei": str(answer.fee_wei),
        "createdAt": answer.created_at,
        "verdict": answer.verdict or "pending",
        "isFinal": answer.is_final,
    }


def page(key: Key, own: Usage, every: Sequence[Usage], nodes: Sequence[tuple[str, int, str]]) -> str:
    """Self-contained: no script, no image, one style whose hash is in the policy. Everything in it is escaped."""
    keys = "".join(_row(usage) for usage in (every or [own]))
    answers = "".join(
        f'<tr><td>{_when(a.created_at)}<td>{_text(a.model)}<td><code>{_text(a.node)}</code><td class="n">'
        f'{_tokens(a.fee_wei)}<td class="{_text(a.verdict or "pending")}">{_text(a.verdict or "pending")}'
        f'{" <span class=soft>final</span>" if a.is_final else ""}<td><code title="{_text(a.digest)}">'
        f"{_text(a.digest[:14])}…</code>"
        for a in own.recent
    )
    cut_off = "".join(
        f'<tr><td><code>{_text(node)}</code><td class="n">{seconds // 60} min<td><code>0x{_text(digest)}</code>'
        for node, seconds, digest in nodes
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Trine gateway: usage</title><style>{STYLE}</style></head><body><main>
<h1>Trine gateway <span class="soft">usage of {_text(key.name)}, {_when(int(time.time()))}</span></h1>
<h2>{"All keys" if every else "This key"}</h2>
<table><tr><th>key<th>name<th class="n">spent<th class="n" title="for answers on their way">reserved
<th class="n">budget<th class="n">answers
<th class="n">accepted<th class="n">rejected<th class="n">unavailable<th class="n">inconclusive
<th class="n">pending{keys}</table>
<h2>Its last answers</h2>
{
        f'''<table><tr><th>when<th>model<th>node<th class="n">fee<th>verdict<th>receipt{answers}</table>'''
        if answers
        else '<p class="soft">none yet</p>'
    }
{
        f'''<h2>Nodes that are asked nothing</h2><table><tr><th>node<th class="n">for<th>rejected{cut_off}</table>'''
        if cut_off
        else ""
    }
<p class="soft">Amounts in the deployment's token. What verifiers do not accept for good costs nothing.</p>
</main></body></html>
"""


def _row(usage: Usage) -> str:
    key, verdicts = usage.key, usage.verdicts
    state = "revoked" if key.revoked_at else "expired" if not key.is_valid(time.time()) else ""
    bar = ""
    if key.budget_wei:
        part = min(1.0, (usage.spent_wei + usage.reserved_wei) / key.budget_wei)
        bar = f'<progress value="{part:.4f}"></progress>'
    budget = "none" if key.budget_wei is None else _tokens(key.budget_wei)
    pending = usage.answers - sum(verdicts.values())
    counts = "".join(
        f'<td class="n{f" {result}" if verdicts[result] else ""}">{verdicts[result]}'
        for result in ("accept", "reject", "unavailable", "inconclusive")
    )
    return (
        f"<tr><td><code>{_text(key.key_id)}</code><td>{_text(key.name)} <span class=soft>{state}</span>"
        f'<td class="n">{_tokens(usage.spent_wei)}<td class="n">{_tokens(usage.reserved_wei)}'
        f'<td class="n">{budget}{bar}<td class="n">{usage.answers}{counts}<td class="n">{pending}'
    )


def _text(text: str) -> str:
    return html.escape(text, quote=True)


def _tokens(wei: int) -> str:
    if 0 < wei < 10**12:
        return "&lt; 0.000001"
    whole, millionths = divmod(wei // 10**12, 10**6)
    return f"{whole:,}.{millionths:06}".rstrip("0").rstrip(".")


def _when(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
