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

-- name: values
SELECT value.digest, value.codec, value.data
FROM json_each(:digests) AS wanted
CROSS JOIN value ON value.ns = :ns AND value.digest = wanted.value;

-- Facts -------------------------------------------------------------------------------------

-- name: resource
SELECT rid, current, present, until FROM resource WHERE ns = :ns AND uri = :uri;

-- name: add_resource
INSERT INTO resource (ns, uri) VALUES (:ns, :uri);

-- name: set_current
UPDATE resource SET current = :n, present = :present, until = :until WHERE rid = :resource;

-- name: set_until
UPDATE resource SET until = :until WHERE rid = :resource;

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
SELECT facet.rid, precondition.fingerprint
FROM facet
JOIN holds ON holds.facet = facet.rid AND holds.n = :n
JOIN precondition ON precondition.rid = holds.precondition
WHERE facet.resource = :resource;

-- name: versions_holding
SELECT count(*)
FROM precondition
JOIN holds ON holds.facet = precondition.facet AND holds.n > :after AND holds.n <= :through
WHERE precondition.ns = :ns AND precondition.id = :id AND holds.precondition = precondition.rid;

-- name: add_change_event
INSERT INTO change_event (ns, id, resource, from_version, to_version, withdrawn, source, at)
VALUES (:ns, :id, :resource, :from_version, :to_version, :withdrawn, :source, :at);

-- name: add_changed
INSERT INTO changed (event, facet, before, after) VALUES (:event, :facet, :before, :after);

-- name: change_events
SELECT change_event.rid, id, uri, from_version, to_version, withdrawn, source, at
FROM change_event
JOIN resource ON resource.rid = change_event.resource
WHERE change_event.ns = :ns
ORDER BY change_event.rid DESC LIMIT :limit;

-- name: change_events_of_resource
SELECT change_event.rid, id, uri, from_version, to_version, withdrawn, source, at
FROM resource
JOIN change_event ON change_event.resource = resource.rid
WHERE resource.ns = :ns AND resource.uri = :uri
ORDER BY change_event.rid DESC LIMIT :limit;

-- name: changed
SELECT facet.key, resource.uri, facet.selector, changed.before, changed.after
FROM changed
JOIN facet ON facet.rid = changed.facet
JOIN resource ON resource.rid = facet.resource
WHERE changed.event = :event;

-- Lookup ------------------------------------------------------------------------------------

-- name: still
-- One row iff the execution is published; `still_current` is added once for each resource.
-- Parameters by position: namespace, execution, now, then resource and version of each.
SELECT 1 FROM execution WHERE ns = ?1 AND id = ?2 AND state = 'published' AND ?3 > 0

-- name: still_current
AND EXISTS (
    SELECT 1 FROM resource
    WHERE ns = ?1 AND uri = ? AND current = ? AND present AND (until IS NULL OR until > ?3)
)

-- name: traces
SELECT execution.rid, execution.id, task.key, execution.agent, mode, state, started_at, duration_ms,
    steps, published_steps, manifest, signature, replayed, output, input_tokens, output_tokens,
    cache_creation_input_tokens, cache_read_input_tokens, saved_tokens, cost, labels, reason
FROM task
JOIN execution ON execution.task = task.rid AND execution.state = 'published'
WHERE task.ns = :ns AND task.key = :key
ORDER BY execution.started_at DESC, execution.id DESC;

-- name: execution
SELECT execution.rid, execution.id, task.key, execution.agent, mode, state, started_at, duration_ms,
    steps, published_steps, manifest, signature, replayed, output, input_tokens, output_tokens,
    cache_creation_input_tokens, cache_read_input_tokens, saved_tokens, cost, labels, reason
FROM execution
LEFT JOIN task ON task.rid = execution.task
WHERE execution.ns = :ns AND execution.id = :id;

-- name: steps
SELECT position, kind, name, key, occurrence, code_key, output, output_key, error, duration_ms,
    head, extends, shared, messages, input_tokens, output_tokens, cache_creation_input_tokens,
    cache_read_input_tokens, effect, arguments, decision, call
FROM step
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

-- name: add_execution
INSERT INTO execution (
    rid, ns, id, state, task, agent, mode, started_at, duration_ms, steps, published_steps,
    manifest, signature, replayed, output, input_tokens, output_tokens,
    cache_creation_input_tokens, cache_read_input_tokens, saved_tokens, cost, labels, reason
) VALUES (
    :rid, :ns, :id, :state, :task, :agent, :mode, :started_at, :duration_ms, :steps,
    :published_steps, :manifest, :signature, :replayed, :output, :input_tokens, :output_tokens,
    :cache_creation_input_tokens, :cache_read_input_tokens, :saved_tokens, :cost, :labels,
    :reason
);

-- name: add_step
INSERT INTO step (
    execution, position, kind, name, key, occurrence, code_key, output, output_key, error,
    duration_ms, head, extends, shared, messages, input_tokens, output_tokens,
    cache_creation_input_tokens, cache_read_input_tokens, effect, arguments, decision, call
) VALUES (
    :execution, :position, :kind, :name, :key, :occurrence, :code_key, :output, :output_key,
    :error, :duration_ms, :head, :extends, :shared, :messages, :input_tokens, :output_tokens,
    :cache_creation_input_tokens, :cache_read_input_tokens, :effect, :arguments, :decision,
    :call
);

-- name: add_guard
INSERT INTO guard (execution, position, precondition) VALUES (:execution, :position, :precondition);

-- name: add_feed
INSERT INTO feeds (execution, source, target) VALUES (:execution, :source, :target);

-- name: add_effect
-- What is done stays done.
INSERT INTO side_effect (ns, id, execution, tool, target, idempotency_key, state, begun_at, step)
VALUES (:ns, :id, :execution, :tool, :target, :idempotency_key, :state, :begun_at, :step)
ON CONFLICT (ns, id) DO UPDATE SET
    state = iif(side_effect.state = 'done', 'done', excluded.state),
    step = coalesce(excluded.step, side_effect.step);

-- name: begin_effect
INSERT INTO side_effect (ns, id, execution, tool, target, idempotency_key, state, begun_at, step)
VALUES (:ns, :id, :execution, :tool, :target, :idempotency_key, 'intended', :begun_at, :step);

-- name: effects
SELECT side_effect.id, execution.id, tool, target, idempotency_key, side_effect.state, begun_at,
    step
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
    decided_at = coalesce(decided_at, :now)
WHERE rid = :rid;

-- name: traces_beyond
SELECT rid, id FROM execution
WHERE task = :task AND state = 'published'
ORDER BY started_at DESC, id DESC LIMIT -1 OFFSET :keep;
