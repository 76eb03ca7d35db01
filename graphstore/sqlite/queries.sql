-- Every statement that the store runs, by name. `:ns` is the rid of a namespace, `:now` the
-- machine's clock in milliseconds, read inside the transaction.

-- Namespaces and payloads -------------------------------------------------------------------

-- name: namespace
SELECT rid FROM namespace WHERE name = :name;

-- name: add_namespace
INSERT INTO namespace (name) VALUES (:name);

-- name: add_value
-- Heals a damaged payload: equal bytes leave the row alone.
INSERT INTO value (ns, digest, codec, data) VALUES (:ns, :digest, :codec, :data)
ON CONFLICT (ns, digest) DO UPDATE SET codec = excluded.codec, data = excluded.data
WHERE value.data IS NOT excluded.data OR value.codec IS NOT excluded.codec;

-- name: is_any_suspected
SELECT 1 FROM suspect WHERE ns = :ns LIMIT 1;

-- name: clear_suspicion
-- Of payloads that are named again.
DELETE FROM suspect WHERE value IN (
    SELECT value.rid
    FROM json_each(:digests) AS wanted
    CROSS JOIN value ON value.ns = :ns AND value.digest = wanted.value
);

-- name: values
SELECT value.digest, value.codec, value.data
FROM json_each(:digests) AS wanted
CROSS JOIN value ON value.ns = :ns AND value.digest = wanted.value;

-- Facts -------------------------------------------------------------------------------------

-- name: resource
SELECT rid, current, present, until, since, expired FROM resource WHERE ns = :ns AND uri = :uri;

-- name: add_resource
INSERT INTO resource (ns, uri) VALUES (:ns, :uri);

-- name: set_current
UPDATE resource
SET current = :n, present = :present, until = :until, since = iif(:until IS NULL, NULL, :now),
    expired = FALSE
WHERE rid = :resource;

-- name: set_until
UPDATE resource
SET until = :until, since = iif(:until IS NULL, NULL, :now),
    expired = expired AND coalesce(:until <= :now, FALSE)
WHERE rid = :resource;

-- name: set_expired
-- For good, whatever becomes of the clock: until it is read again.
UPDATE resource SET expired = TRUE, until = 0, since = NULL WHERE rid = :resource;

-- name: due
-- No longer to be believed, and no event says so. Also what was given in the future: once the
-- clock had caught up it would be believed again.
SELECT uri FROM resource
WHERE ns = :ns AND until <= :now AND until IS NOT NULL AND present AND NOT expired
UNION
SELECT uri FROM resource
WHERE ns = :ns AND since > :ahead AND since IS NOT NULL AND present AND NOT expired;

-- name: version
SELECT document, fingerprint FROM version WHERE resource = :resource AND n = :n;

-- name: add_version
INSERT INTO version (resource, n, document, fingerprint, at)
VALUES (:resource, :n, :document, :fingerprint, :at);

-- name: facets_of_resource
SELECT rid, key, selector FROM facet WHERE resource = :resource;

-- name: facet
SELECT rid FROM facet WHERE ns = :ns AND key = :key;

-- name: add_facet
INSERT INTO facet (ns, key, resource, selector) VALUES (:ns, :key, :resource, :selector);

-- name: precondition
SELECT rid FROM precondition WHERE ns = :ns AND id = :id;

-- name: add_precondition
INSERT INTO precondition (ns, id, facet, fingerprint) VALUES (:ns, :id, :facet, :fingerprint);

-- name: add_holds
INSERT INTO holds (facet, n, precondition) VALUES (:facet, :n, :precondition)
ON CONFLICT DO NOTHING;

-- name: held_fingerprint
SELECT precondition.fingerprint
FROM facet
JOIN holds ON holds.facet = facet.rid AND holds.n = :n
JOIN precondition ON precondition.rid = holds.precondition
WHERE facet.resource = :resource AND facet.selector IS :selector;

-- name: held_fingerprints
SELECT facet.key, precondition.fingerprint
FROM facet
JOIN holds ON holds.facet = facet.rid AND holds.n = :n
JOIN precondition ON precondition.rid = holds.precondition
WHERE facet.resource = :resource;

-- name: current_at
SELECT coalesce(
    (SELECT min(n) - 1 FROM version WHERE version.resource = resource.rid AND version.at > :at),
    resource.current
)
FROM resource
WHERE ns = :ns AND uri = :uri;

-- name: versions_holding
SELECT count(*)
FROM precondition
JOIN holds ON holds.facet = precondition.facet AND holds.n > :after AND holds.n <= :through
WHERE precondition.ns = :ns AND precondition.id = :id AND holds.precondition = precondition.rid;

-- name: add_change_event
INSERT INTO change_event (ns, id, resource, kind, from_version, to_version, source, at)
VALUES (:ns, :id, :resource, :kind, :from_version, :to_version, :source, :at);

-- name: add_changed
INSERT INTO changed (event, facet, before, after)
SELECT ?, rid, ?, ? FROM facet WHERE ns = ? AND key = ?;

-- name: change_events
SELECT change_event.rid, id, uri, kind, from_version, to_version, source, at
FROM change_event
JOIN resource ON resource.rid = change_event.resource
WHERE change_event.ns = :ns AND at >= :since
ORDER BY at DESC, change_event.rid DESC LIMIT :limit;

-- name: change_events_of_resource
SELECT change_event.rid, id, uri, kind, from_version, to_version, source, at
FROM resource
JOIN change_event ON change_event.resource = resource.rid
WHERE resource.ns = :ns AND resource.uri = :uri AND at >= :since
ORDER BY change_event.rid DESC LIMIT :limit;

-- name: changed
SELECT facet.key, facet.selector, changed.before, changed.after
FROM changed
JOIN facet ON facet.rid = changed.facet
WHERE changed.event = :event;

-- name: resources_of_source
SELECT resource.uri, resource.current
FROM resource
JOIN change_event ON change_event.resource = resource.rid
    AND change_event.to_version = resource.current AND change_event.kind = 'changed'
WHERE resource.ns = :ns AND resource.present AND change_event.source = :source;

-- name: selectors
SELECT facet.selector FROM resource JOIN facet ON facet.resource = resource.rid
WHERE resource.ns = :ns AND resource.uri = :uri;

-- The witness -------------------------------------------------------------------------------

-- name: count_change
UPDATE lineage SET changes = changes + 1 WHERE rid = 1 RETURNING id, changes;

-- name: count_of_changes
SELECT id, changes FROM lineage WHERE rid = 1;

-- name: count_from
UPDATE lineage SET changes = :changes WHERE rid = 1;

-- name: any_resource
SELECT max(rid) FROM resource;

-- name: renumber_versions
-- What is current moves beyond all numbers that were given and lost: a process that remembers one
-- of those must not meet it again as another version.
UPDATE version SET n = n + :lost
WHERE n = (SELECT current FROM resource WHERE resource.rid = version.resource);

-- name: renumber_holds
UPDATE holds SET n = n + :lost
WHERE n = (
    SELECT current FROM facet JOIN resource ON resource.rid = facet.resource
    WHERE facet.rid = holds.facet
);

-- name: renumber_events
UPDATE change_event SET
    to_version = to_version + :lost,
    from_version = iif(from_version = to_version, from_version + :lost, from_version)
WHERE to_version = (SELECT current FROM resource WHERE resource.rid = change_event.resource);

-- name: believe_nothing
-- Not at any time, whatever becomes of the clock.
UPDATE resource SET current = current + :lost, until = 0, since = NULL WHERE current > 0;

-- Leases ------------------------------------------------------------------------------------

-- name: lease
SELECT owner, given, until FROM lease WHERE ns = :ns AND name = :name;

-- name: set_lease
INSERT INTO lease (ns, name, owner, given, until) VALUES (:ns, :name, :owner, :given, :until)
ON CONFLICT DO UPDATE SET
    owner = excluded.owner, given = excluded.given, until = excluded.until;

-- name: release
DELETE FROM lease WHERE ns = :ns AND name = :name AND owner = :owner;

-- Lookup ------------------------------------------------------------------------------------

-- name: still
-- One row iff the execution is published; `still_current` is added once for each resource.
-- Parameters by position: namespace, execution, now, then resource and version of each.
SELECT 1 FROM execution WHERE ns = ?1 AND id = ?2 AND state = 'published' AND ?3 > 0

-- name: still_current
AND EXISTS (
    SELECT 1 FROM resource
    WHERE ns = ?1 AND uri = ? AND current = ? AND present
        AND (until IS NULL OR until > ?3 AND coalesce(since, 0) <= ?3 + 1000)
)

-- name: traces
SELECT execution.rid, task.key, {{execution: execution.*}}
FROM task
JOIN execution ON execution.task = task.rid AND execution.state = 'published'
WHERE task.ns = :ns AND task.key = :key
ORDER BY execution.started_at DESC, execution.id DESC;

-- name: execution
SELECT execution.rid, task.key, {{execution: execution.*}}
FROM execution
LEFT JOIN task ON task.rid = execution.task
WHERE execution.ns = :ns AND execution.id = :id;

-- name: newest_executions
SELECT execution.rid, task.key, {{execution: execution.*}}
FROM execution
JOIN task ON task.rid = execution.task
WHERE execution.ns = :ns AND (:agent IS NULL OR execution.agent = :agent)
ORDER BY execution.started_at DESC, execution.id DESC LIMIT :limit;

-- name: steps
SELECT {{step: *}} FROM step
WHERE execution = :execution AND position < :steps ORDER BY position;

-- name: guards
SELECT position, precondition FROM guard WHERE execution = :execution AND position < :steps;

-- name: guarding
SELECT precondition.rid, precondition.id, facet.key, resource.uri, facet.selector,
    precondition.fingerprint
FROM (
    SELECT DISTINCT precondition FROM guard WHERE execution = :execution AND position < :steps
) AS used
JOIN precondition ON precondition.rid = used.precondition
JOIN facet ON facet.rid = precondition.facet
JOIN resource ON resource.rid = facet.resource
WHERE precondition.ns = :ns;

-- name: feeds
SELECT source, target FROM feeds WHERE execution = :execution AND target < :steps;

-- Recording ---------------------------------------------------------------------------------

-- name: task
SELECT key, agent, inputs, context FROM task WHERE ns = :ns AND key = :key;

-- name: add_task
INSERT INTO task (ns, key, agent, inputs, context) VALUES (:ns, :key, :agent, :inputs, :context);

-- name: task_rid
SELECT rid FROM task WHERE ns = :ns AND key = :key;

-- name: execution_state
SELECT rid, state, task, decided_at, equal_to FROM execution WHERE ns = :ns AND id = :id;

-- name: begin_execution
INSERT INTO execution (ns, id, state, agent, mode, started_at)
VALUES (:ns, :id, 'running', '', 'live', :at)
ON CONFLICT DO NOTHING;

-- name: remove_begun_execution
-- The row that an effect made is replaced, under its own rid, by what the run turned out to be.
DELETE FROM execution WHERE rid = :rid AND task IS NULL;

-- name: remove_effects
-- One in doubt stays.
DELETE FROM side_effect
WHERE execution = :execution
    AND (state = 'done' OR id IN (SELECT told.value FROM json_each(:done) AS told));

-- name: remove_execution_without_effects
DELETE FROM execution
WHERE rid = :rid AND task IS NULL
    AND NOT EXISTS (SELECT 1 FROM side_effect WHERE side_effect.execution = :rid);

-- name: add_execution
INSERT INTO execution (rid, ns, task, {{execution: *}})
VALUES (:rid, :ns, :task, {{execution: :*}});

-- name: add_step
INSERT INTO step (execution, {{step: *}}) VALUES (:execution, {{step: :*}});

-- name: add_guard
INSERT INTO guard (execution, position, precondition) VALUES (?, ?, ?);

-- name: add_feed
INSERT INTO feeds (execution, source, target) VALUES (?, ?, ?);

-- name: add_effect
-- What is done stays done.
INSERT INTO side_effect (ns, execution, {{effect: *}}) VALUES (:ns, :execution, {{effect: :*}})
ON CONFLICT (ns, id) DO UPDATE SET
    state = iif(side_effect.state = 'done', 'done', excluded.state),
    step = coalesce(excluded.step, side_effect.step);

-- name: begin_effect
INSERT INTO side_effect (ns, execution, {{effect: *}}) VALUES (:ns, :execution, {{effect: :*}});

-- name: effects
SELECT execution.id, {{effect: side_effect.*}}
FROM execution
JOIN side_effect ON side_effect.execution = execution.rid
WHERE execution.ns = :ns AND execution.id = :id
ORDER BY side_effect.begun_at, side_effect.rid;

-- name: equal_trace
SELECT id FROM execution
WHERE task = :task AND state = 'published' AND signature = :signature
ORDER BY started_at DESC, id DESC LIMIT 1;

-- name: set_published
UPDATE execution
SET state = 'published', published_steps = :steps, manifest = :manifest, signature = :signature,
    reason = NULL, decided_at = :now
WHERE rid = :rid;

-- name: set_unpublished
UPDATE execution
SET state = iif(state = 'failed', state, 'unpublished'), reason = :reason, equal_to = :equal_to,
    decided_at = :now
WHERE rid = :rid;

-- name: missing_payload
-- One row if a payload is gone that one of the first steps names.
SELECT 1
FROM step
CROSS JOIN json_each(
    json_insert(messages, '$[#]', output, '$[#]', head, '$[#]', arguments)
) AS told
LEFT JOIN value ON value.ns = :ns AND value.digest = told.value
WHERE execution = :execution AND position < :steps AND told.value IS NOT NULL AND value.rid IS NULL
LIMIT 1;

-- name: traces_beyond
SELECT rid, id FROM execution
WHERE task = :task AND state = 'published'
ORDER BY started_at DESC, id DESC LIMIT -1 OFFSET :keep;

-- Marks -------------------------------------------------------------------------------------

-- name: open_walk
-- Of an event or of an execution; one that has ended begins again.
INSERT INTO walk (ns, event, execution, at) VALUES (:ns, :event, :execution, :at)
ON CONFLICT DO UPDATE SET
    at = excluded.at, cursor = 0, marked = 0, cleared = 0, visited = 0, ended_at = NULL;

-- name: open_walks
SELECT coalesce(change_event.id, execution.id), resource.uri, walk.at, seen.id, marked, cleared,
    visited, ended_at
FROM walk
LEFT JOIN change_event ON change_event.rid = walk.event
LEFT JOIN resource ON resource.rid = change_event.resource
LEFT JOIN execution ON execution.rid = walk.execution
LEFT JOIN execution AS seen ON seen.rid = walk.cursor
WHERE walk.ns = :ns AND ended_at IS NULL
ORDER BY walk.at, walk.rid LIMIT :limit;

-- name: walk
SELECT coalesce(change_event.id, execution.id), resource.uri, walk.at, seen.id, marked, cleared,
    visited, ended_at
FROM walk
LEFT JOIN change_event ON change_event.rid = walk.event
LEFT JOIN resource ON resource.rid = change_event.resource
LEFT JOIN execution ON execution.rid = walk.execution
LEFT JOIN execution AS seen ON seen.rid = walk.cursor
WHERE walk.rid = :walk;

-- name: walk_of_event
SELECT walk.rid, event, execution, cursor, ended_at
FROM change_event
JOIN walk ON walk.event = change_event.rid
WHERE change_event.ns = :ns AND id = :id;

-- name: walk_of_execution
SELECT walk.rid, event, execution, cursor, ended_at
FROM execution
JOIN walk ON walk.execution = execution.rid
WHERE execution.ns = :ns AND id = :id;

-- name: moved_preconditions
-- Those that an event says have begun or ceased to hold, as far as anybody stated them.
SELECT precondition.rid
FROM changed
JOIN precondition ON precondition.facet = changed.facet
WHERE changed.event = :event AND precondition.fingerprint IN (changed.before, changed.after);

-- name: executions_guarded
SELECT DISTINCT execution FROM guard
WHERE precondition = :precondition AND execution > :after
ORDER BY execution LIMIT :limit;

-- name: affected
-- From the steps that the preconditions guard downstream, in some executions. Of each step:
-- GUARDS into it, and FEEDS into it. A step is one number: its execution, then its position.
WITH RECURSIVE affected (execution, position) AS (
    SELECT execution, position
    FROM json_each(:preconditions) AS wanted
    CROSS JOIN guard ON guard.precondition = wanted.value
        AND guard.execution > :after AND guard.execution <= :through
    UNION
    SELECT affected.execution, feeds.target
    FROM affected
    CROSS JOIN feeds ON feeds.execution = affected.execution AND feeds.source = affected.position
)
SELECT affected.execution << 32 | affected.position, guard.precondition, NULL
FROM affected
CROSS JOIN guard USING (execution, position)
UNION ALL
SELECT affected.execution << 32 | affected.position, NULL, affected.execution << 32 | feeds.source
FROM affected
CROSS JOIN feeds ON feeds.execution = affected.execution AND feeds.target = affected.position;

-- name: judged_preconditions
-- Of those in the list, which hold. By what events say, and not by the clock: an expiry comes as
-- an event.
SELECT precondition.id, precondition.rid,
    resource.present AND NOT resource.expired AND holds.precondition IS precondition.rid
FROM json_each(:preconditions) AS wanted
CROSS JOIN precondition ON precondition.rid = wanted.value
CROSS JOIN facet ON facet.rid = precondition.facet
CROSS JOIN resource ON resource.rid = facet.resource
LEFT JOIN holds ON holds.facet = facet.rid AND holds.n = resource.current;

-- name: marks_of_executions
SELECT mark.execution << 32 | mark.position, mark.invalidated_by
FROM json_each(:executions) AS wanted
CROSS JOIN mark ON mark.execution = wanted.value;

-- name: set_mark
INSERT INTO mark (execution, position, invalidated_by) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET invalidated_by = excluded.invalidated_by;

-- name: remove_mark
DELETE FROM mark WHERE execution = ? AND position = ?;

-- name: go_on_walking
UPDATE walk
SET cursor = :cursor, marked = marked + :marked, cleared = cleared + :cleared,
    visited = visited + :visited, ended_at = :ended_at
WHERE rid = :walk;

-- name: marks
SELECT mark.position, precondition.id
FROM execution
JOIN mark ON mark.execution = execution.rid
JOIN precondition ON precondition.rid = mark.invalidated_by
WHERE execution.ns = :ns AND execution.id = :id;

-- name: preconditions_of_execution
SELECT DISTINCT precondition FROM guard WHERE execution = :execution;

-- name: is_marked
SELECT 1 FROM mark WHERE execution = :execution LIMIT 1;

-- What a change would cost, and what was done so far ----------------------------------------

-- name: dependants
-- The traces of all tasks that have a published step resting on one of the preconditions.
SELECT execution.rid, execution.id, task.key, execution.agent, execution.started_at,
    execution.published_steps = execution.steps
FROM (
    SELECT DISTINCT resting.task
    FROM json_each(:preconditions) AS wanted
    CROSS JOIN precondition ON precondition.ns = :ns AND precondition.id = wanted.value
    CROSS JOIN guard ON guard.precondition = precondition.rid
    CROSS JOIN execution AS resting ON resting.rid = guard.execution
    WHERE resting.state = 'published' AND guard.position < resting.published_steps
) AS affected
CROSS JOIN execution ON execution.task = affected.task AND execution.state = 'published'
CROSS JOIN task ON task.rid = affected.task;

-- name: outline_steps
SELECT step.execution, step.position, step.kind, step.name, step.key, step.occurrence,
    coalesce(step.input_tokens + step.output_tokens + step.cache_creation_input_tokens
        + step.cache_read_input_tokens, 0)
FROM json_each(:executions) AS wanted
CROSS JOIN execution ON execution.rid = wanted.value
CROSS JOIN step ON step.execution = execution.rid AND step.position < execution.published_steps;

-- name: outline_guards
SELECT guard.execution, guard.position, guard.precondition
FROM json_each(:executions) AS wanted
CROSS JOIN guard ON guard.execution = wanted.value;

-- name: outline_feeds
SELECT feeds.execution, feeds.target, feeds.source
FROM json_each(:executions) AS wanted
CROSS JOIN feeds ON feeds.execution = wanted.value;

-- name: outline_preconditions
SELECT precondition.rid, precondition.id, facet.key, resource.uri, facet.selector,
    precondition.fingerprint
FROM json_each(:preconditions) AS wanted
CROSS JOIN precondition ON precondition.rid = wanted.value
CROSS JOIN facet ON facet.rid = precondition.facet
CROSS JOIN resource ON resource.rid = facet.resource;

-- name: totals
-- One that has not ended and is not heard of was killed.
SELECT agent, mode,
    iif(state = 'running' AND started_at + duration_ms <= :silent, 'killed', state) AS outcome,
    count(*), {{usage: sum(*)}}, sum(asked), sum(served), sum(saved_tokens),
    sum(coalesce(cost, 0.0)),
    sum(cost IS NULL AND (task IS NOT NULL OR asked > 0)), sum(coalesce(saved_cost, 0.0)),
    sum(saved_cost IS NULL AND (served > 0 OR saved_tokens > 0))
FROM execution
WHERE ns = :ns AND started_at >= :since
GROUP BY agent, mode, outcome
UNION ALL
SELECT agent, mode, state, {{tally: sum(*)}}
FROM daily_totals
WHERE ns = :ns AND day >= date(:since / 1000, 'unixepoch')
GROUP BY agent, mode, state;

-- name: total_misses
SELECT told.value, sum(json_extract(miss_asked, '$[' || told.key || ']')),
    sum(json_extract(miss_tokens, '$[' || told.key || ']'))
FROM execution
CROSS JOIN json_each(execution.miss) AS told
WHERE ns = :ns AND started_at >= :since AND miss <> '[]'
GROUP BY told.value
UNION ALL
SELECT told.value, sum(json_extract(miss_asked, '$[' || told.key || ']')),
    sum(json_extract(miss_tokens, '$[' || told.key || ']'))
FROM daily_totals
CROSS JOIN json_each(daily_totals.miss) AS told
WHERE ns = :ns AND day >= date(:since / 1000, 'unixepoch') AND miss <> '[]'
GROUP BY told.value;

-- name: add_to_daily_totals
-- An execution that is not kept.
INSERT INTO daily_totals (
    ns, day, agent, mode, state, miss, {{tally: *}}, miss_asked, miss_tokens, effects
) VALUES (
    :ns, date(:started_at / 1000, 'unixepoch'), :agent, :mode, :state, :miss, {{tally: :*}},
    :miss_asked, :miss_tokens, :effects
)
ON CONFLICT DO UPDATE SET
    {{tally: * = * + excluded.*}},
    miss_asked = added_lists(miss_asked, excluded.miss_asked),
    miss_tokens = added_lists(miss_tokens, excluded.miss_tokens),
    effects = effects + excluded.effects;

-- name: note_running
-- What a run that has not ended has cost so far; of one that was written meanwhile, nothing.
INSERT INTO execution (
    ns, id, state, agent, mode, started_at, duration_ms, {{usage: *}}, asked, cost
) VALUES (
    :ns, :id, 'running', :agent, :mode, :started_at, :duration_ms, {{usage: :*}}, :asked, :cost
)
ON CONFLICT (ns, id) DO UPDATE SET
    agent = excluded.agent, mode = excluded.mode, started_at = excluded.started_at,
    duration_ms = excluded.duration_ms, {{usage: * = excluded.*}}, asked = excluded.asked,
    cost = excluded.cost
WHERE execution.task IS NULL AND execution.state = 'running';

-- name: total_traces
SELECT count(*) FROM execution
WHERE ns = :ns AND state = 'published';

-- Examining ---------------------------------------------------------------------------------

-- name: task_keys
SELECT key FROM task WHERE ns = :ns AND key > :after ORDER BY key LIMIT :limit;

-- name: namespaces
SELECT name FROM namespace
WHERE EXISTS (SELECT 1 FROM execution WHERE execution.ns = namespace.rid)
    OR EXISTS (SELECT 1 FROM resource WHERE resource.ns = namespace.rid)
ORDER BY name LIMIT :limit;

-- name: uris
SELECT uri FROM resource WHERE ns = :ns AND uri > :after ORDER BY uri LIMIT :limit;

-- name: doubts
SELECT execution.id, {{effect: side_effect.*}}
FROM side_effect
JOIN execution ON execution.rid = side_effect.execution
WHERE side_effect.ns = :ns AND side_effect.state = 'intended'
ORDER BY side_effect.begun_at, side_effect.rid LIMIT :limit;
