-- What the view shows: nodes and relationships as Neo4j has them. A node's first column is its
-- number, unique among those of its label; a relationship's first two are those of its ends.
-- :steps and :versions spread the numbers of steps and versions. Of a node's columns those count
-- that are among the properties of its label, and of those with one name the last; `ns` is that of
-- its namespace.

-- Nodes, by label ---------------------------------------------------------------------------

-- name: Task
SELECT rid, * FROM task;

-- name: Execution
-- Of one that is begun by an effect nothing is told; one that has not ended is not written.
SELECT execution.rid, execution.*, task.key AS task, told.agent, told.mode, told.duration_ms,
    {{usage: told.*}}, told.asked, written.steps, written.published_steps, written.saved_tokens, written.labels,
    written.miss, written.served, written.miss_asked, written.miss_tokens
FROM execution
LEFT JOIN task ON task.rid = execution.task
LEFT JOIN execution AS told
    ON told.rid = execution.rid AND (told.task IS NOT NULL OR told.agent <> '')
LEFT JOIN execution AS written ON written.rid = execution.rid AND written.task IS NOT NULL;

-- name: Step
SELECT step.execution * :steps + step.position, step.*, ns,
    execution.id || '/' || step.position AS id, execution.id AS execution,
    iif(mark.position IS NULL, 'valid', 'invalid') AS state, (
        SELECT id FROM precondition WHERE rid = mark.invalidated_by
    ) AS invalidated_by
FROM step
JOIN execution ON execution.rid = step.execution
LEFT JOIN mark ON mark.execution = step.execution AND mark.position = step.position
WHERE kind = :kind;

-- name: Value
SELECT rid, * FROM value;

-- name: SideEffect
SELECT side_effect.rid, side_effect.*, execution.id AS execution
FROM side_effect JOIN execution ON execution.rid = side_effect.execution;

-- name: Approval
SELECT rid, * FROM approval;

-- name: Resource
SELECT rid, *, substr(uri, 1, instr(uri || ':', ':') - 1) AS kind,
    iif(present, 'present', iif(current, 'withdrawn', 'absent')) AS state,
    nullif(expired, 0) AS expired
FROM resource;

-- name: Version
SELECT resource * :versions + n, version.*, ns, uri AS resource, document IS NULL AS withdrawn
FROM version JOIN resource ON resource.rid = version.resource;

-- name: Facet
SELECT facet.rid, facet.*, uri AS resource
FROM facet JOIN resource ON resource.rid = facet.resource;

-- name: Precondition
SELECT precondition.rid, precondition.*, facet.key AS facet, uri AS resource, selector
FROM precondition
JOIN facet ON facet.rid = precondition.facet
JOIN resource ON resource.rid = facet.resource;

-- name: ChangeEvent
SELECT change_event.rid, change_event.*, uri AS resource
FROM change_event JOIN resource ON resource.rid = change_event.resource;

-- name: DailyTotals
SELECT rid, * FROM daily_totals;

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

-- name: ALLOWED
SELECT approval.rid, side_effect.rid
FROM side_effect JOIN approval ON approval.ns = side_effect.ns AND approval.id = side_effect.approval;

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
