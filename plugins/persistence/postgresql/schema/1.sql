-- SPDX-License-Identifier: MIT
-- Rows of the server, version 1.  A key is table (1 byte), length of the partition (1), partition, row, so
-- that bytea's order is the order of rows; all changes go through tn_commit.

-- Versions of rows: this number * 1024 + the member of the group.  Taken under the partition's lock, so
-- that within a partition it only rises; a sequence logs once for 32 numbers.
CREATE SEQUENCE tn_version;

-- Rows that are changed in place; the room left in pages keeps their updates there (HOT).
CREATE TABLE tn_row (
    ver bigint NOT NULL,
    k bytea PRIMARY KEY,
    v bytea NOT NULL
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);

-- History (table 5): written once, deleted by range after retention.
CREATE TABLE tn_record (
    ver bigint NOT NULL,
    k bytea PRIMARY KEY,
    v bytea NOT NULL
);

-- What comes and goes (tables 7 and 8): few rows at a time, many dead ones.
CREATE TABLE tn_queue (
    ver bigint NOT NULL,
    k bytea PRIMARY KEY,
    v bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 20000);

-- One row a connection: its last group of commits and how it ended.  After a loss it says whether the
-- group was committed, and once closed no late arrival can be.
CREATE TABLE tn_session (
    id bigserial PRIMARY KEY,
    last bigint NOT NULL DEFAULT 0,
    base bigint NOT NULL DEFAULT 0,
    bad int[] NOT NULL DEFAULT '{}',
    closed boolean NOT NULL DEFAULT false,
    pid int NOT NULL DEFAULT pg_backend_pid(),
    began timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 60);

-- Decides and applies the members of a group, one wave of it: no condition of a member depends on what another
-- member of the same wave writes.  Waves of a group are calls in one transaction.
--   sid, seq   the connection's session, the number of its group
--   parts      locks of the partitions, ascending (first wave only)
--   c*         conditions: member, number within the member, test, expected version, key
--   p*, r*, q* puts into tn_row, tn_record, tn_queue: member, key, value
--   d*         deletes; dmask: 1, 2, 4 for the three tables
--   g*         ranges to delete, before all else
-- Answers one row (-1, 0, 0, base, null), and one for each member that failed: member, condition, test, the row
-- that is there.
CREATE FUNCTION tn_commit(sid bigint, seq bigint, wave int, parts bigint[],
    cm int[], ci int[], ct int[], cv bigint[], ck bytea[],
    pm int[], pk bytea[], pv bytea[], rm int[], rk bytea[], rv bytea[],
    qm int[], qk bytea[], qv bytea[], dm int[], dk bytea[], dmask int,
    gm int[], gf bytea[], gt bytea[])
RETURNS TABLE (o_member int, o_cond int, o_test int, o_version bigint, o_value bytea)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    base bigint;
    failed int[] := '{}';
    found_key bytea;
    n bigint;
    i int;
BEGIN
    IF wave = 0 THEN
        PERFORM pg_advisory_xact_lock(p) FROM unnest(parts) p;
    END IF;
    -- Each statement from here on sees what the lock's last holder committed (read committed).
    FOR o_member, o_cond, o_test, o_version, found_key IN
        SELECT c.m, c.i, c.t, c.have, c.k FROM (
            SELECT cm[u.o] AS m, ci[u.o] AS i, ct[u.o] AS t, cv[u.o] AS want, u.k,
                CASE get_byte(u.k, 0)
                    WHEN 5 THEN (SELECT r.ver FROM tn_record r WHERE r.k = u.k)
                    WHEN 7 THEN (SELECT r.ver FROM tn_queue r WHERE r.k = u.k)
                    WHEN 8 THEN (SELECT r.ver FROM tn_queue r WHERE r.k = u.k)
                    ELSE (SELECT r.ver FROM tn_row r WHERE r.k = u.k)
                END AS have
            FROM unnest(ck) WITH ORDINALITY u(k, o)) c
        WHERE CASE WHEN c.t = 2 THEN c.have IS NOT NULL ELSE c.have IS DISTINCT FROM c.want END
        ORDER BY c.m, c.t = 3 DESC, c.i
    LOOP
        CONTINUE WHEN o_member = ANY (failed);
        failed := failed || o_member;
        o_value := NULL;
        IF o_test <> 3 AND o_version IS NOT NULL THEN
            o_value := CASE get_byte(found_key, 0)
                WHEN 5 THEN (SELECT r.v FROM tn_record r WHERE r.k = found_key)
                WHEN 7 THEN (SELECT r.v FROM tn_queue r WHERE r.k = found_key)
                WHEN 8 THEN (SELECT r.v FROM tn_queue r WHERE r.k = found_key)
                ELSE (SELECT r.v FROM tn_row r WHERE r.k = found_key)
            END;
        END IF;
        RETURN NEXT;
    END LOOP;

    IF wave = 0 THEN
        UPDATE tn_session s SET last = seq, base = nextval('tn_version') * 1024, bad = failed
            WHERE s.id = sid AND s.last < seq AND NOT s.closed RETURNING s.base INTO base;
    ELSIF failed = '{}' THEN
        SELECT s.base INTO base FROM tn_session s WHERE s.id = sid AND s.last = seq;
    ELSE
        UPDATE tn_session s SET bad = s.bad || failed WHERE s.id = sid AND s.last = seq
            RETURNING s.base INTO base;
    END IF;
    IF base IS NULL THEN
        RAISE EXCEPTION 'the session of this connection has ended' USING ERRCODE = 'TN001';
    END IF;
    o_member := -1; o_cond := 0; o_test := 0; o_version := base; o_value := NULL;
    RETURN NEXT;

    IF failed <> '{}' THEN
        SELECT array_agg(pm[u.o]), array_agg(u.k), array_agg(pv[u.o]) INTO pm, pk, pv
            FROM unnest(pk) WITH ORDINALITY u(k, o) WHERE pm[u.o] <> ALL (failed);
        SELECT array_agg(rm[u.o]), array_agg(u.k), array_agg(rv[u.o]) INTO rm, rk, rv
            FROM unnest(rk) WITH ORDINALITY u(k, o) WHERE rm[u.o] <> ALL (failed);
        SELECT array_agg(qm[u.o]), array_agg(u.k), array_agg(qv[u.o]) INTO qm, qk, qv
            FROM unnest(qk) WITH ORDINALITY u(k, o) WHERE qm[u.o] <> ALL (failed);
        dk := ARRAY(SELECT u.k FROM unnest(dk) WITH ORDINALITY u(k, o)
            WHERE dm[u.o] <> ALL (failed));
    END IF;

    IF array_length(gm, 1) > 0 THEN
        FOR i IN 1 .. array_length(gm, 1) LOOP
            CONTINUE WHEN gm[i] = ANY (failed);
            CASE get_byte(gf[i], 0)
                WHEN 5 THEN DELETE FROM tn_record t WHERE t.k >= gf[i] AND t.k < gt[i];
                WHEN 7 THEN DELETE FROM tn_queue t WHERE t.k >= gf[i] AND t.k < gt[i];
                WHEN 8 THEN DELETE FROM tn_queue t WHERE t.k >= gf[i] AND t.k < gt[i];
                ELSE DELETE FROM tn_row t WHERE t.k >= gf[i] AND t.k < gt[i];
            END CASE;
        END LOOP;
    END IF;
    IF dmask & 4 <> 0 THEN
        DELETE FROM tn_queue t WHERE t.k = ANY (dk);
    END IF;
    IF dmask & 1 <> 0 THEN
        DELETE FROM tn_row t WHERE t.k = ANY (dk);
    END IF;
    IF dmask & 2 <> 0 THEN
        DELETE FROM tn_record t WHERE t.k = ANY (dk);
    END IF;

    -- The lock keeps others from the same keys: what no update finds is inserted without ON CONFLICT,
    -- whose speculative rows would be logged twice.
    n := coalesce(array_length(pk, 1), 0);
    IF n > 0 THEN
        UPDATE tn_row t SET ver = base + pm[array_position(pk, t.k)],
            v = pv[array_position(pk, t.k)] WHERE t.k = ANY (pk);
        GET DIAGNOSTICS i = ROW_COUNT;
        IF i = 0 THEN
            INSERT INTO tn_row (ver, k, v) SELECT base + pm[u.o], u.k, pv[u.o]
                FROM unnest(pk) WITH ORDINALITY u(k, o);
        ELSIF i < n THEN
            INSERT INTO tn_row (ver, k, v) SELECT base + pm[u.o], u.k, pv[u.o]
                FROM unnest(pk) WITH ORDINALITY u(k, o)
                WHERE (SELECT t.ver FROM tn_row t WHERE t.k = u.k) IS NULL;
        END IF;
    END IF;
    n := coalesce(array_length(rk, 1), 0);
    IF n > 0 THEN
        UPDATE tn_record t SET ver = base + rm[array_position(rk, t.k)],
            v = rv[array_position(rk, t.k)] WHERE t.k = ANY (rk);
        GET DIAGNOSTICS i = ROW_COUNT;
        IF i = 0 THEN
            INSERT INTO tn_record (ver, k, v) SELECT base + rm[u.o], u.k, rv[u.o]
                FROM unnest(rk) WITH ORDINALITY u(k, o);
        ELSIF i < n THEN
            INSERT INTO tn_record (ver, k, v) SELECT base + rm[u.o], u.k, rv[u.o]
                FROM unnest(rk) WITH ORDINALITY u(k, o)
                WHERE (SELECT t.ver FROM tn_record t WHERE t.k = u.k) IS NULL;
        END IF;
    END IF;
    n := coalesce(array_length(qk, 1), 0);
    IF n > 0 THEN
        UPDATE tn_queue t SET ver = base + qm[array_position(qk, t.k)],
            v = qv[array_position(qk, t.k)] WHERE t.k = ANY (qk);
        GET DIAGNOSTICS i = ROW_COUNT;
        IF i = 0 THEN
            INSERT INTO tn_queue (ver, k, v) SELECT base + qm[u.o], u.k, qv[u.o]
                FROM unnest(qk) WITH ORDINALITY u(k, o);
        ELSIF i < n THEN
            INSERT INTO tn_queue (ver, k, v) SELECT base + qm[u.o], u.k, qv[u.o]
                FROM unnest(qk) WITH ORDINALITY u(k, o)
                WHERE (SELECT t.ver FROM tn_queue t WHERE t.k = u.k) IS NULL;
        END IF;
    END IF;
END
$$;
