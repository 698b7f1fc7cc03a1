/**
 * Lanes: the work of one scope and kind, and whether there is any.
 *
 * Claims look at ready lanes alone, so that empty ones, those whose work is due later, and those whose connection is
 * paused cost nothing. Nobody may miss work: who adds some holds the lane FOR KEY SHARE while it looks whether the lane
 * is ready, and who finds a lane empty must have it FOR UPDATE, and look again, before it says so.
 *
 * Order of locks, everywhere: sessions, lanes FOR KEY SHARE, new objects by id, the ledger, work by number, lanes by
 * number. Claims wait for no lock at all.
 *
 * @module
 */

import { JOINS_BY_INDEX, LOOKS_UP } from "./fragments.ts";

/** `held_until` of a connection that is paused until it is resumed. */
export const FOREVER = Number.MAX_SAFE_INTEGER;

/** How many lanes whose time has come are made ready at one claim: a bound, not a share. */
const PROMOTIONS = 512;

/** The earliest due date among what waits in a lane. */
export function headDue(s: string, lane: string): string {
  return `(SELECT h.due FROM ${s}.work h WHERE h.lane = ${lane} AND h.fence IS NULL AND NOT h.dead ORDER BY h.due LIMIT 1)`;
}

export const laneFunctions = (s: string, channel: string): string => `
-- Something in these lanes is due from then on. Tells idle workers where there was no work before.
CREATE FUNCTION ${s}.wake(p_now bigint, p_lanes bigint[], p_dues bigint[]) RETURNS void LANGUAGE plpgsql ${JOINS_BY_INDEX} AS $$
DECLARE
  v_lanes bigint[];
  v_dues bigint[];
  v_ready boolean;
BEGIN
  IF p_lanes IS NULL THEN RETURN; END IF;
  SELECT array_agg(v.n ORDER BY v.n), array_agg(v.due ORDER BY v.n) INTO v_lanes, v_dues
  FROM (SELECT u.n, min(u.due) AS due FROM unnest(p_lanes, p_dues) u(n, due) GROUP BY u.n) v;
  PERFORM 1 FROM ${s}.lane l WHERE l.n = ANY(v_lanes) ORDER BY l.n FOR KEY SHARE;
  PERFORM 1 FROM unnest(v_lanes, v_dues) v(n, due) CROSS JOIN LATERAL (
    SELECT 1 FROM ${s}.lane l
    WHERE l.n = v.n AND NOT l.ready AND (greatest(v.due, l.held_until) <= p_now OR coalesce(l.due > greatest(v.due, l.held_until), true))
    FOR NO KEY UPDATE) x;
  IF NOT FOUND THEN RETURN; END IF;
  WITH woken AS (
    UPDATE ${s}.lane l
    SET ready = greatest(v.due, l.held_until) <= p_now,
      due = CASE WHEN greatest(v.due, l.held_until) > p_now THEN greatest(v.due, l.held_until) END
    FROM unnest(v_lanes, v_dues) v(n, due)
    WHERE l.n = v.n AND NOT l.ready AND (greatest(v.due, l.held_until) <= p_now OR coalesce(l.due > greatest(v.due, l.held_until), true))
    RETURNING l.ready
  ) SELECT bool_or(w.ready) INTO v_ready FROM woken w;
  IF v_ready THEN PERFORM pg_notify('${channel}', ''); END IF;
END $$;

-- Lanes of a route whose time has come.
CREATE FUNCTION ${s}.promote(p_now bigint, p_provider text, p_resource text) RETURNS void LANGUAGE plpgsql ${LOOKS_UP} AS $$
DECLARE
  v_lanes bigint[] := ARRAY(
    SELECT l.n FROM ${s}.lane l WHERE l.provider = p_provider AND l.resource = p_resource AND l.due <= p_now
    ORDER BY l.due LIMIT ${PROMOTIONS} FOR NO KEY UPDATE SKIP LOCKED);
BEGIN
  IF v_lanes <> '{}' THEN
    UPDATE ${s}.lane l SET ready = true, due = NULL WHERE l.n = ANY(v_lanes) AND l.due <= p_now;
  END IF;
END $$;

-- Puts right what lanes say that gave less than they were asked for. Returns how many it could not look at, because
-- somebody is just adding to them.
CREATE FUNCTION ${s}.settle_lanes(p_now bigint, p_lanes bigint[]) RETURNS integer LANGUAGE plpgsql ${JOINS_BY_INDEX} AS $$
DECLARE
  v_lanes bigint[] := ARRAY(SELECT l.n FROM ${s}.lane l WHERE l.n = ANY(p_lanes) ORDER BY l.n FOR UPDATE SKIP LOCKED);
BEGIN
  UPDATE ${s}.lane l SET ready = false, due = CASE WHEN h.due IS NOT NULL THEN greatest(h.due, l.held_until) END
  FROM (SELECT x.n, ${headDue(s, "x.n")} AS due FROM unnest(v_lanes) x(n) OFFSET 0) h
  WHERE l.n = h.n AND l.ready AND coalesce(h.due > p_now, true);
  RETURN cardinality(p_lanes) - cardinality(v_lanes);
END $$;

-- Numbers of scopes, created with their lanes where they are missing; for who holds a lock, only while it is held.
CREATE FUNCTION ${s}.demand_scopes(p_provider text[], p_connection text[], p_resource text[], p_lock text, p_lock_fence bigint)
RETURNS TABLE (place bigint, n bigint) LANGUAGE plpgsql AS $$
DECLARE
  v record;
BEGIN
  FOR v IN SELECT DISTINCT u.p, u.c FROM unnest(p_provider, p_connection) u(p, c) ORDER BY 1, 2 LOOP
    PERFORM ${s}.alone(v.p, v.c); -- so that a pause at the same moment holds the new lanes too
  END LOOP;
  IF p_lock IS NOT NULL THEN PERFORM ${s}.require_lock(p_lock, p_lock_fence); END IF;
  WITH added AS (
    INSERT INTO ${s}.scope (provider, connection, resource)
    SELECT DISTINCT u.p, u.c, u.r FROM unnest(p_provider, p_connection, p_resource) u(p, c, r)
    ON CONFLICT DO NOTHING RETURNING scope.n, scope.provider, scope.connection, scope.resource
  )
  INSERT INTO ${s}.lane (n, provider, connection, resource, repair, held_until)
  SELECT 2 * a.n + k.kind, a.provider, a.connection, a.resource, k.kind = 1,
    coalesce((SELECT coalesce(q.until, ${FOREVER}) FROM ${s}.pause q WHERE q.provider = a.provider AND q.connection = a.connection), 0)
  FROM added a CROSS JOIN (VALUES (0), (1)) k(kind);
  RETURN QUERY
    SELECT u.place, (SELECT c.n FROM ${s}.scope c WHERE c.provider = u.p AND c.connection = u.c AND c.resource = u.r AND NOT c.forgotten)
    FROM unnest(p_provider, p_connection, p_resource) WITH ORDINALITY u(p, c, r, place);
END $$;

-- One at a time changes which lanes of a connection there are, and whether they are held.
CREATE FUNCTION ${s}.alone(p_provider text, p_connection text) RETURNS void LANGUAGE sql AS $$
  SELECT pg_advisory_xact_lock(hashtextextended('${channel}' || length(p_provider) || p_provider || p_connection, 0))
$$;

CREATE FUNCTION ${s}.pause_connection(p_now bigint, p_provider text, p_connection text, p_delay bigint, p_reason text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_now bigint := ${s}.moment(p_now);
  v_until bigint := v_now + p_delay; -- NULL: until resumed
  v_held bigint := coalesce(v_until, ${FOREVER});
BEGIN
  PERFORM ${s}.alone(p_provider, p_connection);
  PERFORM 1 FROM ${s}.pause q WHERE q.provider = p_provider AND q.connection = p_connection
    AND (q.until IS NULL OR (q.until > v_now AND v_until < q.until));
  IF FOUND THEN RETURN; END IF;
  INSERT INTO ${s}.pause VALUES (p_provider, p_connection, v_until, p_reason)
  ON CONFLICT (provider, connection) DO UPDATE SET until = v_until, reason = p_reason;
  PERFORM 1 FROM ${s}.lane l WHERE l.provider = p_provider AND l.connection = p_connection ORDER BY l.n FOR NO KEY UPDATE;
  UPDATE ${s}.lane l SET held_until = v_held, ready = false,
    due = CASE WHEN l.ready THEN v_held WHEN l.due IS NOT NULL THEN greatest(l.due, v_held) END
  WHERE l.provider = p_provider AND l.connection = p_connection;
END $$;

CREATE FUNCTION ${s}.resume_connection(p_provider text, p_connection text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM ${s}.alone(p_provider, p_connection);
  DELETE FROM ${s}.pause q WHERE q.provider = p_provider AND q.connection = p_connection;
  PERFORM 1 FROM ${s}.lane l WHERE l.provider = p_provider AND l.connection = p_connection ORDER BY l.n FOR NO KEY UPDATE;
  -- Ready, without a look at what waits in them: the next claim finds out.
  UPDATE ${s}.lane l SET held_until = 0, ready = true, due = NULL
  WHERE l.provider = p_provider AND l.connection = p_connection AND (l.held_until > 0 OR l.due IS NOT NULL);
  PERFORM pg_notify('${channel}', '');
END $$;

-- When the next object of a route is due that waits and is not held; see Store.nextDue. What lanes say is checked.
CREATE FUNCTION ${s}.next_due(p_now bigint, p_provider text, p_resource text) RETURNS bigint LANGUAGE plpgsql ${LOOKS_UP} AS $$
DECLARE
  v_now bigint := ${s}.moment(p_now);
  v record;
  v_head bigint;
  v_best bigint;
BEGIN
  FOR v IN SELECT l.n FROM ${s}.lane l WHERE l.provider = p_provider AND l.resource = p_resource AND NOT l.repair AND l.ready
    UNION ALL SELECT l.n FROM ${s}.lane l WHERE l.provider = p_provider AND l.resource = p_resource AND l.repair AND l.ready
  LOOP
    v_head := ${headDue(s, "v.n")};
    IF v_head <= v_now THEN RETURN v_head; END IF;
    v_best := least(v_best, v_head);
  END LOOP;
  FOR v IN SELECT l.n, l.due, l.held_until FROM ${s}.lane l
    WHERE l.provider = p_provider AND l.resource = p_resource AND l.due < ${FOREVER} ORDER BY l.due
  LOOP
    EXIT WHEN v.due >= v_best;
    v_best := least(v_best, greatest(${headDue(s, "v.n")}, CASE WHEN ${headDue(s, "v.n")} IS NOT NULL THEN v.held_until END));
  END LOOP;
  RETURN v_best;
END $$;
`;
