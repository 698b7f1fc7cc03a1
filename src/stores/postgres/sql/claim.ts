/**
 * Claiming: which objects are next, over lanes that take turns.
 *
 * The turns are kept by those who claim: each goes round the ring of ready lanes by itself, and tells where it was. So
 * claims write nothing to lanes that have more work, and do not wait for each other.
 *
 * @module
 */

import { REPAIR_AGING_MS } from "../../../core/store.ts";
import { CLAIM_COLUMNS, claimRows, LOOKS_UP } from "./fragments.ts";

/** How often one claim looks at further lanes when those that it looked at had nothing to give: a bound. */
const ROUNDS = 32;

export const claimFunctions = (s: string): string => `
-- Up to p_limit of what is due in the ready lanes of a kind, in turns, locked: where its rows stay until the transaction
-- ends, when they are due, and of which lanes they are. short: lanes that gave less than they were asked for; next: where
-- to go on.
CREATE FUNCTION ${s}.pick(p_provider text, p_resource text, p_repair boolean, p_after bigint, p_limit integer, p_due_by bigint, p_except text[],
  OUT place tid[], OUT due bigint[], OUT lane bigint[], OUT short bigint[], OUT next bigint) LANGUAGE plpgsql ${LOOKS_UP} AS $$
#variable_conflict use_column
DECLARE
  v_ring bigint[] := ARRAY(SELECT l.n FROM ${s}.lane l WHERE l.provider = p_provider AND l.resource = p_resource AND l.repair = p_repair AND l.ready
    AND l.n > p_after AND l.connection <> ALL (p_except) ORDER BY l.n LIMIT p_limit);
  v_place tid[];
  v_due bigint[];
  v_lane bigint[];
  v_share integer;
  v_full bigint[];
BEGIN
  next := p_after;
  IF p_after > 0 AND cardinality(v_ring) < p_limit THEN
    v_ring := v_ring || ARRAY(SELECT l.n FROM ${s}.lane l WHERE l.provider = p_provider AND l.resource = p_resource AND l.repair = p_repair AND l.ready
      AND l.n <= p_after AND l.connection <> ALL (p_except) ORDER BY l.n LIMIT p_limit - cardinality(v_ring));
  END IF;
  IF v_ring = '{}' THEN RETURN; END IF;
  IF cardinality(v_ring) = p_limit THEN next := v_ring[p_limit]; END IF;
  v_share := ceil(p_limit::numeric / cardinality(v_ring));
  SELECT array_agg(c.ctid), array_agg(c.due), array_agg(r.lane) INTO v_place, v_due, v_lane
  FROM unnest(v_ring) r(lane) CROSS JOIN LATERAL (
    SELECT w.ctid, w.due FROM ${s}.work w WHERE w.lane = r.lane AND w.fence IS NULL AND NOT w.dead AND w.due <= p_due_by
    ORDER BY w.due LIMIT v_share FOR UPDATE SKIP LOCKED) c;
  SELECT array_agg(r.lane) FILTER (WHERE coalesce(g.count, 0) < v_share), array_agg(r.lane) FILTER (WHERE g.count >= v_share) INTO short, v_full
  FROM unnest(v_ring) r(lane) LEFT JOIN (SELECT x.lane, count(*) AS count FROM unnest(v_lane) x(lane) GROUP BY 1) g ON g.lane = r.lane;
  IF coalesce(cardinality(v_place), 0) < p_limit AND v_full IS NOT NULL AND cardinality(v_ring) > 1 THEN
    -- Some had less than their share: the others give theirs.
    SELECT v_place || array_agg(c.ctid), v_due || array_agg(c.due), v_lane || array_agg(r.lane) INTO v_place, v_due, v_lane
    FROM unnest(v_full) r(lane) CROSS JOIN LATERAL (
      SELECT w.ctid, w.due FROM ${s}.work w WHERE w.lane = r.lane AND w.fence IS NULL AND NOT w.dead AND w.due <= p_due_by AND w.ctid <> ALL (v_place)
      ORDER BY w.due LIMIT p_limit - v_share FOR UPDATE SKIP LOCKED) c;
  END IF;
  IF cardinality(v_place) > p_limit THEN
    SELECT array_agg(t.place), array_agg(t.due), array_agg(t.lane) INTO v_place, v_due, v_lane
    FROM (SELECT c.place, c.due, c.lane FROM (
      SELECT u.place, u.due, u.lane, row_number() OVER (PARTITION BY u.lane ORDER BY u.due, u.place) AS turn FROM unnest(v_place, v_due, v_lane) u(place, due, lane)) c
      ORDER BY c.turn, c.lane LIMIT p_limit) t;
  END IF;
  place := v_place;
  due := v_due;
  lane := v_lane;
END $$;

-- The last row says how it went: n is NULL, fence and generation are where to go on in the live and the repair ring,
-- event_count is how many lanes could not be looked at, dirty_since is the moment, events are the connections of lanes.
CREATE FUNCTION ${s}.claim(p_now bigint, p_session bigint, p_provider text, p_resource text, p_limit integer, p_except text[],
  p_live_after bigint, p_repair_after bigint, p_max_events integer, p_random double precision)
RETURNS TABLE (${CLAIM_COLUMNS}) LANGUAGE plpgsql ${LOOKS_UP} AS $$
#variable_conflict use_column
DECLARE
  v_now bigint := ${s}.moment(p_now);
  v_live record;
  v_repair record;
  v_after bigint[];
  v_chosen tid[];
  v_short bigint[];
  v_skipped integer := 0;
  v_due_by bigint;
  v_fence bigint;
BEGIN
  PERFORM ${s}.require_session(p_session);
  PERFORM ${s}.take_over(v_now, p_session, p_random);
  PERFORM ${s}.promote(v_now, p_provider, p_resource);
  v_after := ARRAY[p_live_after, p_repair_after];
  FOR v_round IN 1 .. ${ROUNDS} LOOP
    v_live := ${s}.pick(p_provider, p_resource, false, v_after[1], p_limit, v_now, p_except);
    v_chosen := v_live.place;
    v_short := v_live.short;
    -- Repair work waits, unless it is older by the aging time than live work that would be taken.
    v_due_by := CASE WHEN cardinality(v_live.place) >= p_limit THEN (SELECT max(d) FROM unnest(v_live.due) d) - ${REPAIR_AGING_MS} ELSE v_now END;
    v_repair := ${s}.pick(p_provider, p_resource, true, v_after[2], p_limit, v_due_by, p_except);
    v_after := ARRAY[v_live.next, v_repair.next];
    IF v_due_by = v_now THEN v_short := v_short || v_repair.short; END IF;
    IF v_repair.place IS NOT NULL THEN
      v_chosen := ARRAY(
        SELECT c.place FROM (
          SELECT u.place, u.due FROM unnest(v_live.place, v_live.due) u(place, due)
          UNION ALL SELECT u.place, u.due + ${REPAIR_AGING_MS} FROM unnest(v_repair.place, v_repair.due) u(place, due)) c
        ORDER BY c.due, c.place LIMIT p_limit);
    END IF;
    IF v_chosen IS NOT NULL THEN
      v_fence := nextval('${s}.counter');
      RETURN QUERY
        WITH taken AS (
          UPDATE ${s}.work w SET session = p_session, fence = v_fence WHERE w.ctid = ANY(v_chosen) RETURNING w.*
        ), leased AS (
          SELECT t.* FROM taken t ORDER BY t.due + CASE WHEN t.lane % 2 = 1 THEN ${REPAIR_AGING_MS} ELSE 0 END, t.n
        )${claimRows(s, "leased", "p_max_events")};
    END IF;
    IF v_short IS NOT NULL THEN v_skipped := v_skipped + ${s}.settle_lanes(v_now, v_short); END IF;
    -- Lanes can be ready and have nothing to give. They are no more; others may be behind them in the ring.
    EXIT WHEN v_chosen IS NOT NULL OR v_short IS NULL;
  END LOOP;
  RETURN QUERY SELECT NULL::bigint, NULL::bigint, NULL, v_after[1], v_after[2], NULL::integer, NULL::integer, NULL::boolean, NULL::boolean,
    NULL, NULL, NULL, v_skipped::bigint, v_now, NULL, NULL, NULL, NULL, NULL::bigint, NULL::bigint,
    (SELECT json_object_agg(l.n, l.connection)::text FROM ${s}.lane l WHERE l.n = ANY(ARRAY(SELECT DISTINCT x.n FROM unnest(v_live.lane || v_repair.lane) x(n))));
END $$;
`;
