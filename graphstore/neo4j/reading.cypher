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
RETURN groups, misses, traces
