-- What the view shows: nodes and relationships as Neo4j has them. A node's first column is its
-- number, unique among those of its label; a relationship's first two are those of its ends.
-- :steps and :versions spread the numbers of steps and versions.

-- Nodes, by label ---------------------------------------------------------------------------

-- name: Task
SELECT task.rid, namespace.name AS namespace, key, agent, inputs, context
FROM task JOIN namespace ON namespace.rid = task.ns;

-- name: Execution
-- Of one that has not ended there is no more than what is known of it.
SELECT execution.rid, namespace.name AS namespace, id, task.key AS task,
    iif(unknown, NULL, execution.agent) AS agent, iif(unknown, NULL, mode) AS mode,
    state, started_at,
    iif(unknown, NULL, duration_ms) AS duration_ms, iif(task IS NULL, NULL, steps) AS steps,
    iif(task IS NULL, NULL, published_steps) AS published_steps, manifest, signature, replayed,
    output, iif(unknown, NULL, input_tokens) AS input_tokens,
    iif(unknown, NULL, output_tokens) AS output_tokens,
    iif(unknown, NULL, cache_creation_input_tokens) AS cache_creation_input_tokens,
    iif(unknown, NULL, cache_read_input_tokens) AS cache_read_input_tokens,
    iif(unknown, NULL, cache_creation_1h_input_tokens) AS cache_creation_1h_input_tokens,
    iif(unknown, NULL, web_search_requests) AS web_search_requests,
    iif(task IS NULL, NULL, saved_tokens) AS saved_tokens, cost,
    iif(task IS NULL, NULL, labels) AS labels, reason, iif(task IS NULL, NULL, miss) AS miss,
    report, iif(unknown, NULL, asked) AS asked, iif(task IS NULL, NULL, served) AS served,
    saved_cost, iif(task IS NULL, NULL, miss_asked) AS miss_asked,
    iif(task IS NULL, NULL, miss_tokens) AS miss_tokens, decided_at, equal_to
FROM (
    SELECT *, task IS NULL AND agent = '' AS unknown FROM execution
) AS execution
JOIN namespace ON namespace.rid = execution.ns
LEFT JOIN task ON task.rid = execution.task;

-- name: Step
SELECT step.execution * :steps + step.position, namespace.name AS namespace,
    execution.id || '/' || step.position AS id, execution.id AS execution, step.position, kind, step.name,
    step.key, occurrence, code_key, step.output, output_key, error, step.duration_ms,
    iif(mark.position IS NULL, 'valid', 'invalid') AS state, precondition.id AS invalidated_by,
    shared, messages, head, extends, step.input_tokens, step.output_tokens,
    step.cache_creation_input_tokens, step.cache_read_input_tokens,
    step.cache_creation_1h_input_tokens, step.web_search_requests, effect, arguments, decision,
    call, asked_at, seen, step.cost
FROM step
JOIN execution ON execution.rid = step.execution
JOIN namespace ON namespace.rid = execution.ns
LEFT JOIN mark ON mark.execution = step.execution AND mark.position = step.position
LEFT JOIN precondition ON precondition.rid = mark.invalidated_by;

-- name: Value
SELECT value.rid, namespace.name AS namespace, digest, codec, data
FROM value JOIN namespace ON namespace.rid = value.ns;

-- name: SideEffect
SELECT side_effect.rid, namespace.name AS namespace, side_effect.id, execution.id AS execution,
    tool, target, idempotency_key, side_effect.state, begun_at, step
FROM side_effect
JOIN namespace ON namespace.rid = side_effect.ns
JOIN execution ON execution.rid = side_effect.execution;

-- name: Resource
SELECT resource.rid, namespace.name AS namespace, uri,
    substr(uri, 1, instr(uri || ':', ':') - 1) AS kind, current,
    iif(present, 'present', iif(current, 'withdrawn', 'absent')) AS state, until, since,
    nullif(expired, 0) AS expired
FROM resource JOIN namespace ON namespace.rid = resource.ns;

-- name: Version
SELECT resource * :versions + n, namespace.name AS namespace, uri AS resource, n,
    document IS NULL AS withdrawn, document, fingerprint, at
FROM version
JOIN resource ON resource.rid = version.resource
JOIN namespace ON namespace.rid = resource.ns;

-- name: Facet
SELECT facet.rid, namespace.name AS namespace, key, uri AS resource, selector
FROM facet
JOIN resource ON resource.rid = facet.resource
JOIN namespace ON namespace.rid = facet.ns;

-- name: Precondition
SELECT precondition.rid, namespace.name AS namespace, id, facet.key AS facet, uri AS resource,
    selector, fingerprint
FROM precondition
JOIN facet ON facet.rid = precondition.facet
JOIN resource ON resource.rid = facet.resource
JOIN namespace ON namespace.rid = precondition.ns;

-- name: ChangeEvent
SELECT change_event.rid, namespace.name AS namespace, id, uri AS resource, kind, from_version,
    to_version, source, at
FROM change_event
JOIN resource ON resource.rid = change_event.resource
JOIN namespace ON namespace.rid = change_event.ns;

-- name: DailyTotals
SELECT daily_totals.rid, namespace.name AS namespace, day, agent, mode, state, miss, executions,
    input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens,
    cache_creation_1h_input_tokens, web_search_requests, saved_tokens, cost, effects, unpriced,
    asked, served, saved_cost, saved_unpriced, miss_asked, miss_tokens
FROM daily_totals JOIN namespace ON namespace.rid = daily_totals.ns;

-- Relationships, by type --------------------------------------------------------------------

-- name: HAS_EXECUTION
SELECT task, rid FROM execution WHERE task IS NOT NULL;

-- name: HAS_STEP
SELECT execution, execution * :steps + position, position FROM step;

-- name: REPLAYED
SELECT execution.rid, source.rid
FROM execution JOIN execution AS source
    ON source.ns = execution.ns AND source.id = execution.replayed;

-- name: PERFORMED
SELECT execution, rid FROM side_effect;

-- name: CAUSED
-- A step's id is that of its execution, a slash, and its position.
SELECT step.execution * :steps + step.position, effect.rid
FROM (
    SELECT rid, ns, step, length(rtrim(step, '0123456789')) AS slash
    FROM side_effect WHERE step IS NOT NULL
) AS effect
JOIN execution ON execution.ns = effect.ns AND execution.id = substr(effect.step, 1, slash - 1)
JOIN step ON step.execution = execution.rid
    AND step.position = CAST(substr(effect.step, slash + 1) AS INTEGER);

-- name: FEEDS
SELECT feeds.execution * :steps + source, feeds.execution * :steps + target, step.output_key
FROM feeds JOIN step ON step.execution = feeds.execution AND step.position = feeds.source;

-- name: GUARDS
SELECT precondition, execution * :steps + position FROM guard;

-- name: HOLDS
SELECT facet.resource * :versions + holds.n, holds.precondition
FROM holds JOIN facet ON facet.rid = holds.facet;

-- name: HAS_VALUE
SELECT facet, rid FROM precondition;

-- name: HAS_VERSION
SELECT resource, resource * :versions + n FROM version;

-- name: HAS_FACET
SELECT resource, rid FROM facet;

-- name: CHANGED
SELECT event, facet, before, after FROM changed;

-- name: FROM
-- The version that was replaced may be gone.
SELECT rid, version.resource * :versions + version.n
FROM change_event
JOIN version ON version.resource = change_event.resource
    AND version.n = change_event.from_version;

-- name: TO
SELECT rid, resource * :versions + to_version FROM change_event;
