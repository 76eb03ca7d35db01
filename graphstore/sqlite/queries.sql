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
SELECT owner, given, until, waits_for FROM lease WHERE ns = :ns AND name = :name;

-- name: set_lease
INSERT INTO lease (ns, name, owner, given, until, waits_for)
VALUES (:ns, :name, :owner, :given, :until, :waits_for)
ON CONFLICT DO UPDATE SET
    owner = excluded.owner, given = excluded.given, until = excluded.until,
    waits_for = excluded.waits_for;

-- name: release
DELETE FROM lease WHERE ns = :ns AND name = :name AND owner = :owner;

-- Journal -----------------------------------------------------------------------------------

-- name: journal
INSERT INTO journal (ns, task, execution, number, at, entry, wish)
VALUES (:ns, :task, :execution, :number, :at, :entry, :wish)
ON CONFLICT DO NOTHING;

-- name: journaled
-- What has ended well is no part of it, though it may not be deleted yet.
SELECT journal.task, journal.execution, journal.number, journal.at, journal.entry, journal.wish
FROM journal
LEFT JOIN execution ON execution.ns = journal.ns AND execution.id = journal.execution
WHERE journal.ns = :ns AND journal.task = :task
    AND coalesce(execution.state, 'running') IN ('running', 'failed')
ORDER BY journal.at DESC, journal.rid DESC LIMIT :limit;

-- name: journal_of_wish
SELECT task, execution, number, at, entry, wish FROM journal
WHERE ns = :ns AND wish = :wish ORDER BY at, rid;

-- name: forget_journal
DELETE FROM journal
WHERE ns = :ns AND execution IN (SELECT wanted.value FROM json_each(:executions) AS wanted);

-- name: age_journal
DELETE FROM journal WHERE ns = :ns AND at < :before;

-- name: age_wishes
DELETE FROM wish WHERE ns = :ns AND at < :before;

-- Wishes ------------------------------------------------------------------------------------

-- name: wish
SELECT key, task, execution, process, run_id, idempotency, state, result, :now - at
FROM wish WHERE ns = :ns AND key = :key;

-- name: open_wishes
SELECT key, task, execution, process, run_id, idempotency, state, result, :now - at
FROM wish WHERE ns = :ns AND task = :exact AND state <> 'done'
ORDER BY at DESC, rid DESC LIMIT :limit;

-- name: hold_wish
INSERT INTO wish (ns, key, task, execution, process, run_id, idempotency, state, at)
VALUES (:ns, :key, :task, :execution, :process, :run_id, :idempotency, 'running', :now)
ON CONFLICT (ns, key) DO NOTHING;

-- name: take_wish_over
UPDATE wish SET execution = :execution, process = :process, state = 'running', at = :now
WHERE ns = :ns AND key = :key AND execution = :over AND state <> 'done';

-- name: end_wish
UPDATE wish SET state = :state, result = :result, at = :now
WHERE ns = :ns AND key = :key AND execution = :execution;

-- name: forget_wish_of
DELETE FROM wish WHERE ns = :ns AND execution = :execution AND run_id IS NULL;

-- name: fail_wish_of
UPDATE wish SET state = 'failed', at = :now
WHERE ns = :ns AND execution = :execution AND state = 'running';

-- name: renew_wishes
UPDATE wish SET at = :now
WHERE ns = :ns AND state = 'running'
    AND execution IN (SELECT wanted.value FROM json_each(:executions) AS wanted);

-- name: effects_of_wish
SELECT execution.id, {{effect: side_effect.*}}
FROM side_effect JOIN execution ON execution.rid = side_effect.execution
WHERE side_effect.ns = :ns AND side_effect.wish = :wish
ORDER BY side_effect.begun_at, side_effect.rid;

-- Lookup ------------------------------------------------------------------------------------

-- name: still
-- One row iff the execution is published; `still_current` is added once for each resource.
-- Parameters by position: namespace, execution, now, the processes that are alive, the exact task,
-- then resource and version of each.
SELECT 1 FROM execution
WHERE ns = ?1 AND id = ?2 AND state = 'published' AND ?3 > 0 AND NOT EXISTS (
    SELECT 1 FROM task
    CROSS JOIN wish ON wish.ns = ?1 AND wish.task = coalesce(?5, task.key)
        AND wish.state <> 'done'
    WHERE task.rid = execution.task AND run_id IS NULL AND idempotency IS NULL
        AND NOT (wish.state = 'running'
            AND coalesce(process, '') IN (SELECT told.value FROM json_each(?4) AS told))
)

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

-- name: executions
SELECT execution.rid, task.key, {{execution: execution.*}}
FROM execution
LEFT JOIN task ON task.rid = execution.task
WHERE execution.ns = :ns AND (execution.started_at, execution.id) < (:started_at, :id)
    AND execution.started_at >= :since AND (execution.task IS NOT NULL OR NOT :ended)
ORDER BY execution.started_at DESC, execution.id DESC LIMIT :limit;

-- name: executions_of_{{by}}
-- `:value` of a task is its rid. Of one that has only begun the mode is not known.
SELECT execution.rid, task.key, {{execution: execution.*}}
FROM execution INDEXED BY execution_of_{{by}}
LEFT JOIN task ON task.rid = execution.task
WHERE execution.ns = :ns AND execution.{{by}} = :value
    AND (execution.agent <> '' OR '{{by}}' <> 'mode')
    AND (execution.started_at, execution.id) < (:started_at, :id)
    AND execution.started_at >= :since AND (execution.task IS NOT NULL OR NOT :ended)
ORDER BY execution.started_at DESC, execution.id DESC LIMIT :limit;

-- name: execution_ids
SELECT id FROM execution
WHERE ns = :ns AND id >= :prefix AND id < :prefix || char(0x10FFFF) ORDER BY id LIMIT :limit;

-- name: effect_ids
SELECT id FROM side_effect
WHERE ns = :ns AND id >= :prefix AND id < :prefix || char(0x10FFFF) ORDER BY id LIMIT :limit;

-- name: approval_ids
SELECT id FROM approval
WHERE ns = :ns AND id >= :prefix AND id < :prefix || char(0x10FFFF) ORDER BY id LIMIT :limit;

-- name: lengths
SELECT execution.id, execution.steps
FROM json_each(:executions) AS wanted
CROSS JOIN execution ON execution.ns = :ns AND execution.id = wanted.value
WHERE execution.task IS NOT NULL;

-- name: next_agent
SELECT min(agent) FROM execution WHERE ns = :ns AND agent > :after;

-- name: newest_tasks_of_agent
SELECT newest.started_at, newest.id, task.key, task.agent, task.inputs, task.context
FROM (
    SELECT task, started_at, id FROM execution
    WHERE ns = :ns AND agent = :agent AND task IS NOT NULL
    ORDER BY started_at DESC, id DESC LIMIT :limit
) AS newest
JOIN task ON task.rid = newest.task
WHERE EXISTS (
    SELECT 1 FROM execution WHERE execution.task = newest.task AND execution.state = 'published'
);

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
INSERT INTO execution (ns, id, state, agent, mode, started_at, process)
VALUES (:ns, :id, 'running', :agent, 'live', :at, :process)
ON CONFLICT DO NOTHING;

-- name: remove_begun_execution
-- The row that an effect made is replaced, under its own rid, by what the run turned out to be.
DELETE FROM execution WHERE rid = :rid AND task IS NULL;

-- name: remove_effects
-- One in doubt stays.
DELETE FROM side_effect
WHERE execution = :execution AND (once IS NULL OR once LIKE 'wish:%')
    AND (state <> 'intended' OR id IN (SELECT told.value FROM json_each(:done) AS told));

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
-- How it ended is kept by `end_effect`, for all who tell it.
INSERT INTO side_effect (ns, execution, {{effect: *}}) VALUES (:ns, :execution, {{effect: :*}})
ON CONFLICT (ns, id) DO UPDATE SET step = coalesce(excluded.step, side_effect.step);

-- name: end_effect
-- What is done stays done, and what was not performed is not in doubt again. By what it was known
-- another one may have begun since somebody said that it was not performed.
UPDATE side_effect SET
    state = :state,
    output_text = coalesce(:output_text, output_text),
    once = iif(EXISTS (
        SELECT 1 FROM side_effect AS other
        WHERE other.ns = :ns AND other.once = :once AND other.id <> :id
    ), NULL, :once)
WHERE ns = :ns AND id = :id
    AND (state = 'intended' OR state = 'not performed' AND :state = 'done');

-- name: effect_once
SELECT execution.id, {{effect: side_effect.*}}
FROM side_effect JOIN execution ON execution.rid = side_effect.execution
WHERE side_effect.ns = :ns AND side_effect.once = :once;

-- name: effect
SELECT execution.id, {{effect: side_effect.*}}
FROM side_effect JOIN execution ON execution.rid = side_effect.execution
WHERE side_effect.ns = :ns AND side_effect.id = :id;

-- name: begin_effect
INSERT INTO side_effect (ns, execution, {{effect: *}}) VALUES (:ns, :execution, {{effect: :*}});

-- name: begin_effect_again
UPDATE side_effect SET process = :process, begun_at = :begun_at,
    approval = :approval, approved_by = :approved_by
WHERE ns = :ns AND id = :id;

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

-- name: equal_unapproved
SELECT id FROM execution
WHERE task = :task AND state = 'unapproved' AND signature = :signature
ORDER BY started_at DESC, id DESC LIMIT 1;

-- name: set_decided
UPDATE execution
SET state = :state, published_steps = :steps, manifest = :manifest, signature = :signature,
    reason = :reason, equal_to = :equal_to, decided_at = :now
WHERE rid = :rid;

-- name: publishable_part
SELECT published_steps, manifest, signature FROM execution WHERE rid = :rid;

-- name: verdict
SELECT execution.state, execution.equal_to, execution.reason, equal.state
FROM execution
LEFT JOIN execution AS equal ON equal.ns = :ns AND equal.id = execution.equal_to
WHERE execution.ns = :ns AND execution.id = :id;

-- name: set_unpublished
UPDATE execution
SET state = iif(state = 'failed', state, 'unpublished'), reason = :reason, equal_to = :equal_to,
    decided_at = :now
WHERE rid = :rid;

-- name: set_rejected
UPDATE execution
SET state = 'rejected', reason = :reason, signature = coalesce(signature, :signature),
    equal_to = :equal_to, decided_at = :now
WHERE rid = :rid;

-- name: release_rejected
UPDATE execution INDEXED BY rejected_execution
SET state = 'unpublished', reason = :reason, equal_to = NULL, decided_at = :now
WHERE task = :task AND state = 'rejected' AND equal_to = :equal_to;

-- name: rejected
SELECT execution.id, execution.reason
FROM json_each(:ids) AS wanted
CROSS JOIN execution ON execution.ns = :ns AND execution.id = wanted.value
WHERE execution.state = 'rejected';

-- name: rejections
-- The rejected runs of a task whose answer the first steps of an execution have.
SELECT rejected.rid, rejected.id, rejected.reason
FROM execution AS rejected INDEXED BY rejected_execution
WHERE rejected.task = :task AND rejected.state = 'rejected' AND rejected.equal_to IS NULL
    AND rejected.rid <> :rid
    AND (
        rejected.signature = :signature
        OR EXISTS (
            SELECT 1 FROM step
            WHERE execution = :rid AND position < :steps AND kind = 'decision'
                AND (key, output_key) = (
                    SELECT answer.key, answer.output_key FROM step AS answer
                    WHERE answer.execution = rejected.rid AND answer.kind = 'decision'
                    ORDER BY answer.position DESC LIMIT 1
                )
        )
    );

-- name: with_answer
-- The traces of a task, and what waits to be one, that have the answer of a rejected run.
SELECT other.rid, other.id
FROM execution AS rejected
CROSS JOIN (
    SELECT rid, id, signature, published_steps FROM execution
    WHERE task = :task AND state = 'published'
    UNION ALL
    SELECT rid, id, signature, published_steps FROM execution
    WHERE task = :task AND state = 'unapproved'
) AS other
WHERE rejected.rid = :rid AND other.rid <> :rid
    AND (
        other.signature = rejected.signature
        OR EXISTS (
            SELECT 1 FROM step
            WHERE execution = other.rid AND position < other.published_steps AND kind = 'decision'
                AND (key, output_key) = (
                    SELECT answer.key, answer.output_key FROM step AS answer
                    WHERE answer.execution = rejected.rid AND answer.kind = 'decision'
                    ORDER BY answer.position DESC LIMIT 1
                )
        )
    );

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

-- name: unapproved_beyond
SELECT rid, id FROM execution
WHERE task = :task AND state = 'unapproved'
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
-- One that has not ended, and whose process is dead or that is not heard of, was killed.
SELECT agent, mode,
    iif(state = 'running' AND (
        started_at + duration_ms <= :silent
        OR process IN (SELECT told.value FROM json_each(:dead) AS told)
    ), 'killed', state) AS outcome,
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
    ns, id, state, agent, mode, started_at, duration_ms, {{usage: *}}, asked, cost, process
) VALUES (
    :ns, :id, 'running', :agent, :mode, :started_at, :duration_ms, {{usage: :*}}, :asked, :cost,
    :process
)
ON CONFLICT (ns, id) DO UPDATE SET
    agent = excluded.agent, mode = excluded.mode, started_at = excluded.started_at,
    duration_ms = excluded.duration_ms, {{usage: * = excluded.*}}, asked = excluded.asked,
    cost = excluded.cost, process = excluded.process
WHERE execution.task IS NULL AND execution.state = 'running';

-- name: total_traces
SELECT
    (SELECT count(*) FROM execution WHERE ns = :ns AND state = 'published'),
    (SELECT count(*) FROM execution WHERE ns = :ns AND state = 'unapproved'),
    (SELECT count(*) FROM execution WHERE ns = :ns AND state = 'rejected');

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

-- Approvals ---------------------------------------------------------------------------------

-- name: approval
SELECT {{approval: *}} FROM approval WHERE ns = :ns AND id = :id;

-- name: open_approval
-- What may be told who asks for this digest.
SELECT {{approval: *}} FROM approval
WHERE ns = :ns AND digest = :digest AND state <> 'used' AND (
    state IN ('pending', 'approved') AND expires_at > :now AND requested_at <= :now + 1000
    OR state = 'denied' AND iif(
        heard_by IS NULL, expires_at > :now, heard_by = :hearer
    )
);

-- name: hear_denial
UPDATE approval SET heard_by = :hearer WHERE ns = :ns AND id = :id AND state = 'denied';

-- name: add_approval
INSERT INTO approval (ns, {{approval: *}}) VALUES (:ns, {{approval: :*}})
ON CONFLICT (ns, id) DO NOTHING;

-- name: answer_approval
UPDATE approval
SET state = :state, by = :by, reason = :reason, heard_by = :heard_by, answered_at = :now
WHERE ns = :ns AND id = :id AND state = 'pending'
    AND expires_at > :now AND requested_at <= :now + 1000;

-- name: use_approval
UPDATE approval
SET state = 'used', effect = :effect, by = iif(state = 'pending', :by, by),
    answered_at = coalesce(answered_at, :now)
WHERE ns = :ns AND id = :id AND state IN ('pending', 'approved')
    AND expires_at > :now AND requested_at <= :now + 1000
RETURNING by;

-- name: close_approvals
-- What is open may have been used, or denied, in what was lost.
UPDATE approval SET expires_at = 0 WHERE state IN ('pending', 'approved');

-- name: pending_approvals
SELECT {{approval: *}} FROM approval
WHERE ns = :ns AND state = 'pending' AND expires_at > :now AND requested_at <= :now + 1000
ORDER BY requested_at, id LIMIT :limit;

-- name: precedents
SELECT {{approval: approval.*}}, side_effect.state
FROM approval
LEFT JOIN side_effect ON side_effect.ns = approval.ns AND side_effect.id = approval.effect
WHERE approval.ns = :ns AND approval.task = :task AND approval.tool = :tool
ORDER BY approval.requested_at DESC, approval.id DESC LIMIT :limit;
