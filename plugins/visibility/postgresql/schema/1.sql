-- Runs as documents that can be listed and counted.  See README.md of the plugin.

-- Texts that many rows share: namespaces, types, statuses, task queues, divisions.  Never changed, never deleted.
CREATE TABLE tn_vis_name (
    id serial PRIMARY KEY,
    s text COLLATE "C" NOT NULL UNIQUE
);

-- Custom attributes: a name may have several types (in several namespaces).
CREATE TABLE tn_vis_attr (
    id serial PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    type int4 NOT NULL,
    UNIQUE (name, type)
);

-- One row a run.  0 for a name that is not there; close 9223372036854775807 for what is open,
-- start -9223372036854775808 for what has none.  run, prun, rrun: 16 bytes of a UUID, or a zero byte and
-- the text.  exec: less start.  rwf, rrun: empty when they are the run's own.
-- sa: custom attributes by the number of tn_vis_attr; numbers and times as strings.
-- keys: a hash of each value that is asked for by equality; see keys.c.
CREATE TABLE tn_vis_doc (
    ns int4 NOT NULL,
    div int4 NOT NULL,
    status int4 NOT NULL,
    type int4 NOT NULL,
    close int8 NOT NULL,
    start int8 NOT NULL,
    ver int8 NOT NULL,
    exec int8,
    dur int8,
    len int8,
    size int8,
    trans int8,
    tq int4 NOT NULL,
    run bytea NOT NULL,
    wf text COLLATE "C" NOT NULL,
    pwf text COLLATE "C",
    prun bytea,
    rwf text COLLATE "C",
    rrun bytea,
    sa jsonb,
    keys int8[],
    memo bytea
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
ALTER TABLE tn_vis_doc ALTER COLUMN keys SET STATISTICS 400;

CREATE UNIQUE INDEX tn_vis_doc_run ON tn_vis_doc (run, ns);
CREATE INDEX tn_vis_doc_order ON tn_vis_doc (ns, div, close, start, run);
CREATE INDEX tn_vis_doc_status ON tn_vis_doc (ns, div, status, close, start);
CREATE INDEX tn_vis_doc_type ON tn_vis_doc (ns, div, type, close, start, status);
CREATE INDEX tn_vis_doc_wf ON tn_vis_doc (ns, wf);
CREATE INDEX tn_vis_doc_keys ON tn_vis_doc USING gin (keys) WITH (gin_pending_list_limit = 512);

-- How many runs there are of each kind, in 16 shares so that writers seldom meet.
CREATE TABLE tn_vis_tally (
    ns int4 NOT NULL,
    div int4 NOT NULL,
    type int4 NOT NULL,
    status int4 NOT NULL,
    share int4 NOT NULL,
    n int8 NOT NULL,
    PRIMARY KEY (ns, div, type, status, share)
) WITH (fillfactor = 50);

CREATE FUNCTION tn_vis_count_in() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tn_vis_tally AS t (ns, div, type, status, share, n)
    SELECT ns, div, type, status, pg_backend_pid() % 16, count(*)
    FROM fresh GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
    ON CONFLICT (ns, div, type, status, share) DO UPDATE SET n = t.n + excluded.n;
    RETURN NULL;
END $$;

CREATE FUNCTION tn_vis_count_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tn_vis_tally AS t (ns, div, type, status, share, n)
    SELECT ns, div, type, status, pg_backend_pid() % 16, sum(c)
    FROM (SELECT ns, div, type, status, 1 AS c FROM fresh
          UNION ALL SELECT ns, div, type, status, -1 FROM stale) AS d
    GROUP BY 1, 2, 3, 4 HAVING sum(c) <> 0 ORDER BY 1, 2, 3, 4
    ON CONFLICT (ns, div, type, status, share) DO UPDATE SET n = t.n + excluded.n;
    RETURN NULL;
END $$;

CREATE FUNCTION tn_vis_count_out() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tn_vis_tally AS t (ns, div, type, status, share, n)
    SELECT ns, div, type, status, pg_backend_pid() % 16, -count(*)
    FROM stale GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
    ON CONFLICT (ns, div, type, status, share) DO UPDATE SET n = t.n + excluded.n;
    RETURN NULL;
END $$;

CREATE TRIGGER tn_vis_doc_in AFTER INSERT ON tn_vis_doc
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE PROCEDURE tn_vis_count_in();
CREATE TRIGGER tn_vis_doc_change AFTER UPDATE ON tn_vis_doc
    REFERENCING OLD TABLE AS stale NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE PROCEDURE tn_vis_count_change();
CREATE TRIGGER tn_vis_doc_out AFTER DELETE ON tn_vis_doc
    REFERENCING OLD TABLE AS stale FOR EACH STATEMENT EXECUTE PROCEDURE tn_vis_count_out();

-- A run id as text.
CREATE FUNCTION tn_vis_run(r bytea) RETURNS text LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT CASE WHEN length(r) = 16 THEN encode(r, 'hex')::uuid::text
                WHEN length(r) = 17 AND get_byte(r, 1) = 0 THEN convert_from(substr(r, 3), 'UTF8')
                ELSE convert_from(substr(r, 2), 'UTF8') END
$$;
