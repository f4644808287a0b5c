"""The tables. Row-level security, roles and grants on them are in the migrations."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    FetchedValue,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from storage._base import Base as Base
from storage._base import of_connection, one_of

# What `oauth_log` tells of: consents, tokens, and each time that a secret left us.
OAUTH_EVENTS = (
    "connect", "refresh", "failure", "revoke", "disconnect", "token", "reveal", "notice",
    "privacy",
)  # fmt: skip


class Tier(StrEnum):
    """What a tenant pays for: how often its connections sync."""

    FREE = "FREE"
    SOLO = "SOLO"
    TEAM = "TEAM"
    ENTERPRISE = "ENTERPRISE"

    @property
    def rank(self) -> int:
        """The higher, the more is paid."""
        return list(Tier).index(self)


class Status(StrEnum):
    """Whether a connection syncs, and if not, who can change that."""

    ACTIVE = "active"
    NEEDS_REAUTH = "needs_reauth"
    PAUSED = "paused"
    REVOKED = "revoked"


class Failure(StrEnum):
    """Why a sync failed, by who must act."""

    BROKEN = "broken"  # the tenant: connect again
    NOT_ALLOWED = "not_allowed"  # the tenant's administrator: allow, buy or enable it
    UNAVAILABLE = "unavailable"  # nobody: the vendor is away
    RATE_LIMITED = "rate_limited"  # nobody: the vendor asks us to wait
    CONTRACT = "contract"  # we: the vendor changed, or we are wrong
    OURS = "ours"  # we: a setting, the database, a process that was killed


class Tenant(Base):
    __tablename__ = "tenants"
    __table_args__ = (one_of("tier", Tier),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    contact_email: Mapped[str | None]
    tier: Mapped[str]
    stripe_customer_id: Mapped[str | None] = mapped_column(unique=True)
    stripe_subscription_id: Mapped[str | None] = mapped_column(unique=True)
    # Wrapped by a master key. Deferred: only atom_tenant and atom_owner may read it.
    data_key: Mapped[bytes | None] = mapped_column(deferred=True, deferred_raiseload=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class TenantSetting(Base):
    __tablename__ = "tenant_settings"

    tenant_id: Mapped[UUID] = mapped_column(
        ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True
    )
    setting_key: Mapped[str] = mapped_column(primary_key=True)
    setting_value: Mapped[str]
    encrypted: Mapped[bool] = mapped_column(server_default=text("true"))
    # Of a key that its vendor has neither accepted nor refused: why, in `doubt` and `message`.
    unproven: Mapped[dict[str, Any] | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Grant(Base):
    __tablename__ = "grants"
    __table_args__ = (
        UniqueConstraint("tenant_id", "setting_key"),
        UniqueConstraint("id", "tenant_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    integration: Mapped[str]
    setting_key: Mapped[str]
    refresh_id: Mapped[UUID | None]
    refresh_started_at: Mapped[datetime | None]
    refreshed_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Connection(Base):
    __tablename__ = "connections"
    __table_args__ = (
        ForeignKeyConstraint(["grant_id", "tenant_id"], ["grants.id", "grants.tenant_id"]),
        UniqueConstraint("tenant_id", "integration", "account_id"),
        UniqueConstraint("id", "tenant_id"),
        one_of("status", Status),
        one_of("failure", Failure),
        Index(None, "grant_id"),
        Index(None, "integration", "account_id"),
        # What claims look through: of one integration and tier, only what syncs.
        Index(
            "connections_due_idx",
            "integration",
            "tier",
            "next_due_at",
            postgresql_where=text("status = 'active'"),
        ),
        Index(None, "watches_due_at"),
        Index(
            "connections_backfill_owed_idx",
            "backfill_owed_at",
            postgresql_where=text("backfill_owed_at IS NOT NULL"),
        ),
        Index(
            "connections_backfill_run_idx",
            "backfill_run_id",
            postgresql_where=text("backfill_run_id IS NOT NULL"),
        ),
        Index(
            "connections_purge_owed_idx",
            "purge_owed_at",
            postgresql_where=text("purge_owed_at IS NOT NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    grant_id: Mapped[UUID]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    # The tenant's. Triggers keep it so: whatever is written here, or there, it is the same.
    tier: Mapped[str] = mapped_column(server_default=FetchedValue())
    integration: Mapped[str]
    account_id: Mapped[str]
    account_name: Mapped[str] = mapped_column(server_default="")
    config: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    status: Mapped[str] = mapped_column(server_default=Status.ACTIVE)
    status_reason: Mapped[str | None]
    next_due_at: Mapped[datetime | None]
    # What `next_due_at` was when a dispatcher took it; null once that sync has ended.
    claimed_due_at: Mapped[datetime | None]
    # Syncs that failed in a row, and why the last one did.
    failures: Mapped[int] = mapped_column(server_default=text("0"))
    failure: Mapped[str | None]
    # When it was reported as failing; null while it is not.
    reported_at: Mapped[datetime | None]
    last_synced_at: Mapped[datetime | None]
    # A backfill that Prefect has not taken yet; written together with the connection.
    backfill_owed_at: Mapped[datetime | None]
    # The run that Prefect has taken for it, until that has begun; and how many never began.
    backfill_run_id: Mapped[UUID | None]
    backfill_tries: Mapped[int] = mapped_column(server_default=text("0"))
    # When its watches at the vendor are to be looked after next.
    watches_due_at: Mapped[datetime | None] = mapped_column(server_default=func.now())
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # Since when all of it is to be forgotten: it is gone for everybody but for who does that.
    purge_owed_at: Mapped[datetime | None]


class Lease(Base):
    __tablename__ = "leases"
    __table_args__ = (of_connection(), one_of("kind", ("sync", "event", "feed")))

    connection_id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    epoch: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[datetime | None]
    holder: Mapped[str | None]


class CheckpointRow(Base):
    __tablename__ = "checkpoints"
    __table_args__ = (
        of_connection(),
        Index(
            "checkpoints_dirty_idx",
            "connection_id",
            postgresql_where=text("dirty_generation > read_generation"),
        ),
    )

    connection_id: Mapped[UUID] = mapped_column(primary_key=True)
    stream: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    state: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    scan_id: Mapped[UUID | None]
    scan_started_at: Mapped[datetime | None]
    # How often something was said to have changed, and up to which of these it has been read.
    dirty_generation: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    read_generation: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    # Not to be read again before: the last attempt failed.
    dirty_due_at: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_synced_at: Mapped[datetime | None]
    # When a read of everything last ended: up to then, deletes were found.
    swept_at: Mapped[datetime | None]
    # Reads that failed in a row without getting on, for a reason of our own; and when they last
    # made it begin anew.
    failures: Mapped[int] = mapped_column(server_default=text("0"))
    restarted_at: Mapped[datetime | None]
    # When it is to be checked against what the vendor lists, and how often.
    audit_due_at: Mapped[datetime | None]
    audit_every: Mapped[timedelta | None]
    # Which fields its records have, and how far a read of everything has come that gives older rows
    # the fields they lack; null where there is none.
    shape: Mapped[str | None]
    refill: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    # The parts of it, such as channels, that could not be read: [{"part", "failure", "error"}].
    unread: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'"))
    # Why the vendor refuses it until the tenant's administrator acts, and until when no scheduled
    # sync asks again; null once it has been read.
    refusal: Mapped[str | None]
    refused_until: Mapped[datetime | None]


_WRITTEN_AT = (
    "\nCASE\n    WHEN changed_at IS NULL THEN GREATEST(observed_at, deleted_at)"
    "\n    ELSE changed_at\nEND"
)


class RecordRow(Base):
    __tablename__ = "records"
    __table_args__ = (
        of_connection(),
        # What changed of a connection's stream since a time; `storage.changes` asks so.
        Index(
            "records_changed_idx",
            "connection_id",
            # As PostgreSQL writes it, so that tests can compare.
            text(_WRITTEN_AT),
            postgresql_where=text(f"({_WRITTEN_AT}) IS NOT NULL"),
        ),
        {"postgresql_partition_by": "LIST (stream)"},
    )

    # The partition fixes the stream, so the primary key leads with what tells rows apart in it.
    connection_id: Mapped[UUID] = mapped_column(primary_key=True)
    record_id: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    stream: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    tenant_id: Mapped[UUID]
    data: Mapped[dict[str, Any]]
    version: Mapped[int | None] = mapped_column(BigInteger)
    observed_at: Mapped[datetime]
    content_hash: Mapped[bytes]
    deleted_at: Mapped[datetime | None]
    # That of the deletion, where it came with one; `version` stays that of what it buried.
    deleted_version: Mapped[int | None] = mapped_column(BigInteger)
    # When what clients are shown of it last became another: by our database's clock. Null in rows
    # that were written before there was this column.
    changed_at: Mapped[datetime | None]
    # Why it is gone, or no longer shown to who consented; and which record took it in.
    gone_as: Mapped[str | None]
    merged_into: Mapped[str | None]


class Audit(Base):
    """A check of one stream against what the vendor lists. `keys` holds some of what differed."""

    __tablename__ = "audits"
    __table_args__ = (
        of_connection(),
        Index("audits_connection_id_stream_idx", "connection_id", "stream", "started_at"),
        Index("audits_ended_at_idx", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    connection_id: Mapped[UUID]
    stream: Mapped[str]
    started_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    ended_at: Mapped[datetime | None]
    checked: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    # Records that we did not have, that we had otherwise, and that we had though they were gone.
    missing: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    stale: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    extra: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    keys: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))


class Seen(Base):
    __tablename__ = "seen"
    __table_args__ = (of_connection(),)

    connection_id: Mapped[UUID] = mapped_column(primary_key=True)
    scan_id: Mapped[UUID] = mapped_column(primary_key=True)
    stream: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    record_id: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    tenant_id: Mapped[UUID]


class Event(Base):
    __tablename__ = "events"
    __table_args__ = (
        of_connection(),
        # One delivery about an account that two tenants connected is an event for each.
        UniqueConstraint("integration", "event_id", "connection_id"),
        Index(
            "events_pending_idx",
            "connection_id",
            "id",
            postgresql_where=text("applied_at IS NULL AND failed_at IS NULL"),
        ),
        # A connection that is removed takes its events along.
        Index(None, "connection_id"),
        Index("events_applied_idx", "applied_at", postgresql_where=text("applied_at IS NOT NULL")),
        Index("events_failed_idx", "failed_at", postgresql_where=text("failed_at IS NOT NULL")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    integration: Mapped[str]
    event_id: Mapped[str]
    connection_id: Mapped[UUID]
    tenant_id: Mapped[UUID]
    type: Mapped[str]
    # It is applied whatever has become of the connection.
    is_duty: Mapped[bool] = mapped_column(server_default=text("false"))
    data: Mapped[dict[str, Any]]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
    applied_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    error: Mapped[str | None]
    # When it is tried again, and when it was given up.
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    failed_at: Mapped[datetime | None]


class Reader(Base):
    """A login role of the database that reads with SQL: one tenant's rows, or all."""

    __tablename__ = "readers"
    __table_args__ = (
        CheckConstraint("reads_all = (tenant_id IS NULL)", name="reads"),
        Index(None, "tenant_id"),
    )

    name: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID | None] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    reads_all: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Watch(Base):
    __tablename__ = "watches"
    __table_args__ = (
        of_connection(),
        UniqueConstraint("connection_id", "vendor_id"),
        Index(None, "expires_at"),
        Index(None, "vendor_id"),
        one_of("status", ("active", "retiring", "refused")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    tenant_id: Mapped[UUID]
    connection_id: Mapped[UUID]
    vendor_id: Mapped[str]
    resource: Mapped[str]
    state: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    expires_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    status: Mapped[str] = mapped_column(server_default="active")
    # What its deliveries are proven by, under the tenant's key.
    sealed_secret: Mapped[str | None]
    # When it is renewed or replaced; ended at the vendor, if it is retiring; asked for again, if it
    # was refused.
    renew_at: Mapped[datetime | None]
    # When the vendor last said that it stands.
    confirmed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    reason: Mapped[str | None]


class Gap(Base):
    """A time in which we may have missed changes; a read of just that time closes it."""

    __tablename__ = "gaps"
    __table_args__ = (
        of_connection(),
        Index("gaps_open_idx", "due_at", postgresql_where=text("closed_at IS NULL")),
        Index(None, "connection_id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    tenant_id: Mapped[UUID]
    connection_id: Mapped[UUID]
    streams: Mapped[list[str]] = mapped_column(JSONB)
    since: Mapped[datetime]
    until: Mapped[datetime]
    reason: Mapped[str]
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    closed_at: Mapped[datetime | None]


class Drain(Base):
    __tablename__ = "drains"

    shard: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    generation: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    alive_until: Mapped[datetime | None]


class Feed(Base):
    """How far a connection's vendor was listened to; `due_at` is when it is tried again."""

    __tablename__ = "feeds"
    __table_args__ = (of_connection(),)

    connection_id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    state: Mapped[dict[str, Any]]
    heard_at: Mapped[datetime | None]
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    failures: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    reason: Mapped[str | None]


class OAuthLog(Base):
    __tablename__ = "oauth_log"
    __table_args__ = (
        one_of("event", OAUTH_EVENTS),
        Index(None, "tenant_id", "at"),
        Index(None, "at"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    # No foreign key: the log outlives the grant.
    grant_id: Mapped[UUID | None]
    integration: Mapped[str]
    event: Mapped[str]
    message: Mapped[str] = mapped_column(server_default="")
    detail: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))


class ConnectSession(Base):
    """A link by which a tenant's browser may connect accounts; only its hash is stored."""

    __tablename__ = "connect_sessions"
    __table_args__ = (
        UniqueConstraint("id", "tenant_id"),
        Index(None, "expires_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    integration: Mapped[str | None]
    label: Mapped[str | None]
    return_url: Mapped[str | None]
    # What is offered, in this order; NULL offers all.
    integrations: Mapped[list[str] | None] = mapped_column(JSONB)
    # Whether it shows what the operator has not set up, which is for the operator's own people.
    shows_unconfigured: Mapped[bool] = mapped_column(server_default=text("false"))
    language: Mapped[str | None]
    # The browser that opened the link, by the hash of its cookie; no other may use it after.
    browser_hash: Mapped[bytes | None]
    bound_at: Mapped[datetime | None]
    # What is answered already of what integrations ask before consent, such as a shop's address.
    answers: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    # What the page tells next: how the last thing went that was done on it.
    note: Mapped[dict[str, Any] | None]
    expires_at: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class OAuthState(Base):
    """A browser that was sent to a vendor, and may come back; its answer is read once."""

    __tablename__ = "oauth_states"
    __table_args__ = (
        ForeignKeyConstraint(
            ["session_id", "tenant_id"],
            ["connect_sessions.id", "connect_sessions.tenant_id"],
            ondelete="CASCADE",
        ),
        Index(None, "session_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    tenant_id: Mapped[UUID]
    session_id: Mapped[UUID]
    integration: Mapped[str]
    nonce_hash: Mapped[bytes] = mapped_column(unique=True)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    # What came of it; we show it again to who comes back. Null while that is under way.
    outcome: Mapped[dict[str, Any] | None]
    # Sealed: tokens and accounts of a consent whose accounts are still to be chosen.
    held: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Revocation(Base):
    """A token that was taken out of use here, and is still to be given back to the vendor."""

    __tablename__ = "revocations"
    __table_args__ = (Index(None, "next_attempt_at"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    # No foreign key: a purge removes the grant.
    grant_id: Mapped[UUID]
    integration: Mapped[str]
    account_ids: Mapped[list[str]] = mapped_column(JSONB)
    sealed_token: Mapped[str]
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    next_attempt_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Notice(Base):
    """A break that we report to its tenant: one row from the break until it is mended."""

    __tablename__ = "notices"
    __table_args__ = (
        ForeignKeyConstraint(
            ["grant_id", "tenant_id"], ["grants.id", "grants.tenant_id"], ondelete="CASCADE"
        ),
        one_of("outcome", ("sent", "logged", "refused", "put_off", "cancelled")),
        Index(
            "notices_open_idx", "grant_id", unique=True, postgresql_where=text("ended_at IS NULL")
        ),
        Index(None, "grant_id", "tenant_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    tenant_id: Mapped[UUID]
    grant_id: Mapped[UUID]
    integration: Mapped[str]
    reason: Mapped[str]
    broke_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # How often we notified the tenant, and when we do so next; never, where that is null.
    told: Mapped[int] = mapped_column(server_default=text("0"))
    due_at: Mapped[datetime | None] = mapped_column(server_default=func.now())
    claim_id: Mapped[UUID | None]
    claimed_until: Mapped[datetime | None]
    # To send the notice that is due, in a row.
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    outcome: Mapped[str | None]
    ended_at: Mapped[datetime | None]


class BillingEvent(Base):
    """An event of Stripe's that was taken; it is never taken twice."""

    __tablename__ = "billing_events"
    __table_args__ = (Index(None, "received_at"),)

    event_id: Mapped[str] = mapped_column(primary_key=True)
    type: Mapped[str]
    customer_id: Mapped[str]
    created_at: Mapped[datetime]
    received_at: Mapped[datetime]


class BillingCustomer(Base):
    """A customer at Stripe: a tenant's, or one that an event named and we have to ask about."""

    __tablename__ = "billing_customers"
    __table_args__ = (one_of("tier", Tier), Index(None, "due_at"))

    customer_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("tenants.id", ondelete="CASCADE"), unique=True
    )
    livemode: Mapped[bool]
    # What its subscriptions gave when they were last read; null while they say nothing.
    tier: Mapped[str | None]
    # Each subscription of which a payment failed, and when the first one of its period did.
    past_due: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    # What is remembered of each subscription: what it paid last, and since when it is active.
    standing: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    # Prices that no STRIPE_PRICE_ID_ variable names, of subscriptions that have no other.
    unknown_prices: Mapped[list[str]] = mapped_column(JSONB, server_default=text("'[]'"))
    # Whom its metadata names, where that tenant has another customer.
    names_tenant_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("tenants.id", ondelete="SET NULL")
    )
    problem: Mapped[str | None]
    read_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    # How many events said that something changed; more of them than when we last read the
    # customer means that we have to read it again.
    hints: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    due_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    claim_id: Mapped[UUID | None]
    claimed_until: Mapped[datetime | None]


class BillingEnding(Base):
    """A customer at Stripe whose tenant is erased, and who may be charged still.

    Nothing here says whose it was.
    """

    __tablename__ = "billing_endings"

    customer_id: Mapped[str] = mapped_column(primary_key=True)
    # Not known where the customer was never read.
    livemode: Mapped[bool | None]
    problem: Mapped[str]
    owed_since: Mapped[datetime]
    due_at: Mapped[datetime]


class SyncRun(Base):
    __tablename__ = "sync_runs"
    __table_args__ = (
        of_connection(),
        Index(None, "connection_id", "started_at"),
        Index("sync_runs_running_idx", "started_at", postgresql_where=text("ended_at IS NULL")),
        Index(None, "ended_at"),
        Index(None, "flow_run_id"),
        one_of("failure", Failure),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    tenant_id: Mapped[UUID]
    connection_id: Mapped[UUID]
    trigger: Mapped[str]
    flow_run_id: Mapped[UUID | None]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]
    status: Mapped[str] = mapped_column(server_default="running")
    failure: Mapped[str | None]
    message: Mapped[str] = mapped_column(server_default="")
    streams: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    requests: Mapped[int] = mapped_column(server_default=text("0"))
    seconds: Mapped[float | None]


class IdempotencyKey(Base):
    """What a request of the API's under such a key made. `tenant_id` is the token's: an operator's
    names no tenant."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        UniqueConstraint("tenant_id", "key_hash"),
        Index(None, "created_at"),
        Index(None, "about_tenant_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    key_hash: Mapped[bytes]
    fingerprint: Mapped[bytes]
    claimed_until: Mapped[datetime]
    # Whom the answer is about, and is sealed for; the token's own tenant until there is one.
    about_tenant_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("tenants.id", ondelete="CASCADE")
    )
    status: Mapped[int | None]
    sealed_answer: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class SyncInterval(Base):
    """How often a stream is polled, as the tier table says: what the view `freshness` compares to.

    `every_watched` is for connections that have a live watch, where an integration needs watches.
    """

    __tablename__ = "sync_intervals"

    integration: Mapped[str] = mapped_column(primary_key=True)
    tier: Mapped[str] = mapped_column(primary_key=True)
    stream: Mapped[str] = mapped_column(primary_key=True)
    every: Mapped[timedelta]
    every_watched: Mapped[timedelta]


class Breaker(Base):
    """An integration that was found away as a whole: open until a probe comes through."""

    __tablename__ = "breakers"

    integration: Mapped[str] = mapped_column(primary_key=True)
    opened_at: Mapped[datetime | None]
    probe_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]
    # How often it was opened in a row: the next probe waits longer.
    trips: Mapped[int] = mapped_column(server_default=text("0"))
    reason: Mapped[str] = mapped_column(server_default="")


class DeployMark(Base):
    """That connections or tiers changed since schedules were last made from them.

    Made by triggers, in the transaction of the change, so whoever sees one sees the change.
    """

    __tablename__ = "deploy_marks"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    made_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Installation(Base):
    __tablename__ = "installation"
    __table_args__ = (CheckConstraint("singleton", name="singleton"),)

    singleton: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    key_fingerprints: Mapped[list[str]] = mapped_column(JSONB, server_default=text("'[]'"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Worker(Base):
    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(primary_key=True)
    # By this, releases before `incarnations` tell their own runs to stop.
    stopping_at: Mapped[datetime | None]
    heartbeat_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # Background tasks that fail again and again, by name, and why.
    troubles: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))


class Incarnation(Base):
    __tablename__ = "incarnations"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    worker: Mapped[str]
    host: Mapped[str]
    pid: Mapped[int]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    heartbeat_at: Mapped[datetime] = mapped_column(server_default=func.now())
    stopping_at: Mapped[datetime | None]


class Integration(Base):
    """An integration that was added at run time, by its manifest.

    `read_by` says which reader of manifests its streams' tables and views were made with.
    """

    __tablename__ = "integrations"
    __table_args__ = (
        CheckConstraint("slug ~ '^[a-z][a-z0-9_]{0,39}$'", name="slug"),
        CheckConstraint("level BETWEEN 0 AND 5", name="level"),
    )

    slug: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]
    version: Mapped[str]
    # Packed (`integrations.pack`).
    manifest: Mapped[bytes]
    sha256: Mapped[str]
    source: Mapped[str]
    licence: Mapped[str]
    level: Mapped[int] = mapped_column(server_default=text("0"))
    read_by: Mapped[str]
    added_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    changed_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class IntegrationList(Base):
    """One row, once there was a change: its revision is another after each."""

    __tablename__ = "integration_lists"
    __table_args__ = (CheckConstraint("singleton", name="singleton"),)

    singleton: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    revision: Mapped[UUID]
