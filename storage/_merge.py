"""The statements by which rows are merged into `records`; `storage.records` says what they do.

Each takes the values stream, connection_id and tenant_id, and what its comment or its name says.
"""

from psycopg import sql

STAGE = sql.SQL(
    """
    CREATE TEMP TABLE IF NOT EXISTS atom_batch (
        record_id text COLLATE "C", data jsonb, version bigint, observed_at timestamptz,
        content_hash bytea, deleted boolean, gone_as text, merged_into text
    ) ON COMMIT DROP
    """
)

COPY = sql.SQL("COPY pg_temp.atom_batch FROM STDIN (FORMAT BINARY)")

SEE = sql.SQL(
    """
    INSERT INTO seen (scan_id, stream, record_id, connection_id, tenant_id)
    SELECT %(scan_id)s, %(stream)s, record_id, %(connection_id)s, %(tenant_id)s
    FROM pg_temp.atom_batch WHERE NOT deleted
    ON CONFLICT DO NOTHING
    """
)

# When this transaction writes, by the database's clock. The lock says to readers of changes that
# something from then on is still to be committed: see `storage.changes`.
CHANGED_AT = sql.SQL(
    """
    SELECT at, pg_advisory_xact_lock_shared(
        hashtext(%(connection_id)s::text), extract(epoch FROM at)::bigint::int
    ) FROM (SELECT clock_timestamp() AS at OFFSET 0) now
    """
)

SEE_KEYS = sql.SQL(
    """
    INSERT INTO seen (scan_id, stream, record_id, connection_id, tenant_id)
    SELECT %(scan_id)s, %(stream)s, key, %(connection_id)s, %(tenant_id)s
    FROM unnest(%(keys)s::text[]) AS key ON CONFLICT DO NOTHING
    """
)

# When what is stored was observed. What lies in the future was written by a clock that was wrong,
# and must not keep what is true from being written until then.
OBSERVED_AT = sql.SQL(
    """
    CASE WHEN r.observed_at < clock_timestamp() + interval '1 minute'
        THEN r.observed_at ELSE '-infinity' END
    """
)

# `new` takes the place of `r`: the merge rule, and something of it would change. A `quiet` write
# leaves alone what it would only observe once more.
_LIVE_WINS = sql.SQL(
    """
    CASE WHEN r.deleted_at IS NULL THEN
        {new}.version > r.version IS TRUE
        OR {new}.observed_at > {observed_at}
            AND coalesce({new}.version = r.version, true)
    ELSE
        {new}.version > r.deleted_version IS TRUE
        OR {new}.observed_at > {observed_at}
    END AND (
        r.deleted_at IS NOT NULL
        OR r.gone_as IS NOT NULL
        OR {new}.content_hash <> r.content_hash
        OR CASE WHEN %(quiet)s THEN {new}.version IS DISTINCT FROM r.version
            AND {new}.version IS NOT NULL
            ELSE coalesce({new}.version <> r.version, true) END
    )
    """
)

# Of a read and a deletion that were observed at once, the deletion is the later news.
_TOMBSTONE_WINS = sql.SQL(
    """
    CASE WHEN r.deleted_at IS NULL THEN
        {version} > r.version IS TRUE
        OR {new}.observed_at >= {observed_at}
            AND coalesce({version} = r.version, true)
    ELSE NOT %(quiet)s AND {new}.observed_at > {observed_at}
    END
    """
)


def _live_wins(new: sql.Identifier) -> sql.Composed:
    return _LIVE_WINS.format(new=new, observed_at=OBSERVED_AT)


def _tombstone_wins(new: sql.Identifier, version: sql.Identifier) -> sql.Composed:
    return _TOMBSTONE_WINS.format(new=new, version=version, observed_at=OBSERVED_AT)


# Read before the upsert, and apart from it: an upsert locks, and so writes, also the rows it then
# leaves as they are, and through a partitioned table it does not tell an insert from an update.
# LIMIT makes it look each key up: of a table without statistics, as during a backfill, a join would
# rather read all rows of the connection, for every batch.
COMPARE = sql.SQL(
    """
    SELECT count(*), count(*) FILTER (WHERE {wins} AND r.deleted_at IS NOT NULL),
        count(*) FILTER (WHERE {wins} AND r.deleted_at IS NULL),
        count(*) FILTER (
            WHERE {wins} AND r.deleted_at IS NULL AND b.content_hash <> r.content_hash
        ),
        coalesce(array_agg(b.record_id) FILTER (WHERE ({wins}) IS NOT TRUE), '{{}}')
    FROM pg_temp.atom_batch b CROSS JOIN LATERAL (
        SELECT version, observed_at, content_hash, deleted_at, deleted_version, gone_as
        FROM records
        WHERE stream = %(stream)s AND connection_id = %(connection_id)s
            AND record_id = b.record_id
        LIMIT 1
    ) r
    WHERE b.deleted = %(deleted)s
    """
)

UPSERT = sql.SQL(
    """
    INSERT INTO records AS r (
        connection_id, record_id, stream, tenant_id, data, version, observed_at, content_hash,
        deleted_at, deleted_version, changed_at, gone_as, merged_into
    )
    SELECT %(connection_id)s, record_id, %(stream)s, %(tenant_id)s, data,
        CASE WHEN NOT deleted THEN version END, observed_at, content_hash,
        CASE WHEN deleted THEN now() END, CASE WHEN deleted THEN version END, %(changed_at)s,
        gone_as, merged_into
    FROM pg_temp.atom_batch b
    WHERE deleted = %(deleted)s AND record_id <> ALL (%(stays)s)
        AND (NOT (deleted AND %(quiet)s) OR EXISTS (
            SELECT FROM records WHERE stream = %(stream)s AND connection_id = %(connection_id)s
                AND record_id = b.record_id
        ))
    ON CONFLICT (connection_id, record_id, stream) DO UPDATE SET {changes} WHERE {wins}
    """
)

# Of a row `r`: neither this scan has seen it, nor anybody else since it began.
NOT_SEEN_BY_SCAN = sql.SQL(
    """
    (
        deleted_at IS NULL AND {observed_at} < %(started_at)s
        AND NOT EXISTS (
            SELECT FROM seen s
            WHERE s.connection_id = %(connection_id)s AND s.scan_id = %(scan_id)s
                AND s.stream = %(stream)s AND s.record_id = r.record_id
            OFFSET 0
        )
        AND NOT EXISTS (
            SELECT FROM unnest(%(unseen)s::text[]) u WHERE starts_with(r.record_id, u)
        )
    )
    """
).format(observed_at=OBSERVED_AT)
# What was found before may have changed meanwhile. A record that was found hidden stays, until the
# vendor shows it again or reports it gone.
SWEEP = sql.SQL(
    """
    UPDATE records r SET deleted_at = now(), observed_at = %(started_at)s,
        changed_at = %(changed_at)s, gone_as = 'deleted'
    WHERE stream = %(stream)s AND connection_id = %(connection_id)s AND record_id = ANY (%(keys)s)
        AND deleted_at IS NULL AND {observed_at} < %(started_at)s
        AND NOT (%(spares)s AND gone_as IS NOT NULL)
    RETURNING record_id
    """
).format(observed_at=OBSERVED_AT)

# One statement for the listings of a batch: there may be one for each of its rows. LATERAL makes it
# look each range of keys up, as LIMIT does in COMPARE.
BURY = sql.SQL(
    """
    UPDATE records r SET
        deleted_at = CASE WHEN gone.marks THEN r.deleted_at ELSE now() END,
        observed_at = CASE WHEN gone.marks THEN r.observed_at ELSE gone.at END,
        changed_at = %(changed_at)s,
        gone_as = gone.gone_as
    FROM (
        SELECT found.record_id, max(w.at) AS at, bool_and(w.marks) AS marks,
            min(w.gone_as) AS gone_as
        FROM unnest(
            %(prefixes)s::text[], %(ends)s::text[], %(times)s::timestamptz[], %(marks)s::bool[],
            %(reasons)s::text[]
        ) WITH ORDINALITY AS w (prefix, ending, at, marks, gone_as, number)
        CROSS JOIN LATERAL (
            SELECT record_id FROM records r
            WHERE stream = %(stream)s AND connection_id = %(connection_id)s
                AND record_id >= w.prefix COLLATE "C" AND record_id < w.ending COLLATE "C"
                AND deleted_at IS NULL AND {observed_at} < w.at
                AND NOT (w.marks AND gone_as IS NOT NULL)
            OFFSET 0
        ) found
        WHERE NOT EXISTS (
            SELECT FROM unnest(%(owners)s::bigint[], %(kept)s::text[]) AS k (number, record_id)
            WHERE k.number = w.number AND k.record_id = found.record_id
        ) AND NOT EXISTS (
            SELECT FROM pg_temp.atom_batch b
            WHERE b.record_id = found.record_id AND NOT b.deleted AND b.observed_at >= w.at
        )
        GROUP BY found.record_id
    ) gone
    WHERE r.stream = %(stream)s AND r.connection_id = %(connection_id)s
        AND r.record_id = gone.record_id
    RETURNING NOT gone.marks
    """
).format(observed_at=OBSERVED_AT)

# What a part of a record is merged into; locked, so that no event changes it in between.
STORED = sql.SQL(
    """
    SELECT record_id, data FROM records
    WHERE stream = %(stream)s AND connection_id = %(connection_id)s AND record_id = ANY (%(keys)s)
        AND deleted_at IS NULL
    ORDER BY record_id FOR UPDATE
    """
)

# Live, and no longer shown to who consented.
MARK = sql.SQL(
    """
    UPDATE records SET gone_as = 'hidden', changed_at = %(changed_at)s
    WHERE stream = %(stream)s AND connection_id = %(connection_id)s AND record_id = ANY (%(keys)s)
        AND deleted_at IS NULL AND gone_as IS NULL
    """
)

EXCLUDED, BATCH = sql.Identifier("excluded"), sql.Identifier("b")
LIVE = (
    COMPARE.format(wins=_live_wins(BATCH)),
    UPSERT.format(
        wins=_live_wins(EXCLUDED),
        changes=sql.SQL(
            """
            data = excluded.data, content_hash = excluded.content_hash, deleted_at = NULL,
            deleted_version = NULL,
            version = coalesce(excluded.version, r.version),
            observed_at = greatest(excluded.observed_at, {observed_at}),
            changed_at = CASE
                WHEN r.deleted_at IS NULL AND r.content_hash = excluded.content_hash
                THEN r.changed_at ELSE excluded.changed_at
            END,
            gone_as = NULL, merged_into = NULL
            """
        ).format(observed_at=OBSERVED_AT),
    ),
)
TOMBSTONES = (
    COMPARE.format(wins=_tombstone_wins(BATCH, sql.Identifier("b", "version"))),
    UPSERT.format(
        wins=_tombstone_wins(EXCLUDED, sql.Identifier("excluded", "deleted_version")),
        changes=sql.SQL(
            """
            deleted_at = coalesce(r.deleted_at, excluded.deleted_at),
            deleted_version = greatest(excluded.deleted_version, r.deleted_version),
            observed_at = greatest(excluded.observed_at, {observed_at}),
            changed_at = CASE WHEN r.deleted_at IS NULL THEN excluded.changed_at
                ELSE r.changed_at END,
            gone_as = excluded.gone_as,
            merged_into = coalesce(excluded.merged_into, r.merged_into)
            """
        ).format(observed_at=OBSERVED_AT),
    ),
)
DIFFERING = sql.SQL(
    """
    SELECT b.record_id, CASE
            WHEN b.deleted THEN 'deleted'
            WHEN r.record_id IS NULL OR r.deleted_at IS NOT NULL THEN 'inserted' ELSE 'updated' END
    FROM pg_temp.atom_batch b LEFT JOIN LATERAL (
        SELECT * FROM records
        WHERE stream = %(stream)s AND connection_id = %(connection_id)s AND record_id = b.record_id
        LIMIT 1
    ) r ON true
    WHERE CASE
        WHEN b.deleted THEN r.record_id IS NOT NULL AND r.deleted_at IS NULL AND {tombstone_wins}
        ELSE r.record_id IS NULL
            OR {live_wins} AND (r.deleted_at IS NOT NULL OR b.content_hash <> r.content_hash)
        END
    """
).format(
    live_wins=_live_wins(BATCH),
    tombstone_wins=_tombstone_wins(BATCH, sql.Identifier("b", "version")),
)
