/**
 * Sessions, their leases, and what becomes of leases when nobody settles them.
 *
 * @module
 */

import { JOINS_BY_INDEX, raise, rejoined } from "./fragments.ts";

/** First and longest spread of objects whose lease was lost a second time or more. */
const SPREAD_BASE_MS = 1_000;
const SPREAD_MAX_MS = 60_000;

export const leaseFunctions = (s: string): string => `
-- Voids leases of a session: those of one that gives them up are due at once, and theirs was no attempt. After a crash it
-- was one; and since the object may be what kills the process, one that was under way at a crash before comes back alone,
-- at a moment of its own, and takes no innocent ones along again. A handler may have begun in either case. Leases whose
-- settlement is just being written are left alone. Returns how many are left.
CREATE FUNCTION ${s}.void_leases(p_now bigint, p_session bigint, p_died boolean, p_random double precision) RETURNS integer LANGUAGE plpgsql ${JOINS_BY_INDEX} AS $$
DECLARE
  v_n bigint[] := ARRAY(SELECT w.n FROM ${s}.work w WHERE w.session = p_session AND w.fence IS NOT NULL ORDER BY w.n FOR UPDATE SKIP LOCKED);
  v_lanes bigint[];
  v_dues bigint[];
BEGIN
  WITH voided AS (
    UPDATE ${s}.work w SET
      touched = nextval('${s}.counter'),
      attempts = w.attempts + p_died::integer,
      begun = true,
      due = p_now + CASE WHEN p_died AND w.attempts >= 1
        THEN floor(mod((p_random + w.n * 0.6180339887)::numeric, 1) * least(${SPREAD_MAX_MS}, ${SPREAD_BASE_MS} * 2 ^ least(w.attempts + 1, 16)))::bigint ELSE 0 END,
      ${rejoined("w")}
    WHERE w.n = ANY(v_n) RETURNING w.lane, w.due
  ) SELECT array_agg(v.lane), array_agg(v.due) INTO v_lanes, v_dues FROM voided v;
  PERFORM ${s}.wake(p_now, v_lanes, v_dues);
  RETURN (SELECT count(*) FROM ${s}.work w WHERE w.session = p_session AND w.fence IS NOT NULL);
END $$;

-- Takes the leases of sessions that have given no sign of life. Returns how many sessions it found so.
CREATE FUNCTION ${s}.take_over(p_now bigint, p_but bigint, p_random double precision) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
  v record;
  v_found integer := 0;
BEGIN
  IF NOT EXISTS (SELECT FROM ${s}.session e WHERE (e.expires_at <= p_now OR e.lost) AND e.n <> p_but) THEN RETURN 0; END IF;
  FOR v IN SELECT e.n, e.lost FROM ${s}.session e WHERE (e.expires_at <= p_now OR e.lost) AND e.n <> p_but ORDER BY e.n FOR UPDATE SKIP LOCKED LOOP
    v_found := v_found + (NOT v.lost)::integer;
    IF ${s}.void_leases(p_now, v.n, true, p_random) = 0 THEN DELETE FROM ${s}.session e WHERE e.n = v.n;
    ELSE UPDATE ${s}.session e SET lost = true WHERE e.n = v.n;
    END IF;
  END LOOP;
  RETURN v_found;
END $$;

CREATE FUNCTION ${s}.begin_session(p_now bigint, p_lease_ms bigint, p_random double precision, OUT session bigint, OUT taken_over integer) LANGUAGE plpgsql AS $$
DECLARE
  v_now bigint := ${s}.moment(p_now);
BEGIN
  session := nextval('${s}.counter');
  INSERT INTO ${s}.session (n, lease_ms, expires_at) VALUES (session, p_lease_ms, v_now + p_lease_ms);
  taken_over := ${s}.take_over(v_now, session, p_random);
END $$;

-- NULL: another has taken over.
CREATE FUNCTION ${s}.heartbeat(p_now bigint, p_session bigint, p_random double precision) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
  v_now bigint := ${s}.moment(p_now);
BEGIN
  UPDATE ${s}.session e SET expires_at = v_now + e.lease_ms WHERE e.n = p_session AND NOT e.lost;
  IF NOT FOUND THEN RETURN NULL; END IF;
  RETURN ${s}.take_over(v_now, p_session, p_random);
END $$;

CREATE FUNCTION ${s}.end_session(p_now bigint, p_session bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_now bigint := ${s}.moment(p_now);
BEGIN
  PERFORM 1 FROM ${s}.session e WHERE e.n = p_session AND NOT e.lost FOR UPDATE; -- after the claims under way
  IF NOT FOUND THEN RETURN; END IF;
  IF ${s}.void_leases(v_now, p_session, false, 0) = 0 THEN DELETE FROM ${s}.session e WHERE e.n = p_session;
  ELSE UPDATE ${s}.session e SET lost = true WHERE e.n = p_session;
  END IF;
END $$;

-- Goes on under another number, with the leases that are given: the others are unknown to their holder, who was not told.
-- Done once, however often it is asked for.
CREATE FUNCTION ${s}.renew_session(p_now bigint, p_session bigint, p_next bigint, p_n bigint[], p_fence bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM ${s}.session e WHERE e.n = p_next AND NOT e.lost) THEN RETURN; END IF;
  PERFORM 1 FROM ${s}.session e WHERE e.n = p_session AND NOT e.lost FOR UPDATE; -- after the claims under way
  IF NOT FOUND THEN ${raise("sessionLost")}; END IF;
  INSERT INTO ${s}.session (n, lease_ms, expires_at) SELECT p_next, e.lease_ms, e.expires_at FROM ${s}.session e WHERE e.n = p_session;
  PERFORM 1 FROM ${s}.work w WHERE w.session = p_session AND w.fence IS NOT NULL ORDER BY w.n FOR UPDATE;
  UPDATE ${s}.work w SET session = p_next FROM unnest(p_n, p_fence) h(n, fence) WHERE w.session = p_session AND w.n = h.n AND w.fence = h.fence;
  PERFORM ${s}.void_leases(${s}.moment(p_now), p_session, false, 0);
  DELETE FROM ${s}.session e WHERE e.n = p_session;
END $$;

-- Holds the session for the transaction, so that nobody takes it over before what it leases is there to be voided.
CREATE FUNCTION ${s}.require_session(p_session bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM 1 FROM ${s}.session e WHERE e.n = p_session AND NOT e.lost FOR KEY SHARE;
  IF NOT FOUND THEN ${raise("sessionLost")}; END IF;
END $$;

-- Holds the lock for the transaction.
CREATE FUNCTION ${s}.require_lock(p_name text, p_fence bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM 1 FROM ${s}.lock k WHERE k.name = p_name AND k.fence = p_fence FOR SHARE;
  IF NOT FOUND THEN ${raise("lockLost")}; END IF;
END $$;
`;
