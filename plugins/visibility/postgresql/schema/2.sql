-- Values that very many runs have are counted as they are written, as types and statuses are: to count them by an
-- index would mean to visit nearly every page of tn_vis_doc.  See README.md of the plugin.

-- The keys (as in tn_vis_doc.keys) of such values.  Once a key is here, every writer adds what it changes to
-- tn_vis_common_tally; ready: what was there before has been added too, so the tally may be asked.
CREATE TABLE tn_vis_common (
    key int8 PRIMARY KEY,
    ready bool NOT NULL DEFAULT false
);

-- share 16 is what was there before.
CREATE TABLE tn_vis_common_tally (
    key int8 NOT NULL,
    ns int4 NOT NULL,
    div int4 NOT NULL,
    type int4 NOT NULL,
    status int4 NOT NULL,
    share int4 NOT NULL,
    n int8 NOT NULL,
    PRIMARY KEY (key, ns, div, type, status, share)
) WITH (fillfactor = 50);

-- The lock is what makes tn_vis_common_add wait for writers that have not seen its keys.  It comes first, so that nobody
-- waits for it who holds a tally's row.
CREATE OR REPLACE FUNCTION tn_vis_count_in() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    LOCK TABLE tn_vis_common IN ROW SHARE MODE;
    INSERT INTO tn_vis_tally AS t (ns, div, type, status, share, n)
    SELECT ns, div, type, status, pg_backend_pid() % 16, count(*)
    FROM fresh GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
    ON CONFLICT (ns, div, type, status, share) DO UPDATE SET n = t.n + excluded.n;
    IF EXISTS (SELECT FROM tn_vis_common) THEN
        INSERT INTO tn_vis_common_tally AS t (key, ns, div, type, status, share, n)
        SELECT k.key, f.ns, f.div, f.type, f.status, pg_backend_pid() % 16, count(*)
        FROM fresh f, LATERAL (SELECT DISTINCT u AS key FROM unnest(f.keys) u
                               WHERE u IN (SELECT c.key FROM tn_vis_common c)) k
        GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
        ON CONFLICT (key, ns, div, type, status, share) DO UPDATE SET n = t.n + excluded.n;
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION tn_vis_count_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    LOCK TABLE tn_vis_common IN ROW SHARE MODE;
    INSERT INTO tn_vis_tally AS t (ns, div, type, status, share, n)
    SELECT ns, div, type, status, pg_backend_pid() % 16, sum(c)
    FROM (SELECT ns, div, type, status, 1 AS c FROM fresh
          UNION ALL SELECT ns, div, type, status, -1 FROM stale) AS d
    GROUP BY 1, 2, 3, 4 HAVING sum(c) <> 0 ORDER BY 1, 2, 3, 4
    ON CONFLICT (ns, div, type, status, share) DO UPDATE SET n = t.n + excluded.n;
    IF EXISTS (SELECT FROM tn_vis_common) THEN
        INSERT INTO tn_vis_common_tally AS t (key, ns, div, type, status, share, n)
        SELECT k.key, f.ns, f.div, f.type, f.status, pg_backend_pid() % 16, sum(c)
        FROM (SELECT ns, div, type, status, keys, 1 AS c FROM fresh
              UNION ALL SELECT ns, div, type, status, keys, -1 FROM stale) AS f,
             LATERAL (SELECT DISTINCT u AS key FROM unnest(f.keys) u
                      WHERE u IN (SELECT c.key FROM tn_vis_common c)) k
        GROUP BY 1, 2, 3, 4, 5 HAVING sum(c) <> 0 ORDER BY 1, 2, 3, 4, 5
        ON CONFLICT (key, ns, div, type, status, share) DO UPDATE SET n = t.n + excluded.n;
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION tn_vis_count_out() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    LOCK TABLE tn_vis_common IN ROW SHARE MODE;
    INSERT INTO tn_vis_tally AS t (ns, div, type, status, share, n)
    SELECT ns, div, type, status, pg_backend_pid() % 16, -count(*)
    FROM stale GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
    ON CONFLICT (ns, div, type, status, share) DO UPDATE SET n = t.n + excluded.n;
    IF EXISTS (SELECT FROM tn_vis_common) THEN
        INSERT INTO tn_vis_common_tally AS t (key, ns, div, type, status, share, n)
        SELECT k.key, f.ns, f.div, f.type, f.status, pg_backend_pid() % 16, -count(*)
        FROM stale f, LATERAL (SELECT DISTINCT u AS key FROM unnest(f.keys) u
                               WHERE u IN (SELECT c.key FROM tn_vis_common c)) k
        GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
        ON CONFLICT (key, ns, div, type, status, share) DO UPDATE SET n = t.n + excluded.n;
    END IF;
    RETURN NULL;
END $$;

-- Has keys counted from now on; 4,096 at most.  Writers under way end first, others see the keys: none is between.
CREATE FUNCTION tn_vis_common_add(wanted int8[]) RETURNS int8 LANGUAGE plpgsql
    SET lock_timeout = '500ms' AS $$
DECLARE
    added int8;
BEGIN
    IF NOT EXISTS (SELECT FROM unnest(wanted) u WHERE u NOT IN (SELECT c.key FROM tn_vis_common c)) THEN
        RETURN 0;
    END IF;
    LOCK TABLE tn_vis_common IN EXCLUSIVE MODE;
    INSERT INTO tn_vis_common (key)
    SELECT u FROM unnest(wanted) u WHERE u IS NOT NULL GROUP BY u
    HAVING u NOT IN (SELECT c.key FROM tn_vis_common c)
    LIMIT greatest(0, 4096 - (SELECT count(*) FROM tn_vis_common));
    GET DIAGNOSTICS added = ROW_COUNT;
    RETURN added;
END $$;

-- Adds the keys that, by what ANALYZE found, so many rows or more have.
CREATE FUNCTION tn_vis_common_find(at_least int8) RETURNS int8 LANGUAGE sql AS $$
    SELECT coalesce(tn_vis_common_add(array_agg(e.key)), 0)
    FROM pg_class c, pg_stats s,
         LATERAL unnest(s.most_common_elems::text::int8[], s.most_common_elem_freqs) AS e (key, freq)
    WHERE c.oid = 'tn_vis_doc'::regclass AND s.schemaname = current_schema()
        AND s.tablename = 'tn_vis_doc' AND s.attname = 'keys' AND e.key IS NOT NULL
        AND e.freq * (1 - s.null_frac) * c.reltuples >= at_least
$$;

-- Counts what was there before for some of the keys that are new.  One statement: its snapshot holds the rows and what
-- writers have added for them, so the difference is what is missing, whoever writes meanwhile.
CREATE FUNCTION tn_vis_common_count() RETURNS int8 LANGUAGE plpgsql AS $$
DECLARE
    batch int8[];
BEGIN
    SELECT array_agg(x.key) INTO batch FROM (
        SELECT c.key FROM tn_vis_common c WHERE NOT c.ready ORDER BY 1 LIMIT 64 FOR UPDATE SKIP LOCKED) x;
    IF batch IS NULL THEN
        RETURN 0;
    END IF;
    INSERT INTO tn_vis_common_tally (key, ns, div, type, status, share, n)
    SELECT x.key, x.ns, x.div, x.type, x.status, 16, sum(x.n)
    FROM (SELECT k.key, d.ns, d.div, d.type, d.status, 1::int8 AS n
          FROM tn_vis_doc d, LATERAL (SELECT DISTINCT u AS key FROM unnest(d.keys) u
                                      WHERE u = ANY (batch)) k
          WHERE d.keys && batch
          UNION ALL
          SELECT t.key, t.ns, t.div, t.type, t.status, -t.n
          FROM tn_vis_common_tally t WHERE t.key = ANY (batch)) x
    GROUP BY 1, 2, 3, 4, 5 HAVING sum(x.n) <> 0;
    UPDATE tn_vis_common SET ready = true WHERE key = ANY (batch);
    RETURN array_length(batch, 1);
END $$;
