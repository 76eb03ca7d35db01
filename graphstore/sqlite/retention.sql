-- The statements of a collection, by name: what there is, in pages, and what belongs to what goes.
-- The rules are in graphstore/retention.py. Executions are told by their ids, since SQLite gives
-- the number of a deleted row again.

-- Listing ------------------------------------------------------------------------------------

-- name: traces
SELECT task.key, trace.id, cast(max(
    trace.started_at + trace.duration_ms, coalesce(use.started_at + use.duration_ms, 0)
) AS INTEGER), use.id
FROM (
    SELECT rid, key FROM task WHERE ns = :ns AND key > :after ORDER BY key LIMIT :most
) AS task
LEFT JOIN execution AS trace ON trace.task = task.rid AND trace.state = 'published'
LEFT JOIN execution AS use ON use.rid = (
    SELECT rid FROM execution AS it INDEXED BY use_of_trace
    WHERE it.replayed = trace.id AND it.task = trace.task
    ORDER BY it.started_at DESC, it.id DESC LIMIT 1
)
ORDER BY task.key, trace.started_at DESC, trace.id DESC;

-- name: histories
SELECT task.key, edge.started_at, edge.id, (
    SELECT it.started_at FROM execution AS it
    WHERE it.task = task.rid
        AND (
            it.state IN ('unpublished', 'failed', 'unapproved')
            OR it.state = 'rejected' AND it.equal_to IS NOT NULL
            OR it.id IN (SELECT value FROM json_each(:going))
        )
    ORDER BY it.started_at LIMIT 1
), EXISTS (
    SELECT 1 FROM execution AS it
    WHERE it.task = task.rid AND it.state = 'unpublished' AND it.decided_at IS NOT NULL
        AND it.reason IN (SELECT value FROM json_each(:reasons))
)
FROM json_each(:tasks) AS wanted
CROSS JOIN task ON task.ns = :ns AND task.key = wanted.value
LEFT JOIN execution AS edge ON edge.rid = (
    SELECT it.rid FROM execution AS it
    WHERE it.task = task.rid
        AND (
            it.state IN ('unpublished', 'failed', 'unapproved')
            OR it.state = 'rejected' AND it.equal_to IS NOT NULL
            OR it.id IN (SELECT value FROM json_each(:going))
        )
    ORDER BY it.started_at DESC, it.id DESC LIMIT 1 OFFSET :kept - 1
);

-- name: runs
SELECT it.id, it.started_at,
    cast(max(it.started_at + it.duration_ms, coalesce(it.decided_at, 0)) AS INTEGER),
    it.reason, it.steps,
    EXISTS (
        SELECT 1 FROM side_effect
        WHERE execution = it.rid AND (side_effect.state = 'intended' OR once NOT LIKE 'wish:%')
    )
        OR EXISTS (SELECT 1 FROM walk WHERE execution = it.rid AND ended_at IS NULL)
FROM task
CROSS JOIN execution AS it ON it.task = task.rid
    AND (it.started_at, it.id) > (:started_at, :id) AND it.started_at <= :until
WHERE task.ns = :ns AND task.key = :task
    AND (
        it.state IN ('unpublished', 'failed', 'unapproved')
        OR it.state = 'rejected' AND it.equal_to IS NOT NULL
        OR it.id IN (SELECT value FROM json_each(:going))
    )
ORDER BY it.started_at, it.id LIMIT :most;

-- name: killed
SELECT id, started_at, cast(started_at + duration_ms AS INTEGER), NULL, 0, FALSE
FROM execution
WHERE ns = :ns AND state = 'running' AND task IS NULL AND started_at <= :until
    AND started_at + duration_ms <= :until
    AND NOT EXISTS (SELECT 1 FROM side_effect WHERE side_effect.execution = execution.rid)
LIMIT :most;

-- name: unanswered
SELECT id FROM approval
WHERE ns = :ns AND state = 'pending' AND requested_at <= :until AND expires_at <= :until
ORDER BY requested_at LIMIT :most;

-- name: pasts
SELECT resource.uri, resource.current, version.n, version.at, (
    SELECT count(*) FROM change_event AS it
    WHERE it.resource = resource.rid AND it.to_version = resource.current
        AND it.kind IN ('expired', 'renewed')
), (
    SELECT min(it.at) FROM change_event AS it
    WHERE it.resource = resource.rid AND it.to_version = resource.current
        AND it.kind IN ('expired', 'renewed')
)
FROM resource
LEFT JOIN version ON version.resource = resource.rid AND version.n = (
    SELECT min(n) FROM version AS it WHERE it.resource = resource.rid
)
WHERE resource.ns = :ns AND resource.uri > :after
ORDER BY resource.uri LIMIT :most;

-- name: versions
SELECT version.n, version.at, (version.resource, version.n) IN (
    SELECT change_event.resource, change_event.to_version
    FROM walk CROSS JOIN change_event ON change_event.rid = walk.event
    WHERE walk.ns = :ns AND walk.ended_at IS NULL
)
FROM resource
CROSS JOIN version ON version.resource = resource.rid AND version.n > :after
WHERE resource.ns = :ns AND resource.uri = :resource
ORDER BY version.n LIMIT :most;

-- name: expiries
SELECT it.id, it.at, EXISTS (SELECT 1 FROM walk WHERE event = it.rid AND ended_at IS NULL)
FROM resource
CROSS JOIN change_event AS it ON it.resource = resource.rid AND it.to_version = resource.current
WHERE resource.ns = :ns AND resource.uri = :resource AND it.kind IN ('expired', 'renewed')
ORDER BY it.rid DESC LIMIT :most OFFSET :skip;

-- Deleting: what belongs to it goes by the triggers of the schema ----------------------------

-- name: rids
-- Of these executions, foreseen to go.
SELECT rid FROM json_each(:ids) AS wanted
CROSS JOIN execution ON execution.ns = :ns AND execution.id = wanted.value;

-- name: deletable
-- Those of the executions that may still be deleted.
SELECT it.rid
FROM json_each(:ids) AS wanted
CROSS JOIN execution AS it ON it.ns = :ns AND it.id = wanted.value
WHERE (
        it.state IN ('unpublished', 'failed', 'unapproved')
        OR it.state = 'rejected' AND it.equal_to IS NOT NULL
        OR it.state = 'running' AND it.task IS NULL
    )
    AND NOT EXISTS (
        SELECT 1 FROM side_effect
        WHERE execution = it.rid AND (side_effect.state = 'intended' OR once NOT LIKE 'wish:%')
    )
    AND NOT EXISTS (SELECT 1 FROM walk WHERE execution = it.rid AND ended_at IS NULL);

-- name: deletable_versions
SELECT version.resource, version.n
FROM json_each(:versions) AS wanted
CROSS JOIN resource ON resource.ns = :ns AND resource.uri = wanted.value ->> 0
CROSS JOIN version ON version.resource = resource.rid AND version.n = wanted.value ->> 1
WHERE version.n < resource.current AND (version.resource, version.n) NOT IN (
    SELECT change_event.resource, change_event.to_version
    FROM walk CROSS JOIN change_event ON change_event.rid = walk.event
    WHERE walk.ns = :ns AND walk.ended_at IS NULL
);

-- name: deletable_events
-- Of these, and of those that led to the versions.
SELECT rid FROM json_each(:ids) AS wanted
CROSS JOIN change_event ON change_event.ns = :ns AND change_event.id = wanted.value
WHERE NOT EXISTS (SELECT 1 FROM walk WHERE event = change_event.rid AND ended_at IS NULL)
UNION ALL
SELECT rid FROM (SELECT DISTINCT value ->> 0 AS resource FROM json_each(:versions)) AS wanted
CROSS JOIN change_event ON change_event.resource = wanted.resource
WHERE (change_event.resource, change_event.to_version) IN (
    SELECT value ->> 0, value ->> 1 FROM json_each(:versions)
);

-- name: counted
SELECT count(*) FILTER (WHERE mode <> 'replay'), count(*) FILTER (WHERE mode = 'replay'),
    (
        SELECT count(*) FROM json_each(:executions) AS gone
        CROSS JOIN side_effect ON side_effect.execution = gone.value
    )
FROM json_each(:executions) AS wanted
CROSS JOIN execution ON execution.rid = wanted.value;

-- name: orphans
-- What these executions and versions leave with nothing that needs it.
WITH gone (rid) AS MATERIALIZED (SELECT value FROM json_each(:executions)),
rested (precondition) AS MATERIALIZED (
    SELECT DISTINCT guard.precondition FROM gone CROSS JOIN guard ON guard.execution = gone.rid
),
held (precondition) AS MATERIALIZED (
    SELECT holds.precondition
    FROM json_each(:versions) AS wanted
    CROSS JOIN facet ON facet.resource = wanted.value ->> 0
    CROSS JOIN holds ON holds.facet = facet.rid AND holds.n = wanted.value ->> 1
),
idle (facet) AS MATERIALIZED (
    SELECT DISTINCT it.facet
    FROM rested CROSS JOIN precondition AS it ON it.rid = rested.precondition
    WHERE NOT EXISTS (
        SELECT 1
        FROM precondition AS other
        CROSS JOIN guard ON guard.precondition = other.rid
        WHERE other.facet = it.facet AND guard.execution NOT IN (SELECT rid FROM gone)
    )
)
SELECT DISTINCT 'task', it.task
FROM gone CROSS JOIN execution AS it ON it.rid = gone.rid
WHERE it.task IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM execution AS other
    WHERE other.task = it.task AND other.rid NOT IN (SELECT rid FROM gone)
)
UNION ALL
SELECT 'facet', facet FROM idle
UNION ALL
SELECT 'precondition', it.rid
FROM idle CROSS JOIN precondition AS it ON it.facet = idle.facet
UNION ALL
SELECT 'precondition', it.rid
FROM (SELECT precondition FROM rested UNION SELECT precondition FROM held) AS touched
CROSS JOIN precondition AS it ON it.rid = touched.precondition
CROSS JOIN facet ON facet.rid = it.facet
WHERE it.facet NOT IN (SELECT facet FROM idle)
    AND NOT EXISTS (
        SELECT 1 FROM guard
        WHERE guard.precondition = it.rid AND guard.execution NOT IN (SELECT rid FROM gone)
    )
    AND NOT EXISTS (
        SELECT 1 FROM holds
        WHERE holds.precondition = it.rid AND (facet.resource, holds.n) NOT IN (
            SELECT value ->> 0, value ->> 1 FROM json_each(:versions)
        )
    );

-- name: folded
-- What these came to, for the totals of their days. One that has not ended was killed.
SELECT it.ns, it.started_at, it.agent, it.mode,
    iif(it.state = 'running', 'killed', it.state) AS state, it.miss, 1 AS executions,
    {{usage: it.*}}, it.asked, it.served, it.saved_tokens, coalesce(it.cost, 0.0) AS cost,
    it.cost IS NULL AND (it.task IS NOT NULL OR it.asked > 0) AS unpriced,
    coalesce(it.saved_cost, 0.0) AS saved_cost,
    it.saved_cost IS NULL AND (it.served > 0 OR it.saved_tokens > 0) AS saved_unpriced,
    it.miss_asked, it.miss_tokens, (
        SELECT count(*) FROM side_effect WHERE execution = it.rid AND side_effect.state = 'done'
    ) AS effects
FROM json_each(:executions) AS wanted CROSS JOIN execution AS it ON it.rid = wanted.value;

-- name: delete_executions
DELETE FROM execution WHERE rid IN (SELECT value FROM json_each(:rids));

-- name: delete_approvals
DELETE FROM approval
WHERE ns = :ns AND state = 'pending' AND id IN (SELECT value FROM json_each(:ids));

-- name: delete_tasks
DELETE FROM task WHERE rid IN (SELECT value FROM json_each(:rids));

-- name: delete_facets
DELETE FROM facet WHERE rid IN (SELECT value FROM json_each(:rids));

-- name: delete_preconditions
DELETE FROM precondition WHERE rid IN (SELECT value FROM json_each(:rids));

-- name: delete_events
DELETE FROM change_event WHERE rid IN (SELECT value FROM json_each(:rids));

-- name: delete_versions
DELETE FROM version
WHERE (resource, n) IN (SELECT value ->> 0, value ->> 1 FROM json_each(:versions));

-- Payloads -----------------------------------------------------------------------------------

-- name: tables
-- What a look has not met yet of what was suspected, and what no look has met. rid: of the
-- suspicion, which another one of the same payload has not.
CREATE TEMP TABLE suspected (
    rid INTEGER, value INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, size INTEGER NOT NULL
);
CREATE TEMP TABLE unnamed (rid INTEGER PRIMARY KEY, size INTEGER NOT NULL);

-- name: said
-- The digests that these executions, tasks and versions name. Other statements call it :said.
SELECT told.value AS digest
FROM json_each(:executions) AS it CROSS JOIN step ON step.execution = it.value
CROSS JOIN json_each(json_insert(
    step.messages, '$[#]', step.head, '$[#]', step.arguments, '$[#]', step.output
)) AS told
UNION SELECT told.value
FROM json_each(:executions) AS it CROSS JOIN execution ON execution.rid = it.value
CROSS JOIN json_each(json_array(execution.output, execution.report)) AS told
UNION SELECT told.value
FROM json_each(:tasks) AS it CROSS JOIN task ON task.rid = it.value
CROSS JOIN json_each(json_array(task.inputs, task.context)) AS told
UNION SELECT version.document
FROM json_each(:versions) AS it
CROSS JOIN version ON version.resource = it.value ->> 0 AND version.n = it.value ->> 1

-- name: sizes
SELECT DISTINCT trace.id, value.digest, length(value.data)
FROM json_each(:executions) AS it
CROSS JOIN execution AS trace ON trace.ns = :ns AND trace.id = it.value
CROSS JOIN step ON step.execution = trace.rid
CROSS JOIN json_each(json_insert(
    step.messages, '$[#]', step.head, '$[#]', step.arguments, '$[#]', step.output
)) AS told
CROSS JOIN value ON value.ns = :ns AND value.digest = told.value;

-- name: suspect
-- A suspicion is always a new one, so that who clears an older one leaves it.
INSERT OR REPLACE INTO suspect (ns, value)
SELECT :ns, value.rid
FROM :said AS said CROSS JOIN value ON value.ns = :ns AND value.digest = said.digest;

-- name: is_suspected
SELECT 1 FROM suspect WHERE ns = :ns LIMIT 1;

-- name: suspects
INSERT INTO suspected
SELECT suspect.rid, value.rid, value.digest, length(value.data)
FROM suspect CROSS JOIN value ON value.rid = suspect.value
WHERE suspect.ns = :ns;

-- name: suspects_foreseen
INSERT OR IGNORE INTO suspected
SELECT NULL, value.rid, value.digest, length(value.data)
FROM :said AS said CROSS JOIN value ON value.ns = :ns AND value.digest = said.digest;

-- name: page_of_executions
SELECT rid, started_at, id FROM execution
WHERE ns = :ns AND (started_at, id) > (:started_at, :id)
ORDER BY started_at, id LIMIT :most;

-- name: any_suspected
SELECT 1 FROM suspected LIMIT 1;

-- name: met
DELETE FROM suspected WHERE digest IN :said;

-- name: met_in_tasks
DELETE FROM suspected WHERE digest IN (
    SELECT it.digest
    FROM task CROSS JOIN suspected AS it ON it.digest IN (task.inputs, task.context)
    WHERE task.ns = :ns AND task.rid NOT IN (SELECT value FROM json_each(:tasks))
);

-- name: met_in_versions
DELETE FROM suspected WHERE digest IN (
    SELECT version.document
    FROM resource CROSS JOIN version ON version.resource = resource.rid
    WHERE resource.ns = :ns AND (version.resource, version.n) NOT IN (
        SELECT value ->> 0, value ->> 1 FROM json_each(:versions)
    )
);

-- name: last_suspect
SELECT max(rid) FROM suspected;

-- name: count_suspected
SELECT count(*), coalesce(sum(size), 0) FROM suspected;

-- name: unnamed
INSERT INTO unnamed SELECT rid, size FROM suspected;

-- name: clear_named
-- Suspicions that the look began with, and that turned out to be unfounded.
DELETE FROM suspect WHERE rid IN (
    SELECT rid FROM suspect
    WHERE ns = :ns AND rid <= :last AND rid NOT IN (SELECT rid FROM unnamed) LIMIT :most
);

-- name: some_unnamed
SELECT rid, size FROM unnamed LIMIT :most;

-- name: no_more_unnamed
DELETE FROM unnamed WHERE rid IN (SELECT value FROM json_each(:rids));

-- name: delete_values
-- Those that nobody has written or named since.
DELETE FROM value WHERE rid IN (
    SELECT suspect.value
    FROM json_each(:rids) AS it CROSS JOIN suspect ON suspect.rid = it.value
)
RETURNING length(data);

-- name: stored_bytes
-- Which needs no sum, if the file is not so large.
SELECT CASE WHEN (page_count - freelist_count) * page_size <= :enough THEN 0 ELSE (
    SELECT coalesce(sum(length(data)), 0) FROM value WHERE ns = :ns
) END
FROM pragma_page_count, pragma_freelist_count, pragma_page_size;
