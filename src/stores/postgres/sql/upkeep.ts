/**
 * Dead letters, forgetting connections, sweeping, and permits.
 *
 * @module
 */

import { LOOKS_UP } from "./fragments.ts";

/** How many rows of each kind one slice of sweeping deletes. */
export const SWEEP_ROWS = 1_000;

/** In how many parts a rate's span is divided where there are more permits than that: what is remembered stays small. */
const SLOTS = 64;

export const upkeepFunctions = (s: string): string => `
-- Dead objects of scopes (and, where ids are given, of those alone), locked in the order of n.
CREATE FUNCTION ${s}.dead(p_scopes bigint[], p_ids text[]) RETURNS bigint[] LANGUAGE sql AS $$
  SELECT ARRAY(
    SELECT w.n FROM ${s}.work w WHERE w.dead AND w.lane / 2 = ANY(p_scopes)
      AND (p_ids IS NULL OR (SELECT o.id FROM ${s}.object o WHERE o.n = w.n) = ANY(p_ids))
    ORDER BY w.n FOR UPDATE)
$$;

CREATE FUNCTION ${s}.retry_dead(p_now bigint, p_scopes bigint[], p_ids text[]) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
  v_now bigint := ${s}.moment(p_now);
  v_n bigint[] := ${s}.dead(p_scopes, p_ids);
  v_lanes bigint[];
BEGIN
  WITH revived AS (
    UPDATE ${s}.work w SET dead = false, due = v_now, dirty_since = v_now, attempts = 0, lags = 0, error = NULL WHERE w.n = ANY(v_n) RETURNING w.lane
  ) SELECT array_agg(DISTINCT r.lane) INTO v_lanes FROM revived r;
  PERFORM ${s}.wake(v_now, v_lanes, array_fill(v_now, ARRAY[coalesce(cardinality(v_lanes), 0)]));
  RETURN cardinality(v_n);
END $$;

CREATE FUNCTION ${s}.discard_dead(p_now bigint, p_scopes bigint[], p_ids text[]) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
  v_now bigint := ${s}.moment(p_now);
  v_n bigint[] := ${s}.dead(p_scopes, p_ids);
  v_touched bigint := nextval('${s}.counter');
BEGIN
  -- Where a handler may have begun, nothing is known any more of what the user's copy holds.
  INSERT INTO ${s}.present_change
  SELECT o.scope, count(*) FROM ${s}.object o JOIN ${s}.work w ON w.n = o.n
  WHERE o.n = ANY(v_n) AND w.begun AND o.state IS DISTINCT FROM 'present' GROUP BY o.scope;
  UPDATE ${s}.object o SET touched = v_touched, begun = w.begun,
    state = CASE WHEN w.begun THEN 'present' ELSE o.state END,
    version = CASE WHEN NOT w.begun THEN o.version END, hash = CASE WHEN NOT w.begun THEN o.hash END, row_hash = CASE WHEN NOT w.begun THEN o.row_hash END,
    revision = CASE WHEN w.begun THEN coalesce(o.revision, 0) ELSE o.revision END,
    evidence = CASE WHEN w.begun THEN coalesce(o.evidence, 0) ELSE o.evidence END,
    emptied_at = CASE WHEN o.state IS NULL AND NOT w.begun THEN v_now END
  FROM ${s}.work w WHERE w.n = o.n AND o.n = ANY(v_n);
  DELETE FROM ${s}.event e USING ${s}.work w WHERE w.n = ANY(v_n) AND e.object = w.n AND e.seq <= w.generation;
  DELETE FROM ${s}.work w WHERE w.n = ANY(v_n);
  RETURN cardinality(v_n);
END $$;

-- The connection is gone at once; its rows follow with sweeping, so that this stays short for any number.
CREATE FUNCTION ${s}.forget(p_provider text, p_connection text, p_key text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM ${s}.alone(p_provider, p_connection);
  DELETE FROM ${s}.lock k WHERE k.name >= p_key AND left(k.name, length(p_key)) = p_key; -- first, as whoever records a page has it first
  PERFORM 1 FROM ${s}.lane l WHERE l.provider = p_provider AND l.connection = p_connection ORDER BY l.n FOR UPDATE; -- after the appends under way
  DELETE FROM ${s}.lane l WHERE l.provider = p_provider AND l.connection = p_connection;
  UPDATE ${s}.scope c SET forgotten = true WHERE c.provider = p_provider AND c.connection = p_connection;
  DELETE FROM ${s}.pause q WHERE q.provider = p_provider AND q.connection = p_connection;
  DELETE FROM ${s}.permit q WHERE q.provider = p_provider AND q.connection = p_connection;
  DELETE FROM ${s}.checkpoint c WHERE c.key >= p_key AND left(c.key, length(p_key)) = p_key;
END $$;

-- One slice of housekeeping. True: there may be more to do now.
CREATE FUNCTION ${s}.sweep(p_now bigint, p_ttl_ms bigint) RETURNS boolean LANGUAGE plpgsql ${LOOKS_UP} AS $$
DECLARE
  v_now bigint := ${s}.moment(p_now);
  v_expired bigint := v_now - p_ttl_ms;
  v_scope bigint;
  v_n bigint[];
  v_count integer;
  v_more boolean;
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true); -- what is lost by a crash of the server is swept again
  DELETE FROM ${s}.ledger k WHERE k.ctid = ANY(ARRAY(SELECT x.ctid FROM ${s}.ledger x WHERE x.at <= v_expired LIMIT ${SWEEP_ROWS} FOR UPDATE SKIP LOCKED));
  GET DIAGNOSTICS v_count = ROW_COUNT;
  v_more := v_count = ${SWEEP_ROWS};
  DELETE FROM ${s}.event e WHERE e.ctid = ANY(ARRAY(SELECT x.ctid FROM ${s}.event x WHERE x.at <= v_expired LIMIT ${SWEEP_ROWS} FOR UPDATE SKIP LOCKED));
  GET DIAGNOSTICS v_count = ROW_COUNT;
  v_more := v_more OR v_count = ${SWEEP_ROWS};
  -- Rows that hold nothing. Who makes work of one holds it FOR KEY SHARE.
  v_n := ARRAY(SELECT o.n FROM ${s}.object o WHERE o.emptied_at <= v_expired AND NOT EXISTS (SELECT FROM ${s}.work w WHERE w.n = o.n)
    LIMIT ${SWEEP_ROWS} FOR UPDATE SKIP LOCKED);
  DELETE FROM ${s}.object o WHERE o.n = ANY(v_n) AND o.state IS NULL AND NOT o.begun AND NOT EXISTS (SELECT FROM ${s}.work w WHERE w.n = o.n);
  GET DIAGNOSTICS v_count = ROW_COUNT;
  v_more := v_more OR v_count = ${SWEEP_ROWS};
  DELETE FROM ${s}.lock k WHERE k.expires_at <= v_expired;
  DELETE FROM ${s}.pause q WHERE q.until <= v_now;
  WITH taken AS (
    DELETE FROM ${s}.present_change p WHERE p.ctid = ANY(ARRAY(SELECT x.ctid FROM ${s}.present_change x LIMIT ${SWEEP_ROWS} FOR UPDATE SKIP LOCKED)) RETURNING p.scope, p.change
  ), added AS (
    UPDATE ${s}.scope c SET present = c.present + t.change FROM (SELECT x.scope, sum(x.change) AS change FROM taken x GROUP BY 1) t WHERE c.n = t.scope
  ) SELECT count(*) INTO v_count FROM taken;
  v_more := v_more OR v_count = ${SWEEP_ROWS};
  -- What forgotten connections have left.
  SELECT c.n INTO v_scope FROM ${s}.scope c WHERE c.forgotten LIMIT 1 FOR UPDATE SKIP LOCKED;
  IF FOUND THEN
    v_n := ARRAY(SELECT o.n FROM ${s}.object o WHERE o.scope = v_scope LIMIT ${SWEEP_ROWS});
    DELETE FROM ${s}.work w WHERE w.n = ANY(v_n);
    DELETE FROM ${s}.event e WHERE e.object = ANY(v_n);
    DELETE FROM ${s}.ledger k WHERE k.object = ANY(v_n);
    DELETE FROM ${s}.object o WHERE o.n = ANY(v_n);
    IF cardinality(v_n) < ${SWEEP_ROWS} THEN
      DELETE FROM ${s}.pass_page g WHERE g.scope = v_scope;
      DELETE FROM ${s}.present_change p WHERE p.scope = v_scope;
      DELETE FROM ${s}.scope c WHERE c.n = v_scope;
    END IF;
    v_more := true;
  END IF;
  RETURN v_more;
END $$;

-- A sliding window: a permit counts for the p_per_ms with which it was given, whatever those who ask later say. Where
-- there are many permits, moments are rounded up to parts of the span, so that one counts a little longer, never shorter.
CREATE FUNCTION ${s}.take_permits(p_now bigint, p_provider text, p_connection text, p_requests bigint, p_per_ms bigint, p_wanted bigint,
  OUT permits bigint, OUT retry_in bigint) LANGUAGE plpgsql AS $$
DECLARE
  v_now bigint;
  v_part bigint := CASE WHEN p_requests > ${SLOTS} THEN greatest(1, p_per_ms / ${SLOTS}) ELSE 1 END;
  v_at bigint[];
  v_given bigint[];
  v_span bigint[];
  v_used bigint;
  v_back bigint;
  v_set_back boolean;
  v_slot bigint;
  v_last integer;
BEGIN
  INSERT INTO ${s}.permit VALUES (p_provider, p_connection, '{}', '{}', '{}') ON CONFLICT DO NOTHING;
  SELECT q.at, q.given, q.span INTO v_at, v_given, v_span FROM ${s}.permit q WHERE q.provider = p_provider AND q.connection = p_connection FOR UPDATE;
  v_now := ${s}.moment(p_now); -- of those who waited for each other, the later is later
  -- A clock that was set back must not make what was given before count for longer than its span.
  SELECT coalesce(array_agg(u.at ORDER BY u.place), '{}'), coalesce(array_agg(u.given ORDER BY u.place), '{}'), coalesce(array_agg(u.span ORDER BY u.place), '{}'),
    coalesce(sum(u.given), 0), min(u.at + u.span), coalesce(bool_or(u.ahead), false)
  INTO v_at, v_given, v_span, v_used, v_back, v_set_back
  FROM (SELECT least(x.at, v_now + v_part) AS at, x.given, x.span, x.place, x.at > v_now + v_part AS ahead
    FROM unnest(v_at, v_given, v_span) WITH ORDINALITY x(at, given, span, place)) u WHERE u.at + u.span > v_now;
  permits := greatest(0, least(p_wanted, p_requests - v_used));
  IF permits > 0 THEN
    v_slot := div(v_now + v_part - 1, v_part) * v_part; -- div cuts off, whatever the sign
    v_last := cardinality(v_at);
    IF v_at[v_last] = v_slot THEN
      v_given[v_last] := v_given[v_last] + permits;
      v_span[v_last] := greatest(v_span[v_last], p_per_ms);
    ELSE
      v_at := v_at || v_slot;
      v_given := v_given || permits;
      v_span := v_span || p_per_ms;
    END IF;
  END IF;
  IF permits > 0 OR v_set_back THEN
    UPDATE ${s}.permit q SET at = v_at, given = v_given, span = v_span WHERE q.provider = p_provider AND q.connection = p_connection;
  END IF;
  retry_in := CASE WHEN permits >= p_wanted THEN 0 ELSE least(p_per_ms, greatest(1, coalesce(v_back, v_slot + p_per_ms, v_now + p_per_ms) - v_now)) END;
END $$;
`;
