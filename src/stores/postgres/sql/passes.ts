/**
 * Passes over lists: pages with their checkpoints, and which objects a pass has seen; and the object index as they and
 * `adopt` write it.
 *
 * @module
 */

import { CLAIM_COLUMNS, claimRows, JOINS_BY_INDEX, LOOKS_UP, raise } from "./fragments.ts";

export const passFunctions = (s: string): string => `
CREATE FUNCTION ${s}.record_page(p_now bigint, p_session bigint, p_scope bigint, p_pass text, p_lock text, p_lock_fence bigint, p_mark bigint,
  p_seen text[], p_differing text[], p_lease boolean, p_checkpoint text, p_max_events integer)
RETURNS TABLE (${CLAIM_COLUMNS}) LANGUAGE plpgsql ${JOINS_BY_INDEX} AS $$
#variable_conflict use_column
DECLARE
  v_now bigint := ${s}.moment(p_now);
  v_lane bigint := 2 * p_scope + 1;
  v_ids text[];
  v_n bigint[];
  v_fence bigint;
  v_leased bigint[];
  v_made bigint[];
  v_due bigint;
  v_count integer;
BEGIN
  PERFORM ${s}.require_session(p_session);
  PERFORM ${s}.require_lock(p_lock, p_lock_fence);
  PERFORM 1 FROM ${s}.lane l WHERE l.n IN (2 * p_scope, v_lane) ORDER BY l.n FOR KEY SHARE;
  GET DIAGNOSTICS v_count = ROW_COUNT;
  IF v_count < 2 THEN ${raise("staleScope")}; END IF;
  -- Ids that the store has not heard of get a number too: they may be recorded later, and were seen all the same.
  -- All in one go, so that they are created in one order.
  v_ids := ARRAY(SELECT DISTINCT u.id FROM unnest(p_differing || p_seen) u(id));
  PERFORM ${s}.demand_objects(array_fill(p_scope, ARRAY[cardinality(v_ids)]), v_ids, v_now);
  IF cardinality(p_seen) > 0 THEN
    INSERT INTO ${s}.pass_page (scope, pass, objects) VALUES (p_scope, p_pass, ${s}.demand_objects(array_fill(p_scope, ARRAY[cardinality(p_seen)]), p_seen, v_now));
  END IF;
  INSERT INTO ${s}.checkpoint VALUES (p_pass, p_checkpoint) ON CONFLICT (key) DO UPDATE SET value = p_checkpoint;

  v_ids := ARRAY(SELECT DISTINCT u.id FROM unnest(p_differing) u(id));
  IF v_ids = '{}' THEN RETURN QUERY SELECT r.* FROM ${s}.nothing_claimed(v_now) r; RETURN; END IF;
  v_n := ${s}.demand_objects(array_fill(p_scope, ARRAY[cardinality(v_ids)]), v_ids, v_now);
  v_fence := nextval('${s}.counter');
  IF p_lease THEN
    -- What is clean is leased; of the rest, what is leased to others is marked. What waits or is dead stays as it is.
    WITH leased AS (
      INSERT INTO ${s}.work AS w (n, lane, due, dirty_since, generation, session, fence, begun, origin)
      SELECT o.n, v_lane, v_now, v_now, nextval('${s}.counter'), p_session, v_fence, o.begun, 'reconcile'
      FROM (SELECT b.n, b.begun FROM unnest(v_n) u(n) CROSS JOIN LATERAL (SELECT b.n, b.begun FROM ${s}.object b WHERE b.n = u.n LIMIT 1) b ORDER BY 1) o
      ON CONFLICT (n) DO UPDATE SET generation = nextval('${s}.counter'), since = coalesce(w.since, v_now), since_origin = coalesce(w.since_origin, 'reconcile')
      WHERE w.fence IS NOT NULL
      RETURNING w.n, w.fence
    ) SELECT array_agg(x.n) INTO v_leased FROM leased x WHERE x.fence = v_fence;
    -- Touched since the page was requested, or to rest: left to the normal road. Looked at now that nobody else can settle them.
    WITH left_alone AS (
      UPDATE ${s}.work w SET session = NULL, fence = NULL, due = greatest(w.due, o.not_before), begun = o.begun
      FROM (SELECT b.n, b.not_before, b.begun FROM unnest(v_leased) u(n) CROSS JOIN LATERAL (SELECT b.* FROM ${s}.object b WHERE b.n = u.n LIMIT 1) b
        WHERE b.touched > p_mark OR b.not_before > v_now OFFSET 0) o
      WHERE w.n = o.n RETURNING w.due
    ) SELECT min(l.due) INTO v_due FROM left_alone l;
  ELSE
    WITH marked AS (
      INSERT INTO ${s}.work AS w (n, lane, due, dirty_since, generation, origin)
      SELECT u.n, v_lane, v_now, v_now, nextval('${s}.counter'), 'reconcile' FROM unnest(v_n) u(n) ORDER BY 1
      ON CONFLICT (n) DO UPDATE SET generation = nextval('${s}.counter'), since = coalesce(w.since, v_now), since_origin = coalesce(w.since_origin, 'reconcile')
      WHERE w.fence IS NOT NULL
      RETURNING w.n, w.fence
    ) SELECT array_agg(m.n) INTO v_made FROM marked m WHERE m.fence IS NULL;
    PERFORM ${s}.let_rest(v_now, v_made);
    SELECT min(w.due) INTO v_due FROM ${s}.work w WHERE w.n = ANY(v_made);
  END IF;
  IF v_due IS NOT NULL THEN PERFORM ${s}.wake(v_now, ARRAY[v_lane], ARRAY[v_due]); END IF;
  RETURN QUERY
    WITH mine AS (SELECT w.* FROM ${s}.work w WHERE w.n = ANY(v_leased) AND w.fence = v_fence)${claimRows(s, "mine", "p_max_events")}
    ORDER BY l.n;
  RETURN QUERY SELECT r.* FROM ${s}.nothing_claimed(v_now) r;
END $$;

-- The last row of those that claim.
CREATE FUNCTION ${s}.nothing_claimed(p_now bigint) RETURNS TABLE (${CLAIM_COLUMNS}) LANGUAGE sql AS $$
  SELECT NULL::bigint, NULL::bigint, NULL, 0::bigint, 0::bigint, NULL::integer, NULL::integer, NULL::boolean, NULL::boolean, NULL, NULL, NULL,
    0::bigint, p_now, NULL, NULL, NULL, NULL, NULL::bigint, NULL::bigint, NULL
$$;

CREATE FUNCTION ${s}.end_pass(p_scope bigint, p_pass text, p_lock text, p_lock_fence bigint, p_checkpoint text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM ${s}.require_lock(p_lock, p_lock_fence);
  DELETE FROM ${s}.pass_page g WHERE g.scope = p_scope AND g.pass = p_pass;
  IF p_checkpoint IS NULL THEN DELETE FROM ${s}.checkpoint c WHERE c.key = p_pass;
  ELSE INSERT INTO ${s}.checkpoint VALUES (p_pass, p_checkpoint) ON CONFLICT (key) DO UPDATE SET value = p_checkpoint;
  END IF;
END $$;

CREATE FUNCTION ${s}.lookup(p_provider text, p_connection text, p_resource text, p_id text[])
RETURNS TABLE (n bigint, pending boolean, touched bigint, state text, version text, hash text, row_hash text, revision bigint, evidence bigint)
LANGUAGE plpgsql ${LOOKS_UP} AS $$
#variable_conflict use_column
DECLARE
  v_scope bigint := (SELECT c.n FROM ${s}.scope c WHERE c.provider = p_provider AND c.connection = p_connection AND c.resource = p_resource AND NOT c.forgotten);
BEGIN
  RETURN QUERY
    SELECT o.n, w.n IS NOT NULL, greatest(o.touched, w.generation, w.touched, w.fence), o.state, o.version, o.hash, o.row_hash, o.revision, o.evidence
    FROM unnest(p_id) WITH ORDINALITY a(id, place)
      LEFT JOIN LATERAL (SELECT b.* FROM ${s}.object b WHERE b.scope = v_scope AND b.id = a.id LIMIT 1) o ON true
      LEFT JOIN LATERAL (SELECT x.n, x.generation, x.touched, x.fence FROM ${s}.work x WHERE x.n = o.n LIMIT 1) w ON true
    ORDER BY a.place;
END $$;

-- Writes index entries of objects that are not pending, nor have a newer one. Returns how many.
CREATE FUNCTION ${s}.record(p_now bigint, p_scope bigint, p_id text[], p_state text[], p_version text[], p_hash text[], p_row_hash text[],
  p_revision bigint[], p_evidence bigint[]) RETURNS integer LANGUAGE plpgsql ${LOOKS_UP} AS $$
DECLARE
  v_now bigint := ${s}.moment(p_now);
  v_n bigint[];
  v_free bigint[];
  v_count integer;
BEGIN
  PERFORM 1 FROM ${s}.lane l WHERE l.n = 2 * p_scope FOR KEY SHARE;
  IF NOT FOUND THEN ${raise("staleScope")}; END IF;
  v_n := ${s}.demand_objects(array_fill(p_scope, ARRAY[cardinality(p_id)]), p_id, v_now);
  v_free := ARRAY(SELECT u.n FROM unnest(v_n) u(n) WHERE NOT EXISTS (SELECT FROM ${s}.work w WHERE w.n = u.n));
  INSERT INTO ${s}.present_change
  SELECT p_scope, g.change FROM (
    SELECT sum((d.state = 'present')::integer - (o.state IS NOT DISTINCT FROM 'present')::integer) AS change
    FROM unnest(v_n, p_state, p_evidence) d(n, state, evidence)
      CROSS JOIN LATERAL (SELECT b.state, b.evidence FROM ${s}.object b WHERE b.n = d.n ORDER BY b.n LIMIT 1 FOR NO KEY UPDATE) o
    WHERE d.n = ANY(v_free) AND coalesce(o.evidence, 0) <= d.evidence) g WHERE g.change <> 0;
  UPDATE ${s}.object o SET state = d.state, version = d.version, hash = d.hash, row_hash = d.row_hash, revision = d.revision,
    evidence = d.evidence, emptied_at = NULL
  FROM unnest(v_n, p_state, p_version, p_hash, p_row_hash, p_revision, p_evidence) d(n, state, version, hash, row_hash, revision, evidence)
  WHERE o.n = d.n AND o.n = ANY(v_free) AND coalesce(o.evidence, 0) <= d.evidence;
  GET DIAGNOSTICS v_count = ROW_COUNT;
  RETURN v_count;
END $$;
`;
