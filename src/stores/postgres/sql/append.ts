/**
 * Appending: the ledger, the event, and the dirty mark, in one step.
 *
 * @module
 */

import { hintOf, type HintSql, LOOKS_UP, mergedHint, raise } from "./fragments.ts";

const given: HintSql = {
  hint: "excluded.hint",
  version: "excluded.hint_version",
  order: "excluded.hint_order",
};

/** What an append makes of the hint of work that is there: none of its business while the work is leased. */
function ownHint(): string {
  const { hint, version, order } = mergedHint(hintOf("w", "hint"), given);
  return `hint = CASE WHEN w.fence IS NULL THEN ${hint} ELSE w.hint END,
      hint_version = CASE WHEN w.fence IS NULL THEN ${version} ELSE w.hint_version END,
      hint_order = CASE WHEN w.fence IS NULL THEN ${order} ELSE w.hint_order END`;
}

/** What it adds to a lease. */
function sinceHint(): string {
  const { hint, version, order } = mergedHint(hintOf("w", "since"), given);
  return `since_hint = CASE WHEN w.fence IS NOT NULL THEN ${hint} END,
      since_version = CASE WHEN w.fence IS NOT NULL THEN ${version} END,
      since_order = CASE WHEN w.fence IS NOT NULL THEN ${order} END`;
}

/**
 * Marks objects dirty, whatever they are now. Its rows are what is marked, from a query with the columns n, lane, now,
 * forced, origin, hint, hint_version, hint_order, event_count: in the order of n, which is the order of locks. What is
 * `made` by it is due at once, until `let_rest` has looked at it.
 */
export function markDirty(s: string, rows: string): string {
  return `
    INSERT INTO ${s}.work AS w (n, lane, due, dirty_since, generation, forced, origin, hint, hint_version, hint_order, event_count)
    SELECT r.n, r.lane, r.now, r.now, nextval('${s}.counter'), r.forced, r.origin, r.hint, r.hint_version, r.hint_order, r.event_count
    FROM (${rows}) r
    ON CONFLICT (n) DO UPDATE SET
      generation = nextval('${s}.counter'),
      lane = CASE WHEN w.dead OR excluded.lane < w.lane THEN excluded.lane ELSE w.lane END, -- live is one less than repair
      due = CASE WHEN w.dead THEN excluded.dirty_since ELSE w.due END,
      dirty_since = CASE WHEN w.dead THEN excluded.dirty_since ELSE w.dirty_since END,
      attempts = CASE WHEN w.dead THEN 0 ELSE w.attempts END,
      lags = CASE WHEN w.dead THEN 0 ELSE w.lags END,
      error = CASE WHEN w.dead THEN NULL ELSE w.error END,
      origin = CASE WHEN w.dead THEN excluded.origin ELSE w.origin END,
      dead = false,
      event_count = w.event_count + excluded.event_count,
      forced = w.forced OR (excluded.forced AND w.fence IS NULL),
      ${ownHint()},
      since = CASE WHEN w.fence IS NOT NULL THEN coalesce(w.since, excluded.dirty_since) END,
      since_origin = CASE WHEN w.fence IS NOT NULL THEN coalesce(w.since_origin, excluded.origin) END,
      ${sinceHint()},
      since_forced = w.fence IS NOT NULL AND (w.since_forced OR excluded.forced),
      since_count = CASE WHEN w.fence IS NOT NULL THEN w.since_count + excluded.event_count ELSE 0 END
    RETURNING w.n, w.generation, w.lane, w.due, w.fence, w.xmax = 0 AS made`;
}

export const appendFunctions = (s: string): string => `
-- Numbers of objects, created where they are missing. Sorted by id on the way, so that two that create the same ones wait
-- for each other in one order. made: those that are certainly created by this call, and so known to nobody else yet.
CREATE FUNCTION ${s}.find_or_make_objects(p_scope bigint[], p_id text[], p_emptied_at bigint, OUT n bigint[], OUT made boolean[])
LANGUAGE plpgsql ${LOOKS_UP} AS $$
DECLARE
  v_missing boolean[];
  v_empty bigint[];
  v_wanted integer;
  v_count integer;
BEGIN
  made := array_fill(false, ARRAY[cardinality(p_id)]);
  LOOP
    SELECT array_agg(f.n ORDER BY f.place), array_agg(f.n IS NULL ORDER BY f.place), array_agg(DISTINCT f.n) FILTER (WHERE f.emptied_at IS NOT NULL)
    INTO n, v_missing, v_empty
    FROM (SELECT e.place, o.n, o.emptied_at FROM unnest(p_scope, p_id) WITH ORDINALITY e(scope, id, place)
      LEFT JOIN LATERAL (SELECT b.n, b.emptied_at FROM ${s}.object b WHERE b.scope = e.scope AND b.id = e.id LIMIT 1) o ON true) f;
    IF v_empty IS NOT NULL THEN
      -- Sweeping may be about to delete them.
      PERFORM 1 FROM ${s}.object o WHERE o.n = ANY(v_empty) ORDER BY o.n FOR KEY SHARE;
      GET DIAGNOSTICS v_count = ROW_COUNT;
      CONTINUE WHEN v_count < cardinality(v_empty);
    END IF;
    IF array_position(v_missing, true) IS NULL THEN RETURN; END IF;
    WITH wanted AS MATERIALIZED (
      SELECT DISTINCT e.scope, e.id FROM unnest(p_scope, p_id, v_missing) e(scope, id, missing) WHERE e.missing
    ), added AS (
      INSERT INTO ${s}.object (scope, id, emptied_at) SELECT w.scope, w.id, p_emptied_at FROM wanted w ORDER BY 1, 2
      ON CONFLICT DO NOTHING RETURNING 1
    )
    SELECT (SELECT count(*) FROM wanted), (SELECT count(*) FROM added) INTO v_wanted, v_count;
    IF v_count = v_wanted THEN made := v_missing; END IF;
  END LOOP;
END $$;

CREATE FUNCTION ${s}.demand_objects(p_scope bigint[], p_id text[], p_emptied_at bigint) RETURNS bigint[] LANGUAGE sql AS $$
  SELECT f.n FROM ${s}.find_or_make_objects(p_scope, p_id, p_emptied_at) f
$$;

-- Of work that was just made: what its object says of it. A statement of its own, since who settled the object before may
-- have been under way when the one before began. Whether there was something to say.
CREATE FUNCTION ${s}.let_rest(p_now bigint, p_made bigint[]) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  v_n bigint[] := ARRAY(
    SELECT u.n FROM unnest(p_made) u(n) CROSS JOIN LATERAL (SELECT o.not_before, o.begun FROM ${s}.object o WHERE o.n = u.n LIMIT 1) b
    WHERE b.not_before > p_now OR b.begun);
BEGIN
  IF v_n = '{}' THEN RETURN false; END IF;
  UPDATE ${s}.work w SET due = greatest(w.due, (SELECT o.not_before FROM ${s}.object o WHERE o.n = w.n)),
    begun = (SELECT o.begun FROM ${s}.object o WHERE o.n = w.n) WHERE w.n = ANY(v_n);
  RETURN true;
END $$;

-- Arrays of one length, an element an entry. round: how many earlier entries of the call are about the same object; -1: an
-- entry whose key came earlier in the call. Answers in the order of the entries: of what is accepted, its generation; of
-- duplicates, the generation that the object was at before the call (0, if it was not under way), taken from -1.
CREATE FUNCTION ${s}.append(p_now bigint, p_scope bigint[], p_id text[], p_round integer[], p_key uuid[], p_body text[], p_origin text[],
  p_repair boolean[], p_force boolean[], p_hint text[], p_version text[], p_order text[])
RETURNS bigint[] LANGUAGE plpgsql ${LOOKS_UP} AS $$
#variable_conflict use_column
DECLARE
  v_now bigint := ${s}.moment(p_now);
  v_lanes bigint[] := ARRAY(SELECT DISTINCT 2 * e.scope + e.repair::integer FROM unnest(p_scope, p_repair) e(scope, repair) ORDER BY 1);
  v_n bigint[];
  v_made boolean[];
  v_fresh boolean[];
  v_generation bigint[];
  v_places bigint[];
  v_marked bigint[];
  v_reached bigint[];
  v_maybe_resting bigint[];
  v_woken bigint[];
  v_dues bigint[];
  v_count integer;
  v_round integer;
BEGIN
  PERFORM 1 FROM ${s}.lane l WHERE l.n = ANY(v_lanes) ORDER BY l.n FOR KEY SHARE;
  GET DIAGNOSTICS v_count = ROW_COUNT;
  IF v_count < cardinality(v_lanes) THEN ${raise("staleScope")}; END IF;
  SELECT f.n, f.made INTO v_n, v_made FROM ${s}.find_or_make_objects(p_scope, p_id, NULL) f;

  -- Of an object that this call has made nobody else can have written anything: nothing of it can be in the way, and not
  -- having to look saves a good part of the work.
  INSERT INTO ${s}.ledger (object, key, at) SELECT u.n, u.key, v_now FROM unnest(v_n, v_made, p_key, p_round) u(n, made, key, round)
  WHERE u.made AND u.key IS NOT NULL AND u.round >= 0 ORDER BY 1, 2;
  IF array_position(v_made, false) IS NULL OR cardinality(array_remove(p_key, NULL)) = 0 THEN
    v_fresh := ARRAY(SELECT u.round >= 0 FROM unnest(p_round) WITH ORDINALITY u(round, place) ORDER BY u.place);
  ELSE
    WITH e AS MATERIALIZED (
      SELECT u.place, u.n, u.key, u.round, u.made FROM unnest(v_n, p_key, p_round, v_made) WITH ORDINALITY u(n, key, round, made, place)
    ), added AS (
      INSERT INTO ${s}.ledger (object, key, at) SELECT e.n, e.key, v_now FROM e WHERE e.key IS NOT NULL AND e.round >= 0 AND NOT e.made ORDER BY 1, 2
      ON CONFLICT DO NOTHING RETURNING object, key
    )
    SELECT array_agg(e.round >= 0 AND (e.key IS NULL OR e.made OR a.key IS NOT NULL) ORDER BY e.place) INTO v_fresh
    FROM e LEFT JOIN added a ON a.key = e.key AND a.object = e.n;
  END IF;

  -- Of duplicates: what their objects are at before any of this.
  IF array_position(v_fresh, false) IS NULL THEN v_generation := array_fill(0::bigint, ARRAY[cardinality(p_id)]);
  ELSE
    v_generation := ARRAY(
      SELECT CASE WHEN NOT u.fresh THEN -1 - coalesce((SELECT w.generation FROM ${s}.work w WHERE w.n = u.n AND NOT w.dead), 0) END
      FROM unnest(v_n, v_fresh) WITH ORDINALITY u(n, fresh, place) ORDER BY u.place);
  END IF;
  FOR v_round IN 0 .. (SELECT max(r) FROM unnest(p_round) r) LOOP
    -- Every object of a round is there once, and each is marked: sorted by number, what goes in and what comes out belong
    -- together place by place, which is cheaper than to join them.
    v_places := ARRAY(SELECT u.place FROM unnest(v_n, p_round, v_fresh) WITH ORDINALITY u(n, round, fresh, place) WHERE u.round = v_round AND u.fresh ORDER BY u.n);
    CONTINUE WHEN v_places = '{}';
    WITH entry AS NOT MATERIALIZED (
      SELECT u.n, u.made AND v_round = 0 AS made, 2 * u.scope + u.repair::integer AS lane, v_now AS now, u.forced, u.origin, u.hint,
        u.version AS hint_version, u.vorder AS hint_order, (u.body IS NOT NULL)::integer AS event_count
      FROM unnest(v_n, v_made, p_scope, p_round, v_fresh, p_body, p_origin, p_repair, p_force, p_hint, p_version, p_order)
          u(n, made, scope, round, fresh, body, origin, repair, forced, hint, version, vorder)
      WHERE u.round = v_round AND u.fresh
    ), first AS (
      INSERT INTO ${s}.work (n, lane, due, dirty_since, generation, forced, origin, hint, hint_version, hint_order, event_count)
      SELECT e.n, e.lane, e.now, e.now, nextval('${s}.counter'), e.forced, e.origin, e.hint, e.hint_version, e.hint_order, e.event_count
      FROM entry e WHERE e.made ORDER BY e.n
      RETURNING n, generation, lane, due
    ), marked AS (${markDirty(s, "SELECT e.* FROM entry e WHERE NOT e.made ORDER BY e.n")}
    ), all_marked AS (
      SELECT f.n, f.generation, f.lane, f.due, NULL::bigint AS fence, false AS may_rest FROM first f
      UNION ALL SELECT m.n, m.generation, m.lane, m.due, m.fence, m.made FROM marked m
    )
    SELECT array_agg(m.n ORDER BY m.n), array_agg(m.generation ORDER BY m.n),
      array_agg(m.lane) FILTER (WHERE m.fence IS NULL), array_agg(m.due) FILTER (WHERE m.fence IS NULL), array_agg(m.n) FILTER (WHERE m.may_rest)
    INTO v_marked, v_reached, v_woken, v_dues, v_maybe_resting FROM all_marked m;
    IF v_maybe_resting IS NOT NULL AND ${s}.let_rest(v_now, v_maybe_resting) THEN
      SELECT array_agg(w.lane), array_agg(w.due) INTO v_woken, v_dues FROM ${s}.work w WHERE w.n = ANY(v_marked) AND w.fence IS NULL;
    END IF;
    FOR v_count IN 1 .. cardinality(v_places) LOOP
      v_generation[v_places[v_count]] := v_reached[v_count];
    END LOOP;
    INSERT INTO ${s}.event (object, seq, at, body)
    SELECT u.n, u.seq, v_now, u.body FROM unnest(v_n, p_round, v_fresh, v_generation, p_body) u(n, round, fresh, seq, body)
    WHERE u.round = v_round AND u.fresh AND u.body IS NOT NULL;
    PERFORM ${s}.wake(v_now, v_woken, v_dues);
  END LOOP;

  RETURN v_generation;
END $$;
`;
