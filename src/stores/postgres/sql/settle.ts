/**
 * Settling: how a claim ends.
 *
 * @module
 */

import { JOINS_BY_INDEX, NOTHING_SINCE, raise, rejoined } from "./fragments.ts";

export const settleFunctions = (s: string): string => `
-- What is known of objects whose work is done, and of what was done the events go. was: whether the claim found them present;
-- where that is not so any more, it is looked up.
CREATE FUNCTION ${s}.record_done(p_now bigint, p_touched bigint, p_n bigint[], p_generation bigint[], p_rest bigint[], p_was boolean[], p_state text[],
  p_version text[], p_hash text[], p_row_hash text[], p_revision bigint[], p_evidence bigint[]) RETURNS void LANGUAGE plpgsql ${JOINS_BY_INDEX} AS $$
DECLARE
  v_was boolean[] := p_was;
  v_written bigint[] := '{}';
  v_new bigint[];
BEGIN
  FOR v_try IN 1 .. 2 LOOP
    -- A row that holds nothing keeps the moment, so that it can be swept when no pass can need it any more.
    WITH written AS (
      UPDATE ${s}.object o SET state = d.state, version = d.version, hash = d.hash, row_hash = d.row_hash, revision = d.revision, evidence = d.evidence,
        touched = p_touched, not_before = p_now + d.rest, begun = false, emptied_at = CASE WHEN d.state IS NULL THEN p_now END
      FROM unnest(p_n, p_rest, v_was, p_state, p_version, p_hash, p_row_hash, p_revision, p_evidence)
        d(n, rest, was, state, version, hash, row_hash, revision, evidence)
      WHERE o.n = d.n AND d.n <> ALL (v_written) AND (o.state IS NOT DISTINCT FROM 'present') = d.was
      RETURNING o.n, o.scope, (o.state IS NOT DISTINCT FROM 'present')::integer - d.was::integer AS change
    ), counted AS (
      INSERT INTO ${s}.present_change
      SELECT w.scope, sum(w.change) FROM written w WHERE w.change <> 0 GROUP BY w.scope HAVING sum(w.change) <> 0
    )
    SELECT array_agg(w.n) INTO v_new FROM written w;
    v_written := v_written || v_new;
    EXIT WHEN cardinality(v_written) >= cardinality(p_n);
    -- Locked, so that it is still so the second time.
    v_was := ARRAY(SELECT o.state IS NOT DISTINCT FROM 'present' FROM unnest(p_n) WITH ORDINALITY d(n, place)
      CROSS JOIN LATERAL (SELECT b.state FROM ${s}.object b WHERE b.n = d.n LIMIT 1 FOR NO KEY UPDATE) o ORDER BY d.place);
  END LOOP;
  DELETE FROM ${s}.event e USING unnest(p_n, p_generation) d(n, generation) WHERE e.object = d.n AND e.seq <= d.generation;
END $$;

-- Arrays of one length, an element a settlement, in the order of n. kind: 0 done, 1 retry, 2 dead. rest: for done, how long
-- the object is to rest; for retry, in how many milliseconds it is due. Answers 0 settled, 1 dirty, 2 lost, in their order.
CREATE FUNCTION ${s}.settle(p_now bigint, p_n bigint[], p_fence bigint[], p_generation bigint[], p_kind integer[], p_rest bigint[],
  p_was boolean[], p_state text[], p_version text[], p_hash text[], p_row_hash text[], p_revision bigint[], p_evidence bigint[],
  p_attempts integer[], p_lags integer[], p_begun boolean[], p_error text[])
RETURNS integer[] LANGUAGE plpgsql ${JOINS_BY_INDEX} AS $$
DECLARE
  v_now bigint := ${s}.moment(p_now);
  v_live boolean[];
  v_since boolean[];
  v_touched bigint;
  v_lanes bigint[];
  v_dues bigint[];
  v_clean bigint[];
  v_ended bigint[];
BEGIN
  -- The usual: all are done, and nothing was appended meanwhile. One of a connection that was forgotten is lost.
  IF 0 = ALL(p_kind) AND NOT EXISTS (
    SELECT FROM unnest(p_n) d(n) CROSS JOIN LATERAL (SELECT x.since FROM ${s}.work x WHERE x.n = d.n LIMIT 1) w WHERE w.since IS NOT NULL)
  THEN
    WITH ended AS (
      DELETE FROM ${s}.work w USING unnest(p_n, p_fence) d(n, fence)
      WHERE w.n = d.n AND w.fence = d.fence AND w.since IS NULL
      RETURNING w.n, w.lane
    ) SELECT array_agg(e.n), array_agg(e.lane) INTO v_ended, v_lanes FROM ended e;
    -- What is left of a forgotten connection is swept in any case: to delete it here was no harm.
    IF EXISTS (SELECT FROM (SELECT DISTINCT u.lane FROM unnest(v_lanes) u(lane)) x WHERE NOT EXISTS (SELECT FROM ${s}.lane l WHERE l.n = x.lane)) THEN
      v_ended := ARRAY(SELECT u.n FROM unnest(v_ended, v_lanes) u(n, lane) WHERE EXISTS (SELECT FROM ${s}.lane l WHERE l.n = u.lane));
    END IF;
    v_lanes := NULL;
  END IF;
  IF cardinality(v_ended) = cardinality(p_n) THEN
    v_live := array_fill(true, ARRAY[cardinality(p_n)]);
    v_since := array_fill(false, ARRAY[cardinality(p_n)]);
    v_clean := v_ended;
  ELSE
    -- The live leases, locked in the order of n.
    SELECT array_agg(f.fence IS NOT NULL OR f.n = ANY(v_ended) ORDER BY f.place), array_agg(f.since IS NOT NULL ORDER BY f.place),
      array_agg(f.n) FILTER (WHERE f.kind = 0 AND f.since IS NULL AND (f.fence IS NOT NULL OR f.n = ANY(v_ended)))
    INTO v_live, v_since, v_clean
    FROM (
      SELECT d.place, d.n, d.kind, w.fence, w.since FROM unnest(p_n, p_fence, p_kind) WITH ORDINALITY d(n, fence, kind, place) LEFT JOIN LATERAL (
        SELECT x.fence, x.since FROM ${s}.work x WHERE x.n = d.n AND x.fence = d.fence
          AND EXISTS (SELECT FROM ${s}.lane l WHERE l.n = x.lane) FOR UPDATE OF x) w ON true OFFSET 0) f;
    v_live := ARRAY(SELECT coalesce(u.live, false) FROM unnest(v_live) WITH ORDINALITY u(live, place) ORDER BY u.place);
  END IF;
  v_touched := nextval('${s}.counter');

  IF cardinality(v_ended) = cardinality(p_n) THEN
    PERFORM ${s}.record_done(v_now, v_touched, p_n, p_generation, p_rest, p_was, p_state, p_version, p_hash, p_row_hash, p_revision, p_evidence);
  ELSIF 0 = ANY(p_kind) THEN
    PERFORM ${s}.record_done(v_now, v_touched, f.n, f.generation, f.rest, f.was, f.state, f.version, f.hash, f.row_hash, f.revision, f.evidence)
    FROM (
      SELECT array_agg(d.n) AS n, array_agg(d.generation) AS generation, array_agg(d.rest) AS rest, array_agg(d.was) AS was, array_agg(d.state) AS state,
        array_agg(d.version) AS version, array_agg(d.hash) AS hash, array_agg(d.row_hash) AS row_hash, array_agg(d.revision) AS revision,
        array_agg(d.evidence) AS evidence
      FROM unnest(p_n, p_kind, v_live, p_generation, p_rest, p_was, p_state, p_version, p_hash, p_row_hash, p_revision, p_evidence)
        d(n, kind, live, generation, rest, was, state, version, hash, row_hash, revision, evidence)
      WHERE d.kind = 0 AND d.live) f
    WHERE f.n IS NOT NULL;
    IF cardinality(v_clean) > coalesce(cardinality(v_ended), 0) THEN DELETE FROM ${s}.work w WHERE w.n = ANY(v_clean); END IF;
  END IF;

  IF v_clean IS NULL OR cardinality(v_clean) < cardinality(p_n) THEN
    WITH fresh AS (
      UPDATE ${s}.work w SET session = NULL, fence = NULL, touched = v_touched, due = greatest(v_now, v_now + d.rest), dirty_since = w.since,
        attempts = 0, lags = 0, begun = false, forced = w.since_forced, origin = w.since_origin, hint = w.since_hint,
        hint_version = w.since_version, hint_order = w.since_order, event_count = w.since_count, error = NULL, ${NOTHING_SINCE}
      FROM unnest(p_n, p_kind, v_live, v_since, p_rest) d(n, kind, live, since, rest)
      WHERE w.n = d.n AND d.kind = 0 AND d.live AND d.since RETURNING w.lane, w.due
    ), waiting AS (
      UPDATE ${s}.work w SET touched = v_touched, begun = w.begun OR d.begun,
        dead = d.kind = 2 AND w.since IS NULL,
        due = CASE WHEN d.kind = 1 THEN v_now + d.rest ELSE v_now END,
        attempts = CASE WHEN d.kind = 2 AND w.since IS NOT NULL THEN 0 ELSE d.attempts END,
        lags = CASE WHEN d.kind = 2 AND w.since IS NOT NULL THEN 0 ELSE d.lags END,
        origin = CASE WHEN d.kind = 2 THEN coalesce(w.since_origin, w.origin) ELSE w.origin END,
        dirty_since = CASE WHEN d.kind = 2 THEN coalesce(w.since, w.dirty_since) ELSE w.dirty_since END,
        error = CASE WHEN d.kind = 2 AND w.since IS NOT NULL THEN NULL ELSE d.error END,
        ${rejoined("w")}
      FROM unnest(p_n, p_kind, v_live, p_rest, p_attempts, p_lags, p_begun, p_error) d(n, kind, live, rest, attempts, lags, begun, error)
      WHERE w.n = d.n AND d.kind > 0 AND d.live RETURNING w.lane, w.due, w.dead
    )
    SELECT array_agg(u.lane), array_agg(u.due) INTO v_lanes, v_dues
    FROM (SELECT f.lane, f.due FROM fresh f UNION ALL SELECT q.lane, q.due FROM waiting q WHERE NOT q.dead) u;
    UPDATE ${s}.scope c SET last_error = e.error
    FROM (SELECT DISTINCT ON (w.lane / 2) w.lane / 2 AS scope, d.error
      FROM unnest(p_n, v_live, p_error) WITH ORDINALITY d(n, live, error, place) CROSS JOIN LATERAL (
        SELECT x.lane FROM ${s}.work x WHERE x.n = d.n LIMIT 1) w
      WHERE d.live AND d.error IS NOT NULL ORDER BY 1, d.place DESC) e
    WHERE c.n = e.scope;
    PERFORM ${s}.wake(v_now, v_lanes, v_dues);
  END IF;

  RETURN ARRAY(SELECT CASE WHEN NOT u.live THEN 2 WHEN u.since THEN 1 ELSE 0 END FROM unnest(v_live, v_since) WITH ORDINALITY u(live, since, place) ORDER BY u.place);
END $$;

-- Settles at the end of a user's transaction, which is not to be committed where a lease was lost that was live before it.
CREATE FUNCTION ${s}.settle_or_fail(p_live boolean[], p_now bigint, p_n bigint[], p_fence bigint[], p_generation bigint[], p_kind integer[], p_rest bigint[],
  p_was boolean[], p_state text[], p_version text[], p_hash text[], p_row_hash text[], p_revision bigint[], p_evidence bigint[],
  p_attempts integer[], p_lags integer[], p_begun boolean[], p_error text[])
RETURNS integer[] LANGUAGE plpgsql AS $$
DECLARE
  v_outcomes integer[] := ${s}.settle(p_now, p_n, p_fence, p_generation, p_kind, p_rest, p_was, p_state, p_version, p_hash, p_row_hash, p_revision, p_evidence,
    p_attempts, p_lags, p_begun, p_error);
BEGIN
  IF EXISTS (SELECT FROM unnest(v_outcomes, p_live) u(outcome, live) WHERE u.live AND u.outcome = 2) THEN ${raise("leaseLost")}; END IF;
  RETURN v_outcomes;
END $$;
`;
