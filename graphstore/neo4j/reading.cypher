// What a change would cost, and what was done so far.

// name: executions
// Ordered by what the index is, so that it ends after the first ones. CASE and no OR: that would
// have the planner give up the order, and read all.
MATCH (e:Execution)
USING INDEX e:Execution(namespace, started_at)
WHERE e.namespace = $namespace AND e.started_at >= $since AND e.started_at <= $started_at
  AND CASE e.started_at WHEN $started_at THEN e.id < $id ELSE true END
  AND CASE WHEN $ended THEN e.task IS NOT NULL ELSE true END
WITH e ORDER BY e.namespace DESC, e.started_at DESC, e.id DESC LIMIT $limit
RETURN properties(e) ORDER BY e.started_at DESC, e.id DESC

// name: executions_of_{{by}}
MATCH (e:Execution)
USING INDEX e:Execution(namespace, {{by}}, started_at)
WHERE e.namespace = $namespace AND e.{{by}} = $value
  AND e.started_at >= $since AND e.started_at <= $started_at
  AND CASE e.started_at WHEN $started_at THEN e.id < $id ELSE true END
  AND CASE WHEN $ended THEN e.task IS NOT NULL ELSE true END
WITH e ORDER BY e.namespace DESC, e.{{by}} DESC, e.started_at DESC, e.id DESC LIMIT $limit
RETURN properties(e) ORDER BY e.started_at DESC, e.id DESC

// name: execution_ids
MATCH (e:Execution)
WHERE e.namespace = $namespace AND e.id STARTS WITH $prefix
WITH e ORDER BY e.namespace, e.id LIMIT $limit
RETURN e.id AS id ORDER BY id

// name: effect_ids
MATCH (f:SideEffect)
WHERE f.namespace = $namespace AND f.id STARTS WITH $prefix
WITH f ORDER BY f.namespace, f.id LIMIT $limit
RETURN f.id AS id ORDER BY id

// name: approval_ids
MATCH (a:Approval)
WHERE a.namespace = $namespace AND a.id STARTS WITH $prefix
WITH a ORDER BY a.namespace, a.id LIMIT $limit
RETURN a.id AS id ORDER BY id

// name: lengths
UNWIND $executions AS id
MATCH (e:Execution {namespace: $namespace, id: id})
WHERE e.steps IS NOT NULL
RETURN e.id AS id, e.steps AS steps

// name: next_agent
MATCH (e:Execution)
USING INDEX e:Execution(namespace, agent, started_at)
WHERE e.namespace = $namespace AND e.agent > $after AND e.started_at > 0
WITH e ORDER BY e.namespace, e.agent LIMIT 1
RETURN e.agent AS agent

// name: tasks_of_agent
// Of the newest executions, those that can still be served: their tasks have a trace.
MATCH (e:Execution)
USING INDEX e:Execution(namespace, agent, started_at)
WHERE e.namespace = $namespace AND e.agent = $agent AND e.started_at > 0 AND e.task IS NOT NULL
WITH e ORDER BY e.namespace DESC, e.agent DESC, e.started_at DESC LIMIT $limit
MATCH (t:Task {namespace: $namespace, key: e.task})
WHERE EXISTS { (:Execution {namespace: $namespace, task: e.task, state: 'published'}) }
RETURN t.key, t.agent, t.inputs, t.context ORDER BY e.started_at DESC, e.id DESC

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
  RETURN collect([{{precondition: p.*}}]) AS guards
}
RETURN e.id, task, e.agent, e.started_at, e.published_steps = e.steps, e.published_steps AS published,
       steps, guards
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
  RETURN collect([d.agent, d.mode, d.state, {{tally: coalesce(d.*, 0)}}]) AS folded,
  collect([d.miss, d.miss_asked, d.miss_tokens]) AS misses_folded
}
// One that has not ended, and whose process is dead or that is not heard of, was killed.
CALL () {
  MATCH (e:Execution {namespace: $namespace})
  WHERE e.started_at >= $since
  WITH e, coalesce(e.agent, '') AS agent, coalesce(e.mode, 'live') AS mode,
       CASE WHEN e.state = 'running'
              AND (e.started_at + coalesce(e.duration_ms, 0) <= timestamp() - $silent
                OR e.process IN $dead)
         THEN 'killed' ELSE e.state END AS state
  WITH agent, mode, state, count(*) AS executions, {{usage: sum(coalesce(e.*, 0)) AS *}},
       sum(coalesce(e.asked, 0)) AS asked, sum(coalesce(e.served, 0)) AS served,
       sum(coalesce(e.saved_tokens, 0)) AS saved_tokens, sum(coalesce(e.cost, 0.0)) AS cost,
       sum(CASE WHEN e.cost IS NULL AND (e.task IS NOT NULL OR e.asked > 0) THEN 1 ELSE 0 END)
         AS unpriced,
       sum(coalesce(e.saved_cost, 0.0)) AS saved_cost,
       sum(CASE WHEN e.saved_cost IS NULL AND (e.served > 0 OR e.saved_tokens > 0)
         THEN 1 ELSE 0 END) AS saved_unpriced
  RETURN collect([agent, mode, state, {{tally: *}}]) AS groups
}
CALL () {
  MATCH (e:Execution {namespace: $namespace})
  WHERE e.started_at >= $since AND size(e.miss) > 0
  UNWIND range(0, size(e.miss) - 1) AS i
  WITH e.miss[i] AS kind, sum(coalesce(e.miss_asked[i], 0)) AS asked,
       sum(coalesce(e.miss_tokens[i], 0)) AS tokens
  RETURN collect([kind, asked, tokens]) AS misses
}
CALL () {
  MATCH (e:Execution {namespace: $namespace})
  WHERE e.started_at > 0 AND e.state IN ['published', 'unapproved', 'rejected']
  RETURN count(CASE e.state WHEN 'published' THEN 1 END) AS traces,
         count(CASE e.state WHEN 'unapproved' THEN 1 END) AS unapproved,
         count(CASE e.state WHEN 'rejected' THEN 1 END) AS rejected
}
CALL () {
  OPTIONAL MATCH (c:Collection {of: $namespace})
  RETURN coalesce(max(c.folds), 0) AS after
}
RETURN before = after AS whole, groups + folded AS groups,
       misses + reduce(all = [], it IN misses_folded | all
         + [i IN range(0, size(it[0]) - 1) | [it[0][i], it[1][i], it[2][i]]]) AS misses, traces,
       unapproved, rejected

// name: task_keys
MATCH (t:Task)
WHERE t.namespace = $namespace AND t.key > $after
RETURN t.key AS key
ORDER BY key LIMIT $limit

// name: next_namespace
// The first one after another in which there is something: two seeks, however much there is.
CALL () {
  CALL () {
    MATCH (e:Execution)
    WHERE e.namespace > $after AND e.started_at > 0
    RETURN e.namespace AS name
    ORDER BY e.namespace LIMIT 1
  UNION ALL
    MATCH (r:Resource)
    WHERE r.namespace > $after AND r.uri > ''
    RETURN r.namespace AS name
    ORDER BY r.namespace LIMIT 1
  }
  RETURN min(name) AS name
}
RETURN name

// name: uris
MATCH (r:Resource)
WHERE r.namespace = $namespace AND r.uri > $after
RETURN r.uri AS uri
ORDER BY uri LIMIT $limit

// name: doubts
MATCH (f:SideEffect {namespace: $namespace})
WHERE f.id > '' AND f.state = 'intended'
RETURN f.execution, {{effect: f.*}}
ORDER BY f.begun_at, f.id LIMIT $limit

// name: server
CALL dbms.components() YIELD name, versions, edition
RETURN name, versions[0] AS version, edition, timestamp() AS now

// name: indexes
SHOW INDEXES YIELD name, state, populationPercent
WHERE name STARTS WITH 'execgraph_'
RETURN name, state

// name: now
RETURN timestamp() AS now

// name: may_write
// Changes nothing, and needs the right to.
MERGE (s:ExecgraphSchema {id: 'execgraph'})
SET s.lock = true
REMOVE s.lock
RETURN true
