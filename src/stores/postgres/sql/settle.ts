/**
 * Settling: how a claim ends.
 *
 * @module
 */

import { JOINS_BY_INDEX, raise, rejoined, side } from "./fragments.ts";

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
      FROM ${side({ n: "p_n", rest: "p_rest", was: "v_was", state: "p_state", version: "p_version", hash: "p_hash", row_hash: "p_row_hash", revision: "p_revision", evidence: "p_evidence" })} d
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
  DELETE FROM ${s}.event e USING ${side({ n: "p_n", generation: "p_generation" })} d WHERE e.object = d.n AND e.seq <= d.generation;
END $$;

-- Arrays of one length, an element a settlement, in the order of n. kind: 0 done, 1 retry, 2 dead. rest: for done, how long
-- the object is to rest; for retry, in how many milliseconds it is due. Answers 0 settled, 1 dirty, 2 lost, in their order.
CREATE FUNCTION ${s}.settle(p_now bigint, p_n bigint[], p_fence bigint[], p_generation bigint[], p_kind integer[], p_rest bigint[],
  p_was boolean[], p_state text[], p_version text[], p_hash text[], p_row_hash text[], p_revision bigint[], p_evidence bigint[],
  p_attempts integer[], p_lags integer[], p_begun boolean[], p_error text[])
RETURNS integer[] LANGUAGE plpgsql ${JOINS_BY_INDEX} AS $$
DECLARE
  v_now bigint := ${s}.moment(p_now);
  v_touched bigint;
  v_live bigint[];
  v_since bigint[]; -- of those: to whom something was appended under the lease
  v_ended bigint[];
  v_of bigint[];
  v_again ${s}.work[];
  v_lanes bigint[];
  v_dues bigint[];
BEGIN
  IF 0 <> ANY(p_kind) THEN
    -- Two statements are going to write them: locked before, in the order of n. One of a connection that was forgotten is lost.
    SELECT array_agg(f.n), array_agg(f.n) FILTER (WHERE f.since IS NOT NULL) INTO v_live, v_since
    FROM (
      SELECT d.n, w.since FROM unnest(p_n, p_fence) d(n, fence) CROSS JOIN LATERAL (
        SELECT x.since FROM ${s}.work x WHERE x.n = d.n AND x.fence = d.fence
          AND EXISTS (SELECT FROM ${s}.lane l WHERE l.n = x.lane) FOR UPDATE OF x) w OFFSET 0) f;
  END IF;
  -- What is done is deleted, in the order of n; what was appended meanwhile comes back as work of its own.
  WITH ended AS (
    DELETE FROM ${s}.work w USING ${side({ n: "p_n", fence: "p_fence", kind: "p_kind" })} d
    WHERE w.n = d.n AND w.fence = d.fence AND d.kind = 0
    RETURNING w.n, w.lane, w.since, CASE WHEN w.since IS NOT NULL THEN w END AS work
  ) SELECT array_agg(e.n), array_agg(e.lane), array_agg(e.work) FILTER (WHERE e.since IS NOT NULL) INTO v_ended, v_of, v_again FROM ended e;
  -- What is left of a forgotten connection is swept in any case: to delete it here was no harm.
  IF EXISTS (SELECT FROM (SELECT DISTINCT u.lane FROM unnest(v_of) u(lane)) x WHERE NOT EXISTS (SELECT FROM ${s}.lane l WHERE l.n = x.lane)) THEN
    SELECT array_agg(u.n) INTO v_ended FROM unnest(v_ended, v_of) u(n, lane) WHERE EXISTS (SELECT FROM ${s}.lane l WHERE l.n = u.lane);
    v_again := ARRAY(SELECT w FROM unnest(v_again) w WHERE EXISTS (SELECT FROM ${s}.lane l WHERE l.n = w.lane));
  END IF;
  v_touched := nextval('${s}.counter');

  IF cardinality(v_ended) = cardinality(p_n) THEN
    PERFORM ${s}.record_done(v_now, v_touched, p_n, p_generation, p_rest, p_was, p_state, p_version, p_hash, p_row_hash, p_revision, p_evidence);
    IF v_again IS NULL THEN RETURN array_fill(0, ARRAY[cardinality(p_n)]); END IF; -- the usual
  ELSIF v_ended IS NOT NULL THEN
    PERFORM ${s}.record_done(v_now, v_touched, f.n, f.generation, f.rest, f.was, f.state, f.version, f.hash, f.row_hash, f.revision, f.evidence)
    FROM (
      SELECT array_agg(d.n) AS n, array_agg(d.generation) AS generation, array_agg(d.rest) AS rest, array_agg(d.was) AS was, array_agg(d.state) AS state,
        array_agg(d.version) AS version, array_agg(d.hash) AS hash, array_agg(d.row_hash) AS row_hash, array_agg(d.revision) AS revision,
        array_agg(d.evidence) AS evidence
      FROM unnest(p_n, p_generation, p_rest, p_was, p_state, p_version, p_hash, p_row_hash, p_revision, p_evidence)
        d(n, generation, rest, was, state, version, hash, row_hash, revision, evidence)
      WHERE d.n = ANY(v_ended)) f;
  END IF;
  IF v_live IS NULL THEN
    v_live := v_ended;
    v_since := ARRAY(SELECT w.n FROM unnest(v_again) w);
  END IF;

  WITH fresh AS (
    INSERT INTO ${s}.work AS f (n, lane, due, dirty_since, generation, touched, forced, origin, hint, hint_version, hint_order, event_count)
    SELECT w.n, w.lane, greatest(v_now, v_now + d.rest), w.since, w.generation, v_touched, w.since_forced, w.since_origin,
      w.since_hint, w.since_version, w.since_order, w.since_count
    FROM unnest(v_again) w JOIN unnest(p_n, p_rest) d(n, rest) ON d.n = w.n
    RETURNING f.lane, f.due
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
    FROM unnest(p_n, p_kind, p_rest, p_attempts, p_lags, p_begun, p_error) d(n, kind, rest, attempts, lags, begun, error)
    WHERE w.n = d.n AND d.kind > 0 AND d.n = ANY(v_live) RETURNING w.lane, w.due, w.dead
  )
  SELECT array_agg(u.lane), array_agg(u.due) INTO v_lanes, v_dues
  FROM (SELECT f.lane, f.due FROM fresh f UNION ALL SELECT q.lane, q.due FROM waiting q WHERE NOT q.dead) u;
  UPDATE ${s}.scope c SET last_error = e.error
  FROM (SELECT DISTINCT ON (w.lane / 2) w.lane / 2 AS scope, d.error
    FROM unnest(p_n, p_error) WITH ORDINALITY d(n, error, place) CROSS JOIN LATERAL (
      SELECT x.lane FROM ${s}.work x WHERE x.n = d.n LIMIT 1) w
    WHERE d.error IS NOT NULL AND d.n = ANY(v_live) ORDER BY 1, d.place DESC) e
  WHERE c.n = e.scope;
  PERFORM ${s}.wake(v_now, v_lanes, v_dues);
  RETURN ARRAY(SELECT CASE WHEN u.n = ANY(v_since) THEN 1 WHEN u.n = ANY(v_live) THEN 0 ELSE 2 END FROM unnest(p_n) WITH ORDINALITY u(n, place) ORDER BY u.place);
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
