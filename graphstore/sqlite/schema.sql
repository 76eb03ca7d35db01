-- The schema, one section for each version of it; `PRAGMA user_version` says how many have been
-- applied. A section is never edited once released: changes are appended as a new one.
--
-- Rows name each other by small integers, so that traces lie together and walks are cheap. Every
-- domain field is a column of its own; only lists of digests and labels are JSON. `namespace`
-- is a column wherever a key is looked up by name; what hangs below inherits it.

-- version: 1
CREATE TABLE namespace (
    rid INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

-- Payloads. codec 0: the bytes themselves, 1: zlib.
CREATE TABLE value (
    rid INTEGER PRIMARY KEY,
    ns INTEGER NOT NULL REFERENCES namespace,
    digest TEXT NOT NULL,
    codec INTEGER NOT NULL,
    data BLOB NOT NULL,
    UNIQUE (ns, digest)
);

-- current 0: never observed. present: the current version has a document.
CREATE TABLE resource (
    rid INTEGER PRIMARY KEY,
    ns INTEGER NOT NULL REFERENCES namespace,
    uri TEXT NOT NULL,
    current INTEGER NOT NULL DEFAULT 0,
    present INTEGER NOT NULL DEFAULT 0,
    until INTEGER,
    UNIQUE (ns, uri)
);

-- document and fingerprint NULL: withdrawn.
CREATE TABLE version (
    resource INTEGER NOT NULL REFERENCES resource,
    n INTEGER NOT NULL,
    document TEXT,
    fingerprint TEXT,
    at INTEGER NOT NULL,
    PRIMARY KEY (resource, n)
) WITHOUT ROWID;

-- selector NULL: the whole.
CREATE TABLE facet (
    rid INTEGER PRIMARY KEY,
    ns INTEGER NOT NULL REFERENCES namespace,
    key TEXT NOT NULL,
    resource INTEGER NOT NULL REFERENCES resource,
    selector TEXT,
    UNIQUE (ns, key)
);
CREATE INDEX facet_of_resource ON facet (resource, selector);

CREATE TABLE precondition (
    rid INTEGER PRIMARY KEY,
    ns INTEGER NOT NULL REFERENCES namespace,
    id TEXT NOT NULL,
    facet INTEGER NOT NULL REFERENCES facet,
    fingerprint TEXT NOT NULL,
    UNIQUE (ns, id)
);
CREATE INDEX precondition_of_facet ON precondition (facet);

-- HOLDS: a version holds one precondition of each of its resource's facets.
CREATE TABLE holds (
    facet INTEGER NOT NULL REFERENCES facet,
    n INTEGER NOT NULL,
    precondition INTEGER NOT NULL REFERENCES precondition,
    PRIMARY KEY (facet, n)
) WITHOUT ROWID;

CREATE TABLE change_event (
    rid INTEGER PRIMARY KEY,
    ns INTEGER NOT NULL REFERENCES namespace,
    id TEXT NOT NULL,
    resource INTEGER NOT NULL REFERENCES resource,
    from_version INTEGER NOT NULL,
    to_version INTEGER NOT NULL,
    withdrawn INTEGER NOT NULL,
    source TEXT NOT NULL,
    at INTEGER NOT NULL,
    UNIQUE (ns, id)
);
CREATE INDEX change_event_by_time ON change_event (ns, rid);
CREATE INDEX change_event_of_resource ON change_event (resource, rid);

-- CHANGED: before or after NULL where no readable version was.
CREATE TABLE changed (
    event INTEGER NOT NULL REFERENCES change_event,
    facet INTEGER NOT NULL REFERENCES facet,
    before TEXT,
    after TEXT,
    PRIMARY KEY (event, facet)
) WITHOUT ROWID;

CREATE TABLE task (
    rid INTEGER PRIMARY KEY,
    ns INTEGER NOT NULL REFERENCES namespace,
    key TEXT NOT NULL,
    agent TEXT NOT NULL,
    inputs TEXT NOT NULL,
    context TEXT,
    UNIQUE (ns, key)
);

-- task NULL: begun by an effect and not written yet. decided_at: when it was published, or found
-- equal to another trace (equal_to), or refused; it is decided once.
CREATE TABLE execution (
    rid INTEGER PRIMARY KEY,
    ns INTEGER NOT NULL REFERENCES namespace,
    id TEXT NOT NULL,
    state TEXT NOT NULL,
    task INTEGER REFERENCES task,
    agent TEXT NOT NULL,
    mode TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    duration_ms REAL NOT NULL DEFAULT 0,
    steps INTEGER NOT NULL DEFAULT 0,
    published_steps INTEGER NOT NULL DEFAULT 0,
    manifest TEXT,
    signature TEXT,
    replayed TEXT,
    output TEXT,
    input_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0,
    cache_creation_input_tokens INTEGER NOT NULL DEFAULT 0,
    cache_read_input_tokens INTEGER NOT NULL DEFAULT 0,
    saved_tokens INTEGER NOT NULL DEFAULT 0,
    cost REAL,
    labels TEXT NOT NULL DEFAULT '{}',
    reason TEXT,
    decided_at INTEGER,
    equal_to TEXT,
    UNIQUE (ns, id)
);
CREATE INDEX trace ON execution (task, started_at, id) WHERE state = 'published';

-- input_tokens NULL: no usage. messages: a JSON list of digests.
CREATE TABLE step (
    execution INTEGER NOT NULL REFERENCES execution,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    key TEXT NOT NULL,
    occurrence INTEGER NOT NULL,
    code_key TEXT NOT NULL,
    output TEXT NOT NULL,
    output_key TEXT NOT NULL,
    error INTEGER NOT NULL,
    duration_ms REAL NOT NULL,
    head TEXT,
    extends INTEGER,
    shared INTEGER NOT NULL,
    messages TEXT NOT NULL,
    input_tokens INTEGER,
    output_tokens INTEGER,
    cache_creation_input_tokens INTEGER,
    cache_read_input_tokens INTEGER,
    effect TEXT,
    arguments TEXT,
    decision INTEGER,
    call INTEGER,
    PRIMARY KEY (execution, position)
) WITHOUT ROWID;

-- GUARDS, from a step to what it rests on, and back for the walk.
CREATE TABLE guard (
    execution INTEGER NOT NULL REFERENCES execution,
    position INTEGER NOT NULL,
    precondition INTEGER NOT NULL REFERENCES precondition,
    PRIMARY KEY (execution, position, precondition)
) WITHOUT ROWID;
CREATE INDEX guarded_step ON guard (precondition, execution, position);

-- FEEDS, downstream: its fingerprint is the output_key of the step it starts from.
CREATE TABLE feeds (
    execution INTEGER NOT NULL REFERENCES execution,
    source INTEGER NOT NULL,
    target INTEGER NOT NULL,
    PRIMARY KEY (execution, source, target),
    CONSTRAINT edges_go_from_a_lower_to_a_higher_position CHECK (source < target)
) WITHOUT ROWID;

-- PERFORMED is the execution; step: the id of the step that CAUSED it.
CREATE TABLE side_effect (
    rid INTEGER PRIMARY KEY,
    ns INTEGER NOT NULL REFERENCES namespace,
    id TEXT NOT NULL,
    execution INTEGER NOT NULL REFERENCES execution,
    tool TEXT NOT NULL,
    target TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    state TEXT NOT NULL,
    begun_at INTEGER NOT NULL,
    step TEXT,
    UNIQUE (ns, id)
);
CREATE INDEX side_effect_of_execution ON side_effect (execution, begun_at);

-- version: 2
-- What happened to the resource; an expiry is an event too.
ALTER TABLE change_event ADD COLUMN kind TEXT NOT NULL DEFAULT 'changed';
UPDATE change_event SET kind = 'withdrawn' WHERE withdrawn;
ALTER TABLE change_event DROP COLUMN withdrawn;
CREATE INDEX change_event_at ON change_event (ns, at);

-- expired: an event says that `until` has passed.
ALTER TABLE resource ADD COLUMN expired INTEGER NOT NULL DEFAULT 0;
CREATE INDEX believed_until ON resource (ns, until)
WHERE until IS NOT NULL AND present AND NOT expired;

CREATE TABLE lease (
    ns INTEGER NOT NULL REFERENCES namespace,
    name TEXT NOT NULL,
    owner TEXT NOT NULL,
    given INTEGER NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (ns, name)
) WITHOUT ROWID;

-- miss: a JSON list of kinds. report: the digest of a value.
ALTER TABLE execution ADD COLUMN miss TEXT NOT NULL DEFAULT '[]';
ALTER TABLE execution ADD COLUMN report TEXT;
CREATE INDEX execution_by_time ON execution (ns, started_at, id);

-- Marks: the steps that are invalid, each with the precondition that says why. Rows of their own,
-- since the wide ones of `step` would be written anew at each change; and FEEDS, upstream.
CREATE TABLE mark (
    execution INTEGER NOT NULL REFERENCES execution,
    position INTEGER NOT NULL,
    invalidated_by INTEGER NOT NULL REFERENCES precondition,
    PRIMARY KEY (execution, position)
) WITHOUT ROWID;
CREATE INDEX fed_step ON feeds (execution, target);

-- A walk is of an event or of an execution; cursor: the rid of the last execution looked at.
CREATE TABLE walk (
    rid INTEGER PRIMARY KEY,
    ns INTEGER NOT NULL REFERENCES namespace,
    event INTEGER UNIQUE REFERENCES change_event,
    execution INTEGER UNIQUE REFERENCES execution,
    at INTEGER NOT NULL,
    cursor INTEGER NOT NULL DEFAULT 0,
    marked INTEGER NOT NULL DEFAULT 0,
    cleared INTEGER NOT NULL DEFAULT 0,
    visited INTEGER NOT NULL DEFAULT 0,
    ended_at INTEGER
);
CREATE INDEX open_walk ON walk (ns, rid) WHERE ended_at IS NULL;

-- Nothing was marked before this version.
INSERT INTO walk (ns, execution, at)
SELECT ns, rid, 0 FROM execution
WHERE state = 'published' AND EXISTS (
    SELECT 1
    FROM guard
    JOIN precondition ON precondition.rid = guard.precondition
    JOIN facet ON facet.rid = precondition.facet
    JOIN resource ON resource.rid = facet.resource
    LEFT JOIN holds ON holds.facet = facet.rid AND holds.n = resource.current
    WHERE guard.execution = execution.rid
        AND (NOT resource.present OR holds.precondition IS NOT precondition.rid)
);

-- version: 3
-- What the executions came to that a collection has deleted. day: 'YYYY-MM-DD', UTC. miss: the
-- JSON list of each of them.
CREATE TABLE daily_totals (
    rid INTEGER PRIMARY KEY,
    ns INTEGER NOT NULL REFERENCES namespace,
    day TEXT NOT NULL,
    agent TEXT NOT NULL,
    mode TEXT NOT NULL,
    state TEXT NOT NULL,
    miss TEXT NOT NULL,
    executions INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cache_creation_input_tokens INTEGER NOT NULL,
    cache_read_input_tokens INTEGER NOT NULL,
    saved_tokens INTEGER NOT NULL,
    cost REAL NOT NULL,
    effects INTEGER NOT NULL,
    UNIQUE (ns, day, agent, mode, state, miss)
);

-- Payloads of which a namer was deleted: perhaps nobody names them. The rid of a suspicion is
-- never given again.
CREATE TABLE suspect (
    rid INTEGER PRIMARY KEY AUTOINCREMENT,
    ns INTEGER NOT NULL REFERENCES namespace,
    value INTEGER NOT NULL UNIQUE REFERENCES value
);
CREATE INDEX suspect_of_namespace ON suspect (ns, rid);

-- The index by `at` gives the same order.
DROP INDEX change_event_by_time;
DROP INDEX open_walk;
CREATE INDEX open_walk ON walk (ns, at, rid) WHERE ended_at IS NULL;

CREATE INDEX execution_of_task ON execution (task, started_at, id, state);
CREATE INDEX unpublished_execution ON execution (ns)
WHERE state = 'unpublished' AND decided_at IS NOT NULL;
CREATE INDEX held_precondition ON holds (precondition);

-- When belief for a time was given: in the future, if the clock was set back since.
ALTER TABLE resource ADD COLUMN since INTEGER;

-- How many changes took something away, and whose count it is: see witness.py.
CREATE TABLE lineage (
    rid INTEGER PRIMARY KEY CHECK (rid = 1),
    id TEXT NOT NULL,
    changes INTEGER NOT NULL
);
INSERT INTO lineage (rid, id, changes) VALUES (1, lower(hex(randomblob(16))), 0);

CREATE INDEX effect_in_doubt ON side_effect (ns, begun_at, rid) WHERE state = 'intended';

-- version: 4
-- When a program's decision was asked, by the clock of versions, and what was new then (JSON).
ALTER TABLE step ADD COLUMN asked_at INTEGER;
ALTER TABLE step ADD COLUMN seen TEXT;

-- What is billed apart; what a decision cost when it was asked; what was asked and served.
-- miss_asked and miss_tokens: JSON lists, of each kind in `miss` the calls and their tokens.
ALTER TABLE execution ADD COLUMN cache_creation_1h_input_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE execution ADD COLUMN web_search_requests INTEGER NOT NULL DEFAULT 0;
ALTER TABLE execution ADD COLUMN asked INTEGER NOT NULL DEFAULT 0;
ALTER TABLE execution ADD COLUMN served INTEGER NOT NULL DEFAULT 0;
ALTER TABLE execution ADD COLUMN saved_cost REAL;
ALTER TABLE execution ADD COLUMN miss_asked TEXT NOT NULL DEFAULT '[]';
ALTER TABLE execution ADD COLUMN miss_tokens TEXT NOT NULL DEFAULT '[]';
ALTER TABLE step ADD COLUMN cache_creation_1h_input_tokens INTEGER;
ALTER TABLE step ADD COLUMN web_search_requests INTEGER;
ALTER TABLE step ADD COLUMN cost REAL;
ALTER TABLE daily_totals ADD COLUMN cache_creation_1h_input_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE daily_totals ADD COLUMN web_search_requests INTEGER NOT NULL DEFAULT 0;
ALTER TABLE daily_totals ADD COLUMN asked INTEGER NOT NULL DEFAULT 0;
ALTER TABLE daily_totals ADD COLUMN served INTEGER NOT NULL DEFAULT 0;
ALTER TABLE daily_totals ADD COLUMN saved_cost REAL NOT NULL DEFAULT 0.0;
-- How many of the executions have a cost, or a saved one, that is not known.
ALTER TABLE daily_totals ADD COLUMN unpriced INTEGER NOT NULL DEFAULT 0;
ALTER TABLE daily_totals ADD COLUMN saved_unpriced INTEGER NOT NULL DEFAULT 0;
ALTER TABLE daily_totals ADD COLUMN miss_asked TEXT NOT NULL DEFAULT '[]';
ALTER TABLE daily_totals ADD COLUMN miss_tokens TEXT NOT NULL DEFAULT '[]';

UPDATE step SET cache_creation_1h_input_tokens = 0, web_search_requests = 0
WHERE input_tokens IS NOT NULL;

-- Of earlier runs it is not told which cause made them ask: all is put down to the first.
UPDATE execution SET
    miss_asked = (SELECT json_group_array(0) FROM json_each(miss)),
    miss_tokens = (
        SELECT json_group_array(iif(key = 0, input_tokens + output_tokens
            + cache_creation_input_tokens + cache_read_input_tokens, 0))
        FROM json_each(miss)
    )
WHERE miss <> '[]';
UPDATE daily_totals SET
    miss_asked = (SELECT json_group_array(0) FROM json_each(miss)),
    miss_tokens = (
        SELECT json_group_array(iif(key = 0, input_tokens + output_tokens
            + cache_creation_input_tokens + cache_read_input_tokens, 0))
        FROM json_each(miss)
    )
WHERE miss <> '[]';

-- What was given in the future, if the clock was set back since.
CREATE INDEX believed_since ON resource (ns, since)
WHERE since IS NOT NULL AND present AND NOT expired;

-- version: 5
-- What belongs to a row goes with it. Triggers and no ON DELETE CASCADE: the references of older
-- sections cannot be altered without writing each table anew.
--
-- An execution that has only begun is replaced under its rid, and keeps its effects.
CREATE TRIGGER execution_goes AFTER DELETE ON execution WHEN old.task IS NOT NULL
BEGIN
    DELETE FROM mark WHERE execution = old.rid;
    DELETE FROM walk WHERE execution = old.rid;
    DELETE FROM guard WHERE execution = old.rid;
    DELETE FROM feeds WHERE execution = old.rid;
    DELETE FROM step WHERE execution = old.rid;
    DELETE FROM side_effect WHERE execution = old.rid;
END;

CREATE TRIGGER change_event_goes AFTER DELETE ON change_event
BEGIN
    DELETE FROM changed WHERE event = old.rid;
    DELETE FROM walk WHERE event = old.rid;
END;

CREATE TRIGGER version_goes AFTER DELETE ON version
BEGIN
    DELETE FROM holds
    WHERE n = old.n AND facet IN (SELECT rid FROM facet WHERE resource = old.resource);
END;

-- With its last facet goes a resource that was never observed.
CREATE TRIGGER facet_goes AFTER DELETE ON facet
BEGIN
    DELETE FROM holds WHERE facet = old.rid;
    DELETE FROM precondition WHERE facet = old.rid;
    DELETE FROM changed
    WHERE facet = old.rid AND event IN (SELECT rid FROM change_event WHERE resource = old.resource);
    DELETE FROM resource
    WHERE rid = old.resource AND current = 0
        AND NOT EXISTS (SELECT 1 FROM facet WHERE facet.resource = old.resource);
END;

CREATE TRIGGER value_goes AFTER DELETE ON value
BEGIN
    DELETE FROM suspect WHERE value = old.rid;
END;

-- When the model was asked, or the tool began: milliseconds since 1970.
ALTER TABLE step ADD COLUMN started_at INTEGER;

-- The leases that the owner of this one waits for: a JSON list of names.
ALTER TABLE lease ADD COLUMN waits_for TEXT NOT NULL DEFAULT '[]';

-- When a trace was used last; and what was unpublished of a task.
CREATE INDEX use_of_trace ON execution (replayed, started_at) WHERE replayed IS NOT NULL;
DROP INDEX unpublished_execution;
CREATE INDEX unpublished_execution ON execution (task)
WHERE state = 'unpublished' AND decided_at IS NOT NULL;

-- What is performed at most once: by what it is known, the fingerprint of its real arguments, and
-- what it gave. And of each effect the process that began it.
ALTER TABLE side_effect ADD COLUMN once TEXT;
ALTER TABLE side_effect ADD COLUMN arguments_key TEXT;
ALTER TABLE side_effect ADD COLUMN output_text TEXT;
ALTER TABLE side_effect ADD COLUMN process TEXT;
CREATE UNIQUE INDEX effect_once ON side_effect (ns, once) WHERE once IS NOT NULL;

-- What runs that have not ended have decided. execution: its id, since it may not be written yet.
CREATE TABLE journal (
    rid INTEGER PRIMARY KEY,
    ns INTEGER NOT NULL REFERENCES namespace,
    task TEXT NOT NULL,
    execution TEXT NOT NULL,
    number INTEGER NOT NULL,
    at INTEGER NOT NULL,
    entry BLOB NOT NULL,
    wish TEXT,
    UNIQUE (ns, execution, number)
);
CREATE INDEX journal_of_task ON journal (ns, task, at);
CREATE INDEX journal_of_wish ON journal (ns, wish, at) WHERE wish IS NOT NULL;
CREATE INDEX journal_by_age ON journal (ns, at);

-- What callers want done, and the run that holds it. at: when that was last heard of.
CREATE TABLE wish (
    rid INTEGER PRIMARY KEY,
    ns INTEGER NOT NULL REFERENCES namespace,
    key TEXT NOT NULL,
    task TEXT NOT NULL,
    execution TEXT NOT NULL,
    process TEXT,
    run_id TEXT,
    idempotency TEXT,
    state TEXT NOT NULL,
    result TEXT,
    at INTEGER NOT NULL,
    UNIQUE (ns, key)
);
CREATE INDEX open_wish ON wish (ns, task, at) WHERE state <> 'done';
CREATE INDEX wish_of_execution ON wish (ns, execution);
CREATE INDEX wish_by_age ON wish (ns, at);
ALTER TABLE side_effect ADD COLUMN wish TEXT;
CREATE INDEX effect_of_wish ON side_effect (ns, wish, begun_at) WHERE wish IS NOT NULL;

-- What carries out an execution that has not ended.
ALTER TABLE execution ADD COLUMN process TEXT;

-- The newest executions of an agent, among however many others.
CREATE INDEX execution_of_agent ON execution (ns, agent, started_at, id);

-- What waits to be approved, and what is never to be a trace. equal_to of a rejected one: the run
-- that was rejected, and whose answer it has; NULL: it was rejected itself.
CREATE INDEX unapproved_execution ON execution (task, started_at, id) WHERE state = 'unapproved';
CREATE INDEX rejected_execution ON execution (task) WHERE state = 'rejected';
CREATE INDEX execution_of_state ON execution (ns, state, started_at, id);
CREATE INDEX execution_of_mode ON execution (ns, mode, started_at, id);

-- Whether one effect may begin: what was asked, and the answer. And which one an effect has used.
CREATE TABLE approval (
    rid INTEGER PRIMARY KEY,
    ns INTEGER NOT NULL REFERENCES namespace,
    id TEXT NOT NULL,
    digest TEXT NOT NULL,
    execution TEXT NOT NULL,
    agent TEXT NOT NULL,
    task TEXT NOT NULL,
    tool TEXT NOT NULL,
    code_key TEXT NOT NULL,
    arguments TEXT NOT NULL,
    arguments_key TEXT NOT NULL,
    facts TEXT NOT NULL,
    why TEXT NOT NULL,
    state TEXT NOT NULL,
    requested_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    answered_at INTEGER,
    by TEXT,
    reason TEXT,
    heard_by TEXT,
    effect TEXT,
    UNIQUE (ns, id)
);
CREATE INDEX unused_approval ON approval (ns, digest) WHERE state <> 'used';
CREATE INDEX approval_of_call ON approval (ns, task, tool, requested_at);
CREATE INDEX pending_approval ON approval (ns, requested_at) WHERE state = 'pending';
ALTER TABLE side_effect ADD COLUMN approval TEXT;
ALTER TABLE side_effect ADD COLUMN approved_by TEXT;
