/**
 * The tables of schema version 1.
 *
 * Numbers are bigints, moments are milliseconds since the epoch by the store's own time, and whatever is small and meant
 * for people is text: psql is a good enough inspector.
 *
 * @module
 */

/** @param s the schema, quoted */
export const tables = (s: string): string => `
-- The one logical clock. Its values may be skipped, but never come twice.
CREATE SEQUENCE ${s}.counter;

-- Who works. lost: its leases are being taken from it, and it may take no more.
CREATE TABLE ${s}.session (
  n          bigint PRIMARY KEY,
  lease_ms   bigint NOT NULL,
  expires_at bigint NOT NULL,
  lost       boolean NOT NULL DEFAULT false
);

CREATE TABLE ${s}.scope (
  n          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  provider   text COLLATE "C" NOT NULL,
  connection text COLLATE "C" NOT NULL,
  resource   text COLLATE "C" NOT NULL,
  present    bigint NOT NULL DEFAULT 0,       -- with what present_change adds: objects that the index holds as present
  last_error text,
  forgotten  boolean NOT NULL DEFAULT false   -- invisible, and swept away bit by bit
);
CREATE UNIQUE INDEX scope_key ON ${s}.scope (provider, connection, resource) WHERE NOT forgotten;

-- Rows that are only added, so that settlements of one scope do not wait for each other; sweeping adds them up.
CREATE TABLE ${s}.present_change (scope bigint NOT NULL, change bigint NOT NULL);

-- Two lanes a scope: n = 2 * scope for live work, n = 2 * scope + 1 for repair work. What ready and due say may be too
-- early, never too late: a claim that finds nothing puts it right.
CREATE TABLE ${s}.lane (
  n          bigint PRIMARY KEY,
  provider   text COLLATE "C" NOT NULL,
  connection text COLLATE "C" NOT NULL,
  resource   text COLLATE "C" NOT NULL,
  repair     boolean NOT NULL,
  ready      boolean NOT NULL DEFAULT false,  -- there is work now
  due        bigint,                          -- when it is ready again; NULL: it is, or has no work
  held_until bigint NOT NULL DEFAULT 0        -- the pause of its connection
) WITH (fillfactor = 50);
CREATE INDEX lane_ready ON ${s}.lane (provider, resource, repair, n) WHERE ready;
CREATE INDEX lane_due ON ${s}.lane (provider, resource, due) WHERE due IS NOT NULL;
CREATE INDEX lane_connection ON ${s}.lane (provider, connection);

-- What is known of each object, written when its work is done: a row is born short and grows once, and where its page
-- has room for that, no index is written again.
CREATE TABLE ${s}.object (
  n          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  scope      bigint NOT NULL,
  id         text COLLATE "C" NOT NULL,
  state      text,                            -- 'present', 'gone', or NULL: the index does not know it
  version    text,
  hash       text,
  row_hash   text,
  revision   bigint,
  evidence   bigint,
  touched    bigint NOT NULL DEFAULT 0,       -- counter when its last work was done
  not_before bigint,
  begun      boolean NOT NULL DEFAULT false,  -- a handler may have begun of whose work nothing is left
  emptied_at bigint,                          -- since when the row holds nothing, for sweeping
  UNIQUE (scope, id)
) WITH (fillfactor = 35);
CREATE INDEX object_empty ON ${s}.object (emptied_at) WHERE emptied_at IS NOT NULL;

-- The dirty index: a narrow row for each object that waits, is leased (fence is set) or is dead; none for the others.
-- since_*: what was appended under the lease. It becomes the object's fresh work, or joins what there is if the claim is
-- not brought to an end.
CREATE TABLE ${s}.work (
  n             bigint PRIMARY KEY,           -- the object
  lane          bigint NOT NULL,
  due           bigint NOT NULL,
  dirty_since   bigint NOT NULL,
  generation    bigint NOT NULL,              -- counter at the last append
  touched       bigint NOT NULL DEFAULT 0,    -- counter at the last settling or voided lease
  session       bigint,
  fence         bigint,
  attempts      integer NOT NULL DEFAULT 0,   -- without the one that an open lease stands for
  lags          integer NOT NULL DEFAULT 0,
  begun         boolean NOT NULL DEFAULT false,
  forced        boolean NOT NULL DEFAULT false,
  dead          boolean NOT NULL DEFAULT false,
  origin        text NOT NULL,
  hint          text,
  hint_version  text,
  hint_order    text COLLATE "C",
  event_count   bigint NOT NULL DEFAULT 0,
  error         text,
  since         bigint,                       -- when the first of these appends came; NULL: none did
  since_origin  text,
  since_hint    text,
  since_version text,
  since_order   text COLLATE "C",
  since_forced  boolean NOT NULL DEFAULT false,
  since_count   bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX work_waiting ON ${s}.work (lane, due) WHERE fence IS NULL AND NOT dead;
CREATE INDEX work_leased ON ${s}.work (session) WHERE fence IS NOT NULL;
CREATE INDEX work_dead ON ${s}.work (n) WHERE dead;

-- seq is the generation of the append.
CREATE TABLE ${s}.event (
  object bigint NOT NULL,
  seq    bigint NOT NULL,
  at     bigint NOT NULL,
  body   text NOT NULL,
  PRIMARY KEY (object, seq)
);
CREATE INDEX event_at ON ${s}.event USING brin (at);

-- By object, so that keys, which are random, do not each dirty a page of their own.
CREATE TABLE ${s}.ledger (object bigint NOT NULL, key uuid NOT NULL, at bigint NOT NULL, PRIMARY KEY (object, key));
CREATE INDEX ledger_at ON ${s}.ledger USING brin (at);

-- What passes over lists have seen: a row a page.
CREATE TABLE ${s}.pass_page (
  scope   bigint NOT NULL,
  pass    text COLLATE "C" NOT NULL,
  page    bigint GENERATED ALWAYS AS IDENTITY,
  objects bigint[] NOT NULL,
  PRIMARY KEY (scope, pass, page)
);

CREATE TABLE ${s}.checkpoint (key text COLLATE "C" PRIMARY KEY, value text NOT NULL);
CREATE TABLE ${s}.lock (name text COLLATE "C" PRIMARY KEY, fence bigint NOT NULL, expires_at bigint NOT NULL);
CREATE TABLE ${s}.pause (
  provider   text COLLATE "C" NOT NULL,
  connection text COLLATE "C" NOT NULL,
  until      bigint,                          -- NULL: until resumed
  reason     text NOT NULL,
  PRIMARY KEY (provider, connection)
);

-- When permits were given out that still count, how many, and for how long they count.
CREATE TABLE ${s}.permit (
  provider   text COLLATE "C" NOT NULL,
  connection text COLLATE "C" NOT NULL,
  at         bigint[] NOT NULL,
  given      bigint[] NOT NULL,
  span       bigint[] NOT NULL,
  PRIMARY KEY (provider, connection)
);

-- The moment of a call: given by a clock that is not the system's (a test's), else the server's own.
CREATE FUNCTION ${s}.moment(given bigint) RETURNS bigint LANGUAGE sql VOLATILE AS $$
  SELECT coalesce(given, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)
$$;
`;
