"""Every unit of work once: a function over a sync ``Session`` that never commits. The handlers own the transaction."""

from __future__ import annotations

from tiny_ca.db.queries.audit import insert_audit
from tiny_ca.db.queries.certificates import (
    certificate_by_fingerprint,
    certificate_by_name,
    certificate_by_serial,
    certificate_by_uuid,
    delete_by_serial,
    delete_by_uuid,
    delete_expired,
    expiring,
    insert_certificates,
    list_certificates,
    mark_expired,
    page_certificates,
    superseded_by,
    superseded_with_key,
    valid_with_key,
)
from tiny_ca.db.queries.crls import (
    begin_crl,
    begin_packed_crl,
    latest_crl,
    prune_crls,
    record_crl,
    revoked_by,
    revoked_rows,
)
from tiny_ca.db.queries.issuers import insert_issuers, issuer_by_id, list_issuers
from tiny_ca.db.queries.revocations import revoke, revoke_valid, unhold
from tiny_ca.db.queries.succession import insert_successor
from tiny_ca.db.queries.tokens import put_token, token_by_hash

__all__ = [
    "begin_crl",
    "begin_packed_crl",
    "certificate_by_fingerprint",
    "certificate_by_name",
    "certificate_by_serial",
    "certificate_by_uuid",
    "delete_by_serial",
    "delete_by_uuid",
    "delete_expired",
    "expiring",
    "insert_audit",
    "insert_certificates",
    "insert_issuers",
    "insert_successor",
    "issuer_by_id",
    "latest_crl",
    "list_certificates",
    "list_issuers",
    "mark_expired",
    "page_certificates",
    "prune_crls",
    "put_token",
    "record_crl",
    "revoke",
    "revoke_valid",
    "revoked_by",
    "revoked_rows",
    "superseded_by",
    "superseded_with_key",
    "token_by_hash",
    "unhold",
    "valid_with_key",
]
