// What a change would cost, and what was done so far.

// name: executions
// Ordered by what the index is, so that it ends after the first ones.
MATCH (e:Execution {namespace: $namespace})
WHERE e.started_at > 0 AND e.task IS NOT NULL AND ($agent IS NULL OR e.agent = $agent)
WITH e ORDER BY e.namespace DESC, e.started_at DESC LIMIT $limit
RETURN properties(e) ORDER BY e.started_at DESC, e.id DESC

// name: dependants
// From preconditions over the steps they guard to the tasks, and back to all their traces.
UNWIND $preconditions AS id
MATCH (p:Precondition {namespace: $namespace, id: id})
MATCH (p)-[:GUARDS]->(:Step)<-[at:HAS_STEP]-(e:Execution)
WHERE e.state = 'published' AND at.position < e.published_steps
WITH DISTINCT e.task AS task
MATCH (e:Execution {namespace: $namespace, task: task, state: 'published'})
CALL (e) {
  MATCH (e)-[at:HAS_STEP]->(s:Step)
  WHERE at.position < e.published_steps
  RETURN collect([
    s.position, s.kind, s.name, s.key, s.occurrence,
    coalesce(s.input_tokens + s.output_tokens + s.cache_creation_input_tokens
      + s.cache_read_input_tokens, 0),
    [(s)<-[:GUARDS]-(p) | p.id], [(s)<-[:FEEDS]-(u) | u.position]
  ]) AS steps
}
CALL (e) {
  MATCH (e)-[:HAS_STEP]->(:Step)<-[:GUARDS]-(p:Precondition)
  WITH DISTINCT p
  RETURN collect([p.id, p.facet, p.resource, p.selector, p.fingerprint]) AS guards
}
RETURN e.id, task, e.agent, e.started_at, e.published_steps = e.steps, steps, guards
ORDER BY e.started_at DESC, e.id DESC

// name: totals
// `folds` before and after: what was folded in between would be missing, or counted twice.
CALL () {
  OPTIONAL MATCH (c:Collection {of: $namespace})
  RETURN coalesce(max(c.folds), 0) AS before
}
CALL () {
  MATCH (d:DailyTotals)
  WHERE d.namespace = $namespace AND d.totals_of >= toString(date(datetime({epochMillis: $since})))
  RETURN collect([d.mode, d.state, d.executions, d.input_tokens + d.output_tokens
           + d.cache_creation_input_tokens + d.cache_read_input_tokens, d.saved_tokens, d.cost])
           AS folded,
         collect([d.miss, d.executions]) AS misses_folded
}
CALL () {
  MATCH (e:Execution {namespace: $namespace})
  WHERE e.started_at >= $since AND e.task IS NOT NULL
  WITH e.mode AS mode, e.state AS state, count(*) AS number,
       sum(e.input_tokens + e.output_tokens + e.cache_creation_input_tokens
         + e.cache_read_input_tokens) AS tokens,
       sum(e.saved_tokens) AS saved, sum(coalesce(e.cost, 0.0)) AS cost
  RETURN collect([mode, state, number, tokens, saved, cost]) AS groups
}
CALL () {
  MATCH (e:Execution {namespace: $namespace})
  WHERE e.started_at >= $since AND e.task IS NOT NULL
  UNWIND e.miss AS kind
  WITH kind, count(*) AS number
  RETURN collect([kind, number]) AS misses
}
CALL () {
  MATCH (e:Execution {namespace: $namespace})
  WHERE e.started_at > 0 AND e.state = 'published'
  RETURN count(e) AS traces
}
CALL () {
  OPTIONAL MATCH (c:Collection {of: $namespace})
  RETURN coalesce(max(c.folds), 0) AS after
}
CALL (misses, misses_folded) {
  CALL (misses, misses_folded) {
    UNWIND misses AS it
    RETURN it[0] AS kind, it[1] AS number
    UNION ALL
    UNWIND misses_folded AS it
    UNWIND it[0] AS kind
    RETURN kind, it[1] AS number
  }
  WITH kind, sum(number) AS number
  RETURN collect([kind, number]) AS all_misses
}
RETURN before = after AS whole, groups + folded AS groups, all_misses, traces

// name: task_keys
MATCH (t:Task)
WHERE t.namespace = $namespace AND t.key > $after
RETURN t.key AS key
ORDER BY key LIMIT $limit

// name: uris
MATCH (r:Resource)
WHERE r.namespace = $namespace AND r.uri > $after
RETURN r.uri AS uri
ORDER BY uri LIMIT $limit

// name: doubts
MATCH (f:SideEffect {namespace: $namespace})
WHERE f.id > '' AND f.state = 'intended'
RETURN f.id, f.execution, f.tool, f.target, f.idempotency_key, f.state, f.begun_at, f.step
ORDER BY f.begun_at, f.id LIMIT $limit

// name: server
CALL dbms.components() YIELD name, versions, edition
RETURN name, versions[0] AS version, edition, timestamp() AS now

// name: indexes
SHOW INDEXES YIELD name, state, populationPercent
WHERE name STARTS WITH 'execgraph_'
RETURN name, state

// name: may_write
// Changes nothing, and needs the right to.
MERGE (s:ExecgraphSchema {id: 'execgraph'})
SET s.lock = true
REMOVE s.lock
RETURN true
