-- The statements of a collection, by name. What is to go is listed in tables of the collecting
-- connection's own, outside of any lock; then it is deleted in batches, each of which looks again.

-- What is to go ------------------------------------------------------------------------------

-- name: tables
CREATE TEMP TABLE going_trace (rid INTEGER PRIMARY KEY, id TEXT NOT NULL, reason TEXT NOT NULL);
CREATE TEMP TABLE going_execution (
    rid INTEGER PRIMARY KEY, id TEXT NOT NULL, steps INTEGER NOT NULL
);
-- beyond: the history of its task is full without it.
CREATE TEMP TABLE candidate (rid INTEGER PRIMARY KEY, beyond INTEGER NOT NULL);
CREATE TEMP TABLE going_task (rid INTEGER PRIMARY KEY);
CREATE TEMP TABLE going_version (
    resource INTEGER NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (resource, n)
) WITHOUT ROWID;
-- n NULL: of the version that is current.
CREATE TEMP TABLE going_event (rid INTEGER PRIMARY KEY, resource INTEGER NOT NULL, n INTEGER);
CREATE INDEX temp.going_event_of_version ON going_event (resource, n);
CREATE TEMP TABLE going_facet (rid INTEGER PRIMARY KEY);
CREATE TEMP TABLE touched (precondition INTEGER PRIMARY KEY);
-- rid: of the suspicion, which another one of the same payload has not.
CREATE TEMP TABLE suspected (
    value INTEGER PRIMARY KEY, rid INTEGER, digest TEXT NOT NULL, size INTEGER NOT NULL
);
CREATE UNIQUE INDEX temp.suspected_digest ON suspected (digest);
CREATE TEMP TABLE unnamed (rid INTEGER PRIMARY KEY, size INTEGER NOT NULL);
CREATE TEMP TABLE named (rid INTEGER PRIMARY KEY);

-- name: going_traces
INSERT INTO going_trace
SELECT trace.rid, trace.id, iif(
    :used_before IS NOT NULL AND trace.started_at <= :used_before AND NOT EXISTS (
        SELECT 1 FROM execution AS use
        WHERE use.task = trace.task AND use.started_at > :used_before
            AND use.replayed = trace.id
    ),
    :unused,
    iif((trace.started_at, trace.id) < (edge.started_at, edge.id), :beyond, NULL)
) AS why
FROM task
JOIN execution AS trace ON trace.task = task.rid AND trace.state = 'published'
LEFT JOIN execution AS edge ON edge.rid = (
    SELECT rid FROM execution AS newer
    WHERE newer.task = task.rid AND newer.state = 'published'
    ORDER BY newer.started_at DESC, newer.id DESC LIMIT 1 OFFSET :traces - 1
)
WHERE task.ns = :ns AND why IS NOT NULL;

-- name: candidates_by_place
-- Of each task, what is older than the last one of its history that stays.
INSERT INTO candidate
SELECT older.rid, TRUE
FROM task
CROSS JOIN execution AS edge ON edge.rid = (
    SELECT rid FROM execution AS newer
    WHERE newer.task = task.rid AND (
        newer.state IN ('unpublished', 'failed')
        OR newer.rid IN (SELECT rid FROM going_trace)
    )
    ORDER BY newer.started_at DESC, newer.id DESC LIMIT 1 OFFSET :history - 1
)
CROSS JOIN execution AS older ON older.task = task.rid
    AND (older.started_at, older.id) < (edge.started_at, edge.id)
WHERE task.ns = :ns;

-- name: candidates_of_no_history
INSERT INTO candidate SELECT rid, TRUE FROM execution WHERE ns = :ns;

-- name: candidates_by_age
INSERT OR IGNORE INTO candidate
SELECT rid, FALSE FROM execution WHERE ns = :ns AND started_at <= :history_old;

-- name: candidates_by_reason
INSERT OR IGNORE INTO candidate
SELECT rid, FALSE FROM execution
WHERE ns = :ns AND state = 'unpublished' AND decided_at IS NOT NULL
    AND reason IN (:unused, :oversize)
UNION ALL
SELECT rid, FALSE FROM going_trace WHERE reason IN (:unused, :oversize);

-- name: going_executions
-- What is about to be unpublished counts as if it were already.
INSERT INTO going_execution
SELECT ended.rid, ended.id, ended.steps
FROM (
    SELECT execution.*, candidate.beyond,
        coalesce(going_trace.reason, execution.reason) AS why,
        iif(
            going_trace.rid IS NULL,
            max(execution.started_at + execution.duration_ms, coalesce(decided_at, 0)),
            :now
        ) AS at
    FROM candidate
    CROSS JOIN execution ON execution.rid = candidate.rid
    LEFT JOIN going_trace ON going_trace.rid = candidate.rid
    WHERE task IS NOT NULL
        AND (state IN ('unpublished', 'failed') OR going_trace.rid IS NOT NULL)
) AS ended
WHERE at <= :old
    AND (beyond OR at <= :history_old OR why IN (:unused, :oversize))
    AND NOT (
        EXISTS (
            SELECT 1 FROM execution AS trace
            WHERE trace.ns = :ns AND trace.id = ended.replayed AND trace.state = 'published'
                AND trace.rid NOT IN (SELECT rid FROM going_trace)
        ) AND NOT EXISTS (
            SELECT 1 FROM execution AS newer
            WHERE newer.task = ended.task AND newer.replayed = ended.replayed
                AND (newer.started_at, newer.id) > (ended.started_at, ended.id)
                AND (
                    newer.state IN ('unpublished', 'failed')
                    OR newer.rid IN (SELECT rid FROM going_trace)
                )
        )
    )
    AND NOT EXISTS (
        SELECT 1 FROM side_effect WHERE execution = ended.rid AND state = 'intended'
    )
    AND NOT EXISTS (SELECT 1 FROM walk WHERE execution = ended.rid AND ended_at IS NULL);

-- name: going_killed
-- What was paid for by runs that never ended, and of which nothing is in doubt.
INSERT INTO going_execution
SELECT rid, id, 0
FROM execution
WHERE ns = :ns AND state = 'running' AND task IS NULL AND started_at <= :history_old
    AND started_at + duration_ms <= min(:old, :history_old)
    AND NOT EXISTS (SELECT 1 FROM side_effect WHERE side_effect.execution = execution.rid);

-- name: going_versions
INSERT INTO going_version
SELECT version.resource, version.n
FROM resource
CROSS JOIN version ON version.resource = resource.rid AND version.n < resource.current
WHERE resource.ns = :ns AND version.at <= :old
    AND (version.n < resource.current - :versions OR version.at <= :history_old)
    AND (version.resource, version.n) NOT IN (
        SELECT change_event.resource, change_event.to_version
        FROM walk JOIN change_event ON change_event.rid = walk.event
        WHERE walk.ns = :ns AND walk.ended_at IS NULL
    );

-- name: going_events
INSERT INTO going_event
SELECT change_event.rid, change_event.resource, change_event.to_version
FROM change_event
JOIN going_version ON going_version.resource = change_event.resource
    AND going_version.n = change_event.to_version
WHERE change_event.ns = :ns;

-- name: going_expiries
-- And renewals, of the version that is current.
INSERT INTO going_event
SELECT rid, resource, NULL
FROM (
    SELECT change_event.rid, change_event.resource, change_event.at,
        row_number() OVER (PARTITION BY resource ORDER BY change_event.rid DESC) AS place
    FROM change_event
    JOIN resource ON resource.rid = change_event.resource
        AND resource.current = change_event.to_version
    WHERE change_event.ns = :ns AND change_event.kind IN ('expired', 'renewed')
) AS expiry
WHERE place > 1 AND at <= :old AND (place > :versions OR at <= :history_old)
    AND NOT EXISTS (SELECT 1 FROM walk WHERE event = expiry.rid AND ended_at IS NULL);

-- Deleting it --------------------------------------------------------------------------------

-- name: some_traces
SELECT rid, id, reason FROM going_trace LIMIT :batch;

-- name: some_executions
SELECT rid, id, steps FROM going_execution LIMIT :batch;

-- name: some_versions
SELECT resource, n FROM going_version LIMIT :batch;

-- name: some_events
SELECT rid FROM going_event WHERE n IS NULL LIMIT :batch;

-- name: no_more_trace
DELETE FROM going_trace WHERE rid = ?;

-- name: no_more_execution
DELETE FROM going_execution WHERE rid = ?;

-- name: no_more_version
DELETE FROM going_version WHERE resource = ? AND n = ?;

-- name: no_more_event
DELETE FROM going_event WHERE rid = ?;

-- name: deletable
-- Those that are still what they were when they were listed, under the same rid.
SELECT execution.rid
FROM json_each(:going) AS wanted
CROSS JOIN execution ON execution.rid = wanted.value ->> 0 AND execution.id = wanted.value ->> 1
WHERE (state IN ('unpublished', 'failed') OR state = 'running' AND task IS NULL)
    AND NOT EXISTS (
        SELECT 1 FROM side_effect WHERE execution = execution.rid AND state = 'intended'
    )
    AND NOT EXISTS (SELECT 1 FROM walk WHERE execution = execution.rid AND ended_at IS NULL);

-- name: counted
SELECT count(*) FILTER (WHERE mode = 'replay'), count(*) FILTER (WHERE mode <> 'replay')
FROM json_each(:executions) AS wanted
CROSS JOIN execution ON execution.rid = wanted.value;

-- name: fold
-- One that has not ended was killed.
INSERT INTO daily_totals (
    ns, day, agent, mode, state, miss, executions, input_tokens, output_tokens,
    cache_creation_input_tokens, cache_read_input_tokens, cache_creation_1h_input_tokens,
    web_search_requests, asked, served, saved_tokens, cost, unpriced, saved_cost, saved_unpriced,
    miss_asked, miss_tokens, effects
)
SELECT ns, date(started_at / 1000, 'unixepoch') AS day, agent, mode,
    iif(state = 'running', 'killed', state) AS outcome, miss, count(*),
    sum(input_tokens), sum(output_tokens), sum(cache_creation_input_tokens),
    sum(cache_read_input_tokens), sum(cache_creation_1h_input_tokens), sum(web_search_requests),
    sum(asked), sum(served), sum(saved_tokens), sum(coalesce(cost, 0.0)),
    sum(cost IS NULL AND (task IS NOT NULL OR asked > 0)), sum(coalesce(saved_cost, 0.0)),
    sum(saved_cost IS NULL AND (served > 0 OR saved_tokens > 0)),
    summed_lists(miss_asked), summed_lists(miss_tokens),
    sum((
        SELECT count(*) FROM side_effect WHERE execution = execution.rid AND state = 'done'
    ))
FROM json_each(:executions) AS wanted
CROSS JOIN execution ON execution.rid = wanted.value
WHERE TRUE
GROUP BY ns, day, agent, mode, outcome, miss
ON CONFLICT DO UPDATE SET
    executions = executions + excluded.executions,
    input_tokens = input_tokens + excluded.input_tokens,
    output_tokens = output_tokens + excluded.output_tokens,
    cache_creation_input_tokens =
        cache_creation_input_tokens + excluded.cache_creation_input_tokens,
    cache_read_input_tokens = cache_read_input_tokens + excluded.cache_read_input_tokens,
    cache_creation_1h_input_tokens =
        cache_creation_1h_input_tokens + excluded.cache_creation_1h_input_tokens,
    web_search_requests = web_search_requests + excluded.web_search_requests,
    asked = asked + excluded.asked,
    served = served + excluded.served,
    saved_tokens = saved_tokens + excluded.saved_tokens,
    cost = cost + excluded.cost,
    unpriced = unpriced + excluded.unpriced,
    saved_cost = saved_cost + excluded.saved_cost,
    saved_unpriced = saved_unpriced + excluded.saved_unpriced,
    miss_asked = added_lists(miss_asked, excluded.miss_asked),
    miss_tokens = added_lists(miss_tokens, excluded.miss_tokens),
    effects = effects + excluded.effects;

-- name: suspect_of_executions
-- A suspicion is always a new one, so that who clears an older one leaves it.
INSERT OR REPLACE INTO suspect (ns, value)
SELECT :ns, value.rid
FROM (
    SELECT head AS digest
    FROM json_each(:executions) AS wanted CROSS JOIN step ON step.execution = wanted.value
    UNION SELECT arguments
    FROM json_each(:executions) AS wanted CROSS JOIN step ON step.execution = wanted.value
    UNION SELECT output
    FROM json_each(:executions) AS wanted CROSS JOIN step ON step.execution = wanted.value
    UNION SELECT told.value
    FROM json_each(:executions) AS wanted CROSS JOIN step ON step.execution = wanted.value
    CROSS JOIN json_each(step.messages) AS told
    UNION SELECT output
    FROM json_each(:executions) AS wanted CROSS JOIN execution ON execution.rid = wanted.value
    UNION SELECT report
    FROM json_each(:executions) AS wanted CROSS JOIN execution ON execution.rid = wanted.value
) AS said
CROSS JOIN value ON value.ns = :ns AND value.digest = said.digest;

-- name: suspect_of_tasks
INSERT OR REPLACE INTO suspect (ns, value)
SELECT :ns, value.rid
FROM json_each(:tasks) AS wanted
CROSS JOIN task ON task.rid = wanted.value
CROSS JOIN value ON value.ns = :ns AND value.digest IN (task.inputs, task.context);

-- name: suspect_of_version
INSERT OR REPLACE INTO suspect (ns, value)
SELECT :ns, value.rid
FROM version
CROSS JOIN value ON value.ns = :ns AND value.digest = version.document
WHERE version.resource = :resource AND version.n = :n;

-- name: tasks_left
-- Of these, the ones that have no execution any more.
SELECT task.rid
FROM json_each(:tasks) AS wanted
CROSS JOIN task ON task.rid = wanted.value
WHERE NOT EXISTS (SELECT 1 FROM execution WHERE execution.task = task.rid);

-- name: tasks_of
SELECT DISTINCT task
FROM json_each(:executions) AS wanted
CROSS JOIN execution ON execution.rid = wanted.value;

-- name: guarding_executions
SELECT DISTINCT precondition
FROM json_each(:executions) AS wanted
CROSS JOIN guard ON guard.execution = wanted.value;

-- name: held_by_version
SELECT holds.precondition
FROM facet CROSS JOIN holds ON holds.facet = facet.rid AND holds.n = :n
WHERE facet.resource = :resource;

-- name: facets_left
-- Facets of these preconditions, on which no step rests any more; with their resources.
SELECT DISTINCT facet.rid, facet.resource
FROM json_each(:preconditions) AS wanted
CROSS JOIN precondition ON precondition.rid = wanted.value
CROSS JOIN facet ON facet.rid = precondition.facet
WHERE NOT EXISTS (
    SELECT 1
    FROM precondition AS other
    CROSS JOIN guard ON guard.precondition = other.rid
    WHERE other.facet = facet.rid
);

-- name: preconditions_left
SELECT precondition.rid
FROM json_each(:preconditions) AS wanted
CROSS JOIN precondition ON precondition.rid = wanted.value
WHERE NOT EXISTS (SELECT 1 FROM guard WHERE guard.precondition = precondition.rid)
    AND NOT EXISTS (SELECT 1 FROM holds WHERE holds.precondition = precondition.rid);

-- name: delete_marks
DELETE FROM mark WHERE execution IN (SELECT value FROM json_each(:executions));

-- name: delete_walks
DELETE FROM walk WHERE execution IN (SELECT value FROM json_each(:executions));

-- name: delete_guards
DELETE FROM guard WHERE execution IN (SELECT value FROM json_each(:executions));

-- name: delete_feeds
DELETE FROM feeds WHERE execution IN (SELECT value FROM json_each(:executions));

-- name: delete_steps
DELETE FROM step WHERE execution IN (SELECT value FROM json_each(:executions));

-- name: delete_effects
DELETE FROM side_effect WHERE execution IN (SELECT value FROM json_each(:executions));

-- name: delete_executions
DELETE FROM execution WHERE rid IN (SELECT value FROM json_each(:executions));

-- name: delete_tasks
DELETE FROM task WHERE rid IN (SELECT value FROM json_each(:tasks));

-- name: delete_preconditions
DELETE FROM precondition WHERE rid IN (SELECT value FROM json_each(:preconditions));

-- name: delete_preconditions_of_facet
DELETE FROM precondition WHERE facet = :facet;

-- name: delete_holds_of_facet
DELETE FROM holds WHERE facet = :facet;

-- name: delete_changed_of_facet
DELETE FROM changed
WHERE facet = :facet AND event IN (SELECT rid FROM change_event WHERE resource = :resource);

-- name: delete_facet
DELETE FROM facet WHERE rid = :facet;

-- name: delete_resource
-- One that was never observed, and that nobody asks for.
DELETE FROM resource
WHERE rid = :resource AND current = 0
    AND NOT EXISTS (SELECT 1 FROM facet WHERE facet.resource = resource.rid);

-- name: delete_holds_of_version
DELETE FROM holds
WHERE n = :n AND facet IN (SELECT rid FROM facet WHERE facet.resource = :resource);

-- name: delete_version
DELETE FROM version WHERE resource = :resource AND n = :n;

-- name: events_of_version
SELECT rid FROM going_event WHERE resource = :resource AND n = :n;

-- name: delete_changed
DELETE FROM changed WHERE event IN (SELECT value FROM json_each(:events));

-- name: delete_walks_of_events
DELETE FROM walk WHERE event IN (SELECT value FROM json_each(:events));

-- name: delete_events
DELETE FROM change_event WHERE rid IN (SELECT value FROM json_each(:events));

-- Payloads -----------------------------------------------------------------------------------

-- name: is_suspected
SELECT 1 FROM suspect WHERE ns = :ns LIMIT 1;

-- name: suspects
INSERT INTO suspected (value, rid, digest, size)
SELECT value.rid, suspect.rid, value.digest, length(value.data)
FROM suspect CROSS JOIN value ON value.rid = suspect.value
WHERE suspect.ns = :ns;

-- name: any_suspected
SELECT 1 FROM suspected LIMIT 1;

-- name: page_of_executions
SELECT rid, started_at, id FROM execution
WHERE ns = :ns AND (started_at, id) > (:started_at, :id)
ORDER BY started_at, id LIMIT :limit;

-- name: clear_those_of_executions
DELETE FROM suspected WHERE value IN (
    SELECT suspected.value
    FROM json_each(:executions) AS wanted
    CROSS JOIN step ON step.execution = wanted.value
    CROSS JOIN suspected ON suspected.digest IN (step.head, step.arguments, step.output)
    WHERE wanted.value NOT IN (SELECT rid FROM going_execution)
    UNION ALL
    SELECT suspected.value
    FROM json_each(:executions) AS wanted
    CROSS JOIN step ON step.execution = wanted.value
    CROSS JOIN json_each(step.messages) AS told
    CROSS JOIN suspected ON suspected.digest = told.value
    WHERE wanted.value NOT IN (SELECT rid FROM going_execution)
    UNION ALL
    SELECT suspected.value
    FROM json_each(:executions) AS wanted
    CROSS JOIN execution ON execution.rid = wanted.value
    CROSS JOIN suspected ON suspected.digest IN (execution.output, execution.report)
    WHERE wanted.value NOT IN (SELECT rid FROM going_execution)
);

-- name: clear_those_of_tasks
DELETE FROM suspected WHERE value IN (
    SELECT suspected.value
    FROM task CROSS JOIN suspected ON suspected.digest IN (task.inputs, task.context)
    WHERE task.ns = :ns AND task.rid NOT IN (SELECT rid FROM going_task)
);

-- name: clear_those_of_versions
DELETE FROM suspected WHERE value IN (
    SELECT suspected.value
    FROM resource
    CROSS JOIN version ON version.resource = resource.rid
    CROSS JOIN suspected ON suspected.digest = version.document
    WHERE resource.ns = :ns
        AND (version.resource, version.n) NOT IN (SELECT resource, n FROM going_version)
);

-- name: found_unnamed
INSERT INTO unnamed SELECT rid, size FROM suspected;

-- name: found_named
INSERT INTO named
SELECT rid FROM suspect WHERE ns = :ns AND rid <= :last AND rid NOT IN (SELECT rid FROM unnamed);

-- name: last_suspect
SELECT max(rid) FROM suspected;

-- name: some_unnamed
SELECT rid, size FROM unnamed LIMIT :batch;

-- name: some_named
SELECT rid FROM named LIMIT :batch;

-- name: no_more_unnamed
DELETE FROM unnamed WHERE rid = ?;

-- name: no_more_named
DELETE FROM named WHERE rid = ?;

-- name: values_to_delete
-- Those that nobody has written or named since.
SELECT suspect.value, length(value.data)
FROM json_each(:suspects) AS wanted
CROSS JOIN suspect ON suspect.rid = wanted.value
CROSS JOIN value ON value.rid = suspect.value;

-- name: delete_values
DELETE FROM value WHERE rid IN (SELECT value FROM json_each(:values));

-- name: delete_suspects
DELETE FROM suspect WHERE rid IN (SELECT value FROM json_each(:suspects));

-- Limits of size -----------------------------------------------------------------------------

-- name: payload_bytes
SELECT coalesce(sum(length(data)), 0) FROM value WHERE ns = :ns;

-- name: is_leaving
SELECT 1 FROM execution
WHERE ns = :ns AND state = 'unpublished' AND reason = :oversize AND decided_at > :old LIMIT 1;

-- name: least_used
SELECT rid, id FROM execution AS trace
WHERE ns = :ns AND state = 'published' AND rid NOT IN (SELECT rid FROM going_trace)
ORDER BY max(started_at, coalesce((
    SELECT max(use.started_at) FROM execution AS use
    WHERE use.task = trace.task AND use.replayed = trace.id
), 0)), id LIMIT :batch;

-- name: sizes_of_trace
SELECT DISTINCT value.rid, length(value.data)
FROM (
    SELECT head AS digest FROM step WHERE execution = :execution
    UNION SELECT arguments FROM step WHERE execution = :execution
    UNION SELECT output FROM step WHERE execution = :execution
    UNION SELECT told.value
    FROM step CROSS JOIN json_each(step.messages) AS told WHERE execution = :execution
) AS said
CROSS JOIN value ON value.ns = :ns AND value.digest = said.digest;

-- name: going_for_size
INSERT INTO going_trace (rid, id, reason) VALUES (:rid, :id, :reason);

-- Telling what would go ----------------------------------------------------------------------

-- name: count_executions
SELECT count(*) FILTER (WHERE mode = 'replay'), count(*) FILTER (WHERE mode <> 'replay')
FROM going_execution JOIN execution ON execution.rid = going_execution.rid;

-- name: count_effects
SELECT count(*) FROM going_execution JOIN side_effect ON execution = going_execution.rid;

-- name: going_tasks
INSERT INTO going_task
SELECT DISTINCT execution.task
FROM going_execution JOIN execution ON execution.rid = going_execution.rid
WHERE execution.task IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM execution AS other
    WHERE other.task = execution.task AND other.rid NOT IN (SELECT rid FROM going_execution)
);

-- name: touched_by_executions
INSERT OR IGNORE INTO touched
SELECT precondition FROM going_execution JOIN guard ON guard.execution = going_execution.rid;

-- name: touched_by_versions
INSERT OR IGNORE INTO touched
SELECT holds.precondition
FROM going_version
CROSS JOIN facet ON facet.resource = going_version.resource
CROSS JOIN holds ON holds.facet = facet.rid AND holds.n = going_version.n;

-- name: going_facets
INSERT INTO going_facet
SELECT DISTINCT precondition.facet
FROM touched CROSS JOIN precondition ON precondition.rid = touched.precondition
WHERE NOT EXISTS (
    SELECT 1
    FROM precondition AS other
    CROSS JOIN guard ON guard.precondition = other.rid
    WHERE other.facet = precondition.facet
        AND guard.execution NOT IN (SELECT rid FROM going_execution)
);

-- name: count_preconditions
SELECT (
    SELECT count(*) FROM going_facet JOIN precondition ON precondition.facet = going_facet.rid
) + (
    SELECT count(*)
    FROM touched
    CROSS JOIN precondition ON precondition.rid = touched.precondition
    CROSS JOIN facet ON facet.rid = precondition.facet
    WHERE precondition.facet NOT IN (SELECT rid FROM going_facet)
        AND NOT EXISTS (
            SELECT 1 FROM guard
            WHERE guard.precondition = precondition.rid
                AND guard.execution NOT IN (SELECT rid FROM going_execution)
        )
        AND NOT EXISTS (
            SELECT 1 FROM holds
            WHERE holds.precondition = precondition.rid
                AND (facet.resource, holds.n) NOT IN (SELECT resource, n FROM going_version)
        )
);

-- name: suspects_of_what_goes
INSERT OR IGNORE INTO suspected (value, digest, size)
SELECT value.rid, value.digest, length(value.data)
FROM (
    SELECT head AS digest FROM going_execution AS it CROSS JOIN step ON step.execution = it.rid
    UNION SELECT arguments FROM going_execution AS it CROSS JOIN step ON step.execution = it.rid
    UNION SELECT output FROM going_execution AS it CROSS JOIN step ON step.execution = it.rid
    UNION SELECT told.value
    FROM going_execution AS it CROSS JOIN step ON step.execution = it.rid
    CROSS JOIN json_each(step.messages) AS told
    UNION SELECT output
    FROM going_execution AS it CROSS JOIN execution ON execution.rid = it.rid
    UNION SELECT report
    FROM going_execution AS it CROSS JOIN execution ON execution.rid = it.rid
    UNION SELECT inputs FROM going_task AS it CROSS JOIN task ON task.rid = it.rid
    UNION SELECT context FROM going_task AS it CROSS JOIN task ON task.rid = it.rid
    UNION SELECT document
    FROM going_version AS it
    CROSS JOIN version ON version.resource = it.resource AND version.n = it.n
) AS said
CROSS JOIN value ON value.ns = :ns AND value.digest = said.digest;

-- name: count_suspected
SELECT count(*), coalesce(sum(size), 0) FROM suspected;
