// Retention: what goes, and how it goes. Why this is right while others write is told in
// docs/decisions/0017-payload-collection-on-neo4j.md. Whoever deletes holds the lock of the
// namespace's Collection, so that collections take turns; `epoch` counts the looks at payloads.

// name: doomed_executions
// Of the next tasks: traces to unpublish, and executions to delete. The two indexes are read in
// their order, so that a task with a million replays costs no more than what is taken of it. What
// is beyond the history goes first: what else goes would make room in it.
WITH timestamp() AS now
MATCH (t:Task)
WHERE t.namespace = $namespace AND t.key > $cursor
WITH t, now ORDER BY t.namespace, t.key LIMIT $page
CALL (t, now) {
  MATCH (e:Execution {namespace: $namespace, task: t.key, state: 'published'})
  CALL (e) {
    MATCH (x:Execution)
    WHERE x.namespace = $namespace AND x.replayed = e.id AND x.started_at >= 0
    WITH x ORDER BY x.namespace DESC, x.replayed DESC, x.started_at DESC, x.id DESC LIMIT 1
    RETURN collect(x) AS newest
  }
  WITH e, newest, now,
       reduce(used = 0.0, x IN [e] + newest | CASE WHEN x.started_at + x.duration_ms > used
         THEN x.started_at + x.duration_ms ELSE used END) AS used
  ORDER BY e.started_at DESC, e.id DESC
  WITH collect([e.id, used]) AS traces, collect([x IN newest | x.id]) AS newest
  RETURN reduce(ids = [], some IN newest | ids + some) AS lately,
         [it IN traces[$traces..] | [it[0], $reason_beyond]]
         + [it IN traces[..$traces] WHERE it[1] <= now - $max_age | [it[0], $unused]] AS unpublish
}
CALL (t, now, lately) {
  CALL (t, now) {
    MATCH (e:Execution)
    USING INDEX e:Execution(namespace, task, started_at)
    WHERE e.namespace = $namespace AND e.task = t.key AND e.started_at >= 0
      AND e.state IN ['unpublished', 'failed']
    WITH e ORDER BY e.namespace DESC, e.task DESC, e.started_at DESC, e.id DESC
    SKIP $history
    RETURN e,
           CASE WHEN e.decided_at > e.started_at + e.duration_ms THEN e.decided_at
           ELSE e.started_at + e.duration_ms END AS ended
    UNION ALL
    MATCH (e:Execution)
    USING INDEX e:Execution(namespace, task, started_at)
    WHERE e.namespace = $namespace AND e.task = t.key AND e.started_at >= 0
      AND e.state IN ['unpublished', 'failed']
    WITH e, now ORDER BY e.namespace DESC, e.task DESC, e.started_at DESC, e.id DESC
    LIMIT $history
    WITH e, now,
         CASE WHEN e.decided_at > e.started_at + e.duration_ms THEN e.decided_at
         ELSE e.started_at + e.duration_ms END AS ended
    WHERE ended <= now - $history_age OR e.reason IN [$unused, $oversize]
    RETURN e, ended
  }
  WITH e, ended, now, lately
  WHERE ended <= now - $grace AND NOT e.id IN lately AND coalesce(e.walk, '') <> 'open'
    AND NOT EXISTS { (e)-[:PERFORMED]->(f:SideEffect) WHERE f.state = 'intended' }
  WITH e LIMIT $batch
  RETURN collect([e.id, e.steps, e.mode]) AS gone
}
RETURN t.key AS task, unpublish, gone

// name: doomed_killed
// What was paid for by runs that never ended, and of which nothing is in doubt.
MATCH (e:Execution)
WHERE e.namespace = $namespace AND e.started_at <= timestamp() - $history_age
  AND e.state = 'running' AND e.steps IS NULL AND e.agent IS NOT NULL
  AND e.started_at + coalesce(e.duration_ms, 0) <= timestamp() - $history_age
  AND e.started_at + coalesce(e.duration_ms, 0) <= timestamp() - $grace
  AND NOT EXISTS { (e)-[:PERFORMED]->() }
RETURN e.id LIMIT $batch

// name: expel
// Traces are unpublished in a transaction of their own, before they are deleted in another.
UNWIND $traces AS it
MATCH (e:Execution {namespace: $namespace, id: it[0]})
SET e.lock = true
REMOVE e.lock
WITH e, it
WHERE e.state = 'published'
SET e.state = 'unpublished', e.reason = it[1], e.decided_at = timestamp()
RETURN count(e) AS unpublished

// name: delete_executions
// Folded into the totals of their days and deleted at once. Tasks before executions, as in
// `publish`. What only these named is suspected; nodes that others join to are deleted plainly,
// which fails where somebody has joined to them meanwhile.
MERGE (c:Collection {of: $namespace})
SET c.lock = true
REMOVE c.lock
SET c.epoch = coalesce(c.epoch, 1), c.folds = coalesce(c.folds, 0) + 1
WITH c
CALL () {
  UNWIND $tasks AS key
  MATCH (t:Task {namespace: $namespace, key: key})
  SET t.lock = true
  REMOVE t.lock
  RETURN collect(t) AS tasks
}
CALL () {
  UNWIND $executions AS id
  MATCH (e:Execution {namespace: $namespace, id: id})
  SET e.lock = true
  REMOVE e.lock
  WITH e
  WHERE (e.state IN ['unpublished', 'failed'] OR e.state = 'running' AND e.steps IS NULL)
    AND coalesce(e.walk, '') <> 'open'
    AND NOT EXISTS { (e)-[:PERFORMED]->(f:SideEffect) WHERE f.state = 'intended' }
  RETURN collect(e) AS gone
}
// One that has not ended was killed.
CALL (gone) {
  UNWIND gone AS e
  WITH e, toString(date(datetime({epochMillis: e.started_at}))) AS day,
       coalesce(e.agent, '') AS agent, coalesce(e.mode, 'live') AS mode,
       CASE e.state WHEN 'running' THEN 'killed' ELSE e.state END AS state,
       coalesce(e.miss, []) AS miss
  WITH day, agent, mode, state, miss, count(*) AS executions, {{usage: sum(coalesce(e.*, 0)) AS *}},
       sum(coalesce(e.asked, 0)) AS asked, sum(coalesce(e.served, 0)) AS served,
       sum(coalesce(e.saved_tokens, 0)) AS saved_tokens, sum(coalesce(e.cost, 0.0)) AS cost,
       sum(CASE WHEN e.cost IS NULL AND (e.task IS NOT NULL OR e.asked > 0) THEN 1 ELSE 0 END)
         AS unpriced,
       sum(coalesce(e.saved_cost, 0.0)) AS saved_cost,
       sum(CASE WHEN e.saved_cost IS NULL AND (e.served > 0 OR e.saved_tokens > 0)
         THEN 1 ELSE 0 END) AS saved_unpriced,
       collect([coalesce(e.miss_asked, []), coalesce(e.miss_tokens, [])]) AS missed,
       sum(COUNT { (e)-[:PERFORMED]->() }) AS effects
  WITH *, day + '/' + mode + '/' + state + '/' + reduce(all = '', kind IN miss | all + kind + ',')
    + '/' + agent AS key
  ORDER BY key
  MERGE (d:DailyTotals {namespace: $namespace, totals_of: key})
  ON CREATE SET d.day = day, d.agent = agent, d.mode = mode, d.state = state, d.miss = miss
  SET d.lock = true
  REMOVE d.lock
  SET {{tally: d.* = coalesce(d.*, 0) + *}}, d.effects = coalesce(d.effects, 0) + effects,
    d.miss_asked = [i IN range(0, size(miss) - 1) | reduce(
      sum = coalesce(d.miss_asked[i], 0), it IN missed | sum + coalesce(it[0][i], 0))],
    d.miss_tokens = [i IN range(0, size(miss) - 1) | reduce(
      sum = coalesce(d.miss_tokens[i], 0), it IN missed | sum + coalesce(it[1][i], 0))]
  RETURN sum(CASE mode WHEN 'replay' THEN executions ELSE 0 END) AS replays,
         sum(effects) AS effects
}
// The output of a replay is that of a trace, as a rule.
CALL (tasks) {
  UNWIND tasks AS t
  MATCH (o:Execution {namespace: $namespace, task: t.key, state: 'published'})
  RETURN collect(o.output) AS outputs
}
CALL (c, gone, outputs) {
  UNWIND gone AS e
  CALL (e) {
    MATCH (e)-[:HAS_STEP]->(s:Step)
    UNWIND [s.output, s.head, s.arguments] + coalesce(s.messages, []) AS digest
    RETURN collect(DISTINCT digest) AS named
  }
  UNWIND named + [e.report, CASE WHEN e.output IN outputs THEN null ELSE e.output END] AS digest
  WITH DISTINCT c, digest
  ORDER BY digest
  MATCH (x:Value {namespace: $namespace, digest: digest})
  SET x.suspect = c.epoch
}
CALL (gone) {
  UNWIND gone AS e
  MATCH (e)-[:HAS_STEP]->(:Step)<-[:GUARDS]-(p:Precondition)
  RETURN collect(DISTINCT p) AS guards
}
WITH c, tasks, gone, guards, replays, effects, size(gone) AS deleted
CALL (gone) {
  UNWIND gone AS e
  OPTIONAL MATCH (e)-[:PERFORMED]->(f:SideEffect)
  DETACH DELETE f
}
CALL (gone) {
  UNWIND gone AS e
  OPTIONAL MATCH (e)-[:HAS_STEP]->(s:Step)
  DETACH DELETE s
}
FOREACH (e IN gone | DETACH DELETE e)
WITH c, tasks, guards, replays, effects, deleted
CALL (guards) {
  UNWIND guards AS p
  WITH p
  WHERE NOT EXISTS { (p)-[:GUARDS]->() }
  SET p.suspect = 2
}
CALL (c, tasks) {
  UNWIND tasks AS t
  WITH c, t
  WHERE NOT EXISTS { (t)-[:HAS_EXECUTION]->() }
  CALL (c, t) {
    UNWIND [t.inputs, t.context] AS digest
    MATCH (x:Value {namespace: $namespace, digest: digest})
    SET x.suspect = c.epoch
  }
  DELETE t
  RETURN count(*) AS ended
}
RETURN deleted, replays, effects, ended

// name: doomed_versions
WITH timestamp() AS now
MATCH (r:Resource)
WHERE r.namespace = $namespace AND r.uri > $cursor
WITH r, now ORDER BY r.namespace, r.uri LIMIT $page
CALL (r, now) {
  MATCH (v:Version)
  WHERE v.namespace = $namespace AND v.resource = r.uri AND v.n > 0 AND v.n < r.current
    AND v.at <= now - $grace AND (v.n < r.current - $versions OR v.at <= now - $history_age)
    AND NOT EXISTS { (v)<-[:TO]-(c:ChangeEvent) WHERE c.walk = 'open' }
  WITH v ORDER BY v.namespace, v.resource, v.n LIMIT $batch
  RETURN collect([v.n, COUNT { (v)<-[:TO]-() }]) AS gone
}
// Expiries and renewals of the current version; the newest event of the resource stays.
CALL (r, now) {
  CALL (r, now) {
    MATCH (c:ChangeEvent)
    WHERE c.namespace = $namespace AND c.resource = r.uri AND c.moment > 0
      AND c.to_version = r.current
    WITH c, now ORDER BY c.namespace DESC, c.resource DESC, c.moment DESC
    SKIP 1 LIMIT CASE WHEN $versions > 1 THEN $versions - 1 ELSE 0 END
    WITH c, now
    WHERE c.at <= now - $history_age
    RETURN c
    UNION ALL
    MATCH (c:ChangeEvent)
    WHERE c.namespace = $namespace AND c.resource = r.uri AND c.moment > 0
      AND c.to_version = r.current
    WITH c ORDER BY c.namespace DESC, c.resource DESC, c.moment DESC
    SKIP CASE WHEN $versions > 1 THEN $versions ELSE 1 END
    RETURN c
  }
  WITH c, now
  WHERE c.kind IN ['expired', 'renewed'] AND c.at <= now - $grace
    AND coalesce(c.walk, '') <> 'open'
  WITH c LIMIT $batch
  RETURN collect(c.id) AS events
}
RETURN r.uri AS resource, gone, events

// name: delete_versions
MERGE (c:Collection {of: $namespace})
SET c.lock = true
REMOVE c.lock
SET c.epoch = coalesce(c.epoch, 1)
WITH c
CALL () {
  UNWIND $resources AS it
  MATCH (r:Resource {namespace: $namespace, uri: it[0]})
  SET r.lock = true
  REMOVE r.lock
  RETURN collect([r, it[1], it[2]]) AS locked
}
CALL (locked) {
  UNWIND locked AS it
  WITH it[0] AS r, it[1] AS numbers
  UNWIND numbers AS n
  MATCH (v:Version {namespace: $namespace, resource: r.uri, n: n})
  WHERE v.n < r.current
    AND NOT EXISTS { (v)<-[:TO]-(e:ChangeEvent) WHERE e.walk = 'open' }
  RETURN collect(v) AS gone
}
CALL (locked) {
  UNWIND locked AS it
  UNWIND it[2] AS id
  MATCH (e:ChangeEvent {namespace: $namespace, id: id})
  WHERE coalesce(e.walk, '') <> 'open'
  RETURN collect(e) AS late
}
CALL (c, gone) {
  UNWIND gone AS v
  WITH DISTINCT c, v.document AS digest
  ORDER BY digest
  MATCH (x:Value {namespace: $namespace, digest: digest})
  SET x.suspect = c.epoch
}
CALL (gone) {
  UNWIND gone AS v
  MATCH (v)-[:HOLDS]->(p:Precondition)
  RETURN collect(DISTINCT p) AS held
}
CALL (gone) {
  UNWIND gone AS v
  MATCH (v)<-[:TO]-(e:ChangeEvent)
  RETURN collect(e) AS events
}
WITH held, gone, events + late AS events, size(gone) AS deleted
FOREACH (e IN events | DETACH DELETE e)
FOREACH (v IN gone | DETACH DELETE v)
WITH held, deleted, size(events) AS told
CALL (held) {
  UNWIND held AS p
  WITH p
  WHERE NOT EXISTS { (p)-[:GUARDS]->() } AND NOT EXISTS { (p)<-[:HOLDS]-() }
  SET p.suspect = coalesce(p.suspect, 1)
}
RETURN deleted, told

// name: idle_preconditions
// 2: the last step that rested on it has gone, 1: the last version that held it.
MATCH (p:Precondition)
WHERE p.namespace = $namespace AND p.suspect >= 1
RETURN p.id AS id, p.resource AS resource LIMIT $batch

// name: delete_preconditions
// The resource's lock first, as in `change` and `hold`, which count its facets. A run that rests
// on one of these meanwhile makes the plain DELETE fail, and this is done again.
MERGE (c:Collection {of: $namespace})
SET c.lock = true
REMOVE c.lock
WITH c
CALL () {
  UNWIND $resources AS uri
  MATCH (r:Resource {namespace: $namespace, uri: uri})
  SET r.lock = true
  REMOVE r.lock
  RETURN collect(r) AS resources
}
CALL () {
  UNWIND $preconditions AS id
  MATCH (p:Precondition {namespace: $namespace, id: id})
  SET p.lock = true
  REMOVE p.lock
  WITH p, p.suspect AS suspect
  REMOVE p.suspect
  WITH p, suspect
  WHERE NOT EXISTS { (p)-[:GUARDS]->() }
  RETURN collect(p) AS idle, collect(CASE suspect WHEN 2 THEN p END) AS left
}
CALL (left) {
  UNWIND left AS p
  MATCH (f:Facet)-[:HAS_VALUE]->(p)
  WITH DISTINCT f
  WHERE NOT EXISTS { (f)-[:HAS_VALUE]->(:Precondition)-[:GUARDS]->() }
  RETURN collect(f) AS facets
}
CALL (idle, facets) {
  CALL (idle, facets) {
    UNWIND facets AS f
    MATCH (f)-[:HAS_VALUE]->(p:Precondition)
    RETURN p
    UNION
    UNWIND idle AS p
    WITH p
    WHERE NOT EXISTS { (p)<-[:HOLDS]-() }
    RETURN p
  }
  RETURN collect(p) AS gone
}
WITH resources, facets, gone, size(facets) AS facet_count, size(gone) AS precondition_count
CALL (gone) {
  UNWIND gone AS p
  OPTIONAL MATCH (p)<-[held:HOLDS|HAS_VALUE]-()
  DELETE held
}
FOREACH (p IN gone | DELETE p)
WITH resources, facets, facet_count, precondition_count
CALL (facets) {
  UNWIND facets AS f
  OPTIONAL MATCH (f)<-[of:HAS_FACET|CHANGED]-()
  DELETE of
}
FOREACH (f IN facets | DELETE f)
WITH resources, facet_count, precondition_count
CALL (resources) {
  UNWIND resources AS r
  WITH r
  WHERE r.current = 0 AND NOT EXISTS { (r)--() }
  DELETE r
}
RETURN precondition_count AS preconditions, facet_count AS facets

// name: look_state
// Where the look at payloads has come to, or else whether another is worth it: at least one
// suspect for so many steps as the last one read.
OPTIONAL MATCH (c:Collection {of: $namespace})
CALL (c) {
  MATCH (x:Value)
  WHERE x.namespace = $namespace AND x.suspect >= 0 AND c.phase IS NULL
  RETURN count(x) AS suspects
}
RETURN c.phase AS phase, c.cursor AS cursor, c.scanned AS scanned,
       suspects > coalesce(c.looked, 0) / $steps_a_suspect AS suspects

// name: begin_look
// All gates are passed once: whoever writes has ended then, or sees what is suspected by now.
MERGE (c:Collection {of: $namespace})
SET c.lock = true
REMOVE c.lock
WITH c
WHERE c.phase IS NULL
CALL () {
  UNWIND range(0, $gates - 1) AS number
  MERGE (g:Gate {of: $namespace, number: number})
  SET g.lock = true
  REMOVE g.lock
}
SET c.scanned = coalesce(c.epoch, 1), c.epoch = coalesce(c.epoch, 1) + 1, c.phase = $phase,
    c.cursor = '', c.looked = 0
RETURN true

// name: look_at_steps
MATCH (s:Step)
WHERE s.namespace = $namespace AND s.id > $cursor
WITH s ORDER BY s.namespace, s.id LIMIT $page
WITH collect([s.id, [s.output, s.head, s.arguments] + coalesce(s.messages, [])]) AS seen
CALL (seen) {
  UNWIND seen AS it
  UNWIND it[1] AS digest
  WITH DISTINCT digest
  MATCH (x:Value {namespace: $namespace, digest: digest})
  WHERE x.suspect <= $scanned
  RETURN collect(digest) AS met
}
RETURN seen[-1][0] AS last, size(seen) AS size, met

// name: look_at_executions
MATCH (e:Execution)
WHERE e.namespace = $namespace AND e.id > $cursor
WITH e ORDER BY e.namespace, e.id LIMIT $page
WITH collect([e.id, [e.output, e.report]]) AS seen
CALL (seen) {
  UNWIND seen AS it
  UNWIND it[1] AS digest
  WITH DISTINCT digest
  MATCH (x:Value {namespace: $namespace, digest: digest})
  WHERE x.suspect <= $scanned
  RETURN collect(digest) AS met
}
RETURN seen[-1][0] AS last, size(seen) AS size, met

// name: look_at_tasks
MATCH (t:Task)
WHERE t.namespace = $namespace AND t.key > $cursor
WITH t ORDER BY t.namespace, t.key LIMIT $page
WITH collect([t.key, [t.inputs, t.context]]) AS seen
CALL (seen) {
  UNWIND seen AS it
  UNWIND it[1] AS digest
  WITH DISTINCT digest
  MATCH (x:Value {namespace: $namespace, digest: digest})
  WHERE x.suspect <= $scanned
  RETURN collect(digest) AS met
}
RETURN seen[-1][0] AS last, size(seen) AS size, met

// name: look_at_versions
// By resource: its versions are at most those that retention keeps, and those that are due.
MATCH (r:Resource)
WHERE r.namespace = $namespace AND r.uri > $cursor
WITH r ORDER BY r.namespace, r.uri LIMIT $page
WITH collect([r.uri, [(r)-[:HAS_VERSION]->(v) | v.document]]) AS seen
CALL (seen) {
  UNWIND seen AS it
  UNWIND it[1] AS digest
  WITH DISTINCT digest
  MATCH (x:Value {namespace: $namespace, digest: digest})
  WHERE x.suspect <= $scanned
  RETURN collect(digest) AS met
}
RETURN seen[-1][0] AS last, size(seen) AS size, met

// name: cleared
// What a page named is cleared, and the look goes on; unless another process was faster.
MATCH (c:Collection {of: $namespace})
SET c.lock = true
REMOVE c.lock
WITH c
WHERE c.phase = $phase AND c.cursor = $cursor AND c.scanned = $scanned
CALL () {
  UNWIND $met AS digest
  MATCH (x:Value {namespace: $namespace, digest: digest})
  SET x.lock = true
  REMOVE x.lock
  WITH x
  WHERE x.suspect <= $scanned
  REMOVE x.suspect
}
SET c.phase = $next, c.cursor = $last, c.looked = c.looked + $steps
RETURN true

// name: suspects
MATCH (x:Value)
WHERE x.namespace = $namespace AND x.suspect >= 0 AND x.suspect <= $scanned
RETURN x.digest AS digest LIMIT $batch

// name: delete_values
// A run that names one of them has it locked and cleared, or finds it gone.
MATCH (c:Collection {of: $namespace})
SET c.lock = true
REMOVE c.lock
WITH c
WHERE c.phase = $phase AND c.scanned = $scanned
CALL () {
  UNWIND $digests AS digest
  MATCH (x:Value {namespace: $namespace, digest: digest})
  SET x.lock = true
  REMOVE x.lock
  WITH x
  WHERE x.suspect <= $scanned
  WITH x, coalesce(x.packed, x.size, 0) AS bytes
  DELETE x
  RETURN count(*) AS deleted, sum(bytes) AS bytes
}
FOREACH (_ IN CASE WHEN size($digests) = 0 THEN [1] ELSE [] END | REMOVE c.phase, c.cursor)
RETURN deleted, bytes

// name: stored_bytes
MATCH (x:Value)
WHERE x.namespace = $namespace AND x.digest > ''
RETURN sum(coalesce(x.packed, x.size, 0)) AS bytes

// name: traces_by_use
// `waiting`: unpublished for their size already, and not gone yet.
CALL () {
  MATCH (o:Execution)
  WHERE o.namespace = $namespace AND o.started_at >= 0
    AND o.state = 'unpublished' AND o.reason = $oversize
    AND coalesce(o.walk, '') <> 'open'
    AND NOT EXISTS { (o)-[:PERFORMED]->(f:SideEffect) WHERE f.state = 'intended' }
  WITH o LIMIT 1
  RETURN count(o) AS waiting
}
MATCH (e:Execution)
WHERE e.namespace = $namespace AND e.started_at >= 0 AND e.state = 'published'
CALL (e) {
  MATCH (x:Execution)
  WHERE x.namespace = $namespace AND x.replayed = e.id AND x.started_at >= 0
  WITH x ORDER BY x.namespace DESC, x.replayed DESC, x.started_at DESC, x.id DESC LIMIT 1
  RETURN max(x.started_at + x.duration_ms) AS replayed
}
WITH e, waiting, CASE WHEN replayed > e.started_at + e.duration_ms THEN replayed
                 ELSE e.started_at + e.duration_ms END AS used
ORDER BY used, e.id LIMIT $batch
RETURN e.id AS id, waiting

// name: payloads_of
UNWIND $executions AS id
MATCH (e:Execution {namespace: $namespace, id: id})
CALL (e) {
  MATCH (e)-[:HAS_STEP]->(s:Step)
  UNWIND [s.output, s.head, s.arguments] + coalesce(s.messages, []) AS digest
  RETURN collect(DISTINCT digest) AS named
}
UNWIND named + [e.output, e.report] AS digest
WITH DISTINCT id, digest
MATCH (x:Value {namespace: $namespace, digest: digest})
RETURN id, digest, coalesce(x.packed, x.size, 0) AS bytes

// name: all_executions
// Of the next tasks, all that a dry run must know.
WITH timestamp() AS now
MATCH (t:Task)
WHERE t.namespace = $namespace AND t.key > $cursor
WITH t, now ORDER BY t.namespace, t.key LIMIT $page
CALL (t) {
  MATCH (e:Execution)
  USING INDEX e:Execution(namespace, task, started_at)
  WHERE e.namespace = $namespace AND e.task = t.key AND e.started_at >= 0
  WITH e, CASE WHEN e.decided_at > e.started_at + e.duration_ms THEN e.decided_at
          ELSE e.started_at + e.duration_ms END AS ended
  RETURN collect([
    e.id, e.state, e.started_at, ended, e.started_at + e.duration_ms, e.reason, e.mode, e.replayed,
    coalesce(e.walk, '') = 'open'
      OR EXISTS { (e)-[:PERFORMED]->(f:SideEffect) WHERE f.state = 'intended' },
    COUNT { (e)-[:PERFORMED]->() }
  ]) AS executions
}
RETURN t.key AS task, now, executions

// name: would_be_idle
CALL () {
  UNWIND $executions AS id
  MATCH (e:Execution {namespace: $namespace, id: id})
  MATCH (e)-[:HAS_STEP]->(:Step)<-[:GUARDS]-(p:Precondition)
  RETURN collect(DISTINCT p) AS guards
}
CALL () {
  UNWIND $versions AS it
  MATCH (v:Version {namespace: $namespace, resource: it[0], n: it[1]})
  MATCH (v)-[:HOLDS]->(p:Precondition)
  RETURN collect(DISTINCT p) AS held
}
CALL (guards) {
  UNWIND guards AS p
  WITH p
  WHERE NOT EXISTS { (p)-[:GUARDS]->(s:Step) WHERE NOT s.execution IN $executions }
  MATCH (f:Facet)-[:HAS_VALUE]->(p)
  WITH DISTINCT f
  WHERE NOT EXISTS {
    (f)-[:HAS_VALUE]->(:Precondition)-[:GUARDS]->(s:Step)
    WHERE NOT s.execution IN $executions
  }
  RETURN collect(f) AS facets
}
CALL (guards, held, facets) {
  UNWIND facets AS f
  MATCH (f)-[:HAS_VALUE]->(p:Precondition)
  RETURN p
  UNION
  UNWIND guards + held AS p
  WITH p
  WHERE NOT EXISTS { (p)-[:GUARDS]->(s:Step) WHERE NOT s.execution IN $executions }
    AND NOT EXISTS { (p)<-[:HOLDS]-(v:Version) WHERE NOT [v.resource, v.n] IN $versions }
  RETURN p
}
RETURN count(p) AS preconditions, size(facets) AS facets

// name: would_be_suspected
// What is deleted names it, or it is suspected already; and no trace that its task keeps names it.
CALL () {
  UNWIND $executions AS id
  MATCH (e:Execution {namespace: $namespace, id: id})
  CALL (e) {
    MATCH (e)-[:HAS_STEP]->(s:Step)
    UNWIND [s.output, s.head, s.arguments] + coalesce(s.messages, []) AS digest
    RETURN collect(DISTINCT digest) AS named
  }
  UNWIND named + [e.output, e.report] AS digest
  RETURN digest, e.id IN $kept AS kept
  UNION
  UNWIND $tasks AS key
  MATCH (t:Task {namespace: $namespace, key: key})
  UNWIND [t.inputs, t.context] AS digest
  RETURN digest, false AS kept
  UNION
  UNWIND $versions AS it
  MATCH (v:Version {namespace: $namespace, resource: it[0], n: it[1]})
  RETURN v.document AS digest, false AS kept
  UNION
  MATCH (x:Value)
  WHERE x.namespace = $namespace AND x.suspect >= 0
  RETURN x.digest AS digest, false AS kept
}
WITH digest, max(CASE WHEN kept THEN 1 ELSE 0 END) AS kept
WHERE digest IS NOT NULL AND kept = 0
MATCH (x:Value {namespace: $namespace, digest: digest})
RETURN count(x) AS number, sum(coalesce(x.packed, x.size, 0)) AS bytes
