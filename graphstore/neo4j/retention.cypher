// Retention: what there is, in pages, and how it goes. The rules are in graphstore/retention.py; why
// this is right while others write is told in docs/decisions/0017-payload-collection-on-neo4j.md.
// Whoever deletes holds the lock of the namespace's Collection, so that collections take turns;
// `epoch` counts the looks at payloads.

// name: traces
// Indexes are read in their order, so that a task with a million replays costs as much as one
// with a few. No OR stands beside such an order: a planner may make two unordered seeks of it, and
// read all there is.
MATCH (t:Task)
WHERE t.namespace = $namespace AND t.key > $after
WITH t ORDER BY t.namespace, t.key LIMIT $most
OPTIONAL MATCH (e:Execution {namespace: $namespace, task: t.key, state: 'published'})
USING INDEX e:Execution(namespace, task, state)
CALL (e) {
  MATCH (x:Execution)
  USING INDEX x:Execution(namespace, replayed, started_at)
  WHERE x.namespace = $namespace AND x.replayed = e.id AND x.started_at >= 0
  WITH x ORDER BY x.namespace DESC, x.replayed DESC, x.started_at DESC, x.id DESC LIMIT 1
  RETURN collect(x)[0] AS use
}
RETURN t.key AS task, e.id AS id,
       toInteger(coalesce(
         CASE WHEN use.started_at + use.duration_ms > e.started_at + e.duration_ms
         THEN use.started_at + use.duration_ms ELSE e.started_at + e.duration_ms END, 0)) AS used,
       use.id AS use
ORDER BY task, e.started_at DESC, e.id DESC

// name: histories
UNWIND $tasks AS task
CALL (task) {
  MATCH (e:Execution)
  USING INDEX e:Execution(namespace, task, started_at)
  WHERE e.namespace = $namespace AND e.task = task AND e.started_at >= 0
    AND CASE WHEN e.state IN ['unpublished', 'failed', 'unapproved'] THEN true
      WHEN e.state = 'rejected' THEN e.equal_to IS NOT NULL ELSE e.id IN $going END
  WITH e ORDER BY e.namespace DESC, e.task DESC, e.started_at DESC, e.id DESC LIMIT $kept
  WITH collect([e.started_at, e.id, e.reason]) AS newest
  RETURN newest[$kept - 1] AS edge, any(it IN newest WHERE it[2] IN $reasons) AS expelled
}
CALL (task) {
  MATCH (e:Execution)
  USING INDEX e:Execution(namespace, task, started_at)
  WHERE e.namespace = $namespace AND e.task = task AND e.started_at >= 0
    AND CASE WHEN e.state IN ['unpublished', 'failed', 'unapproved'] THEN true
      WHEN e.state = 'rejected' THEN e.equal_to IS NOT NULL ELSE e.id IN $going END
  WITH e ORDER BY e.namespace, e.task, e.started_at LIMIT 1
  RETURN collect(e.started_at)[0] AS oldest
}
RETURN task, edge[0] AS start, edge[1] AS id, oldest, expelled

// name: runs
MATCH (e:Execution)
USING INDEX e:Execution(namespace, task, started_at)
WHERE e.namespace = $namespace AND e.task = $task
  AND e.started_at >= $started_at AND e.started_at <= $until
  AND [e.started_at, e.id] > [$started_at, $id]
  AND CASE WHEN e.state IN ['unpublished', 'failed', 'unapproved'] THEN true
    WHEN e.state = 'rejected' THEN e.equal_to IS NOT NULL ELSE e.id IN $going END
WITH e ORDER BY e.namespace, e.task, e.started_at, e.id LIMIT $most
RETURN e.id AS id, e.started_at AS started_at,
       toInteger(CASE WHEN e.decided_at > e.started_at + e.duration_ms THEN e.decided_at
                 ELSE e.started_at + e.duration_ms END) AS ended,
       e.reason AS reason, coalesce(e.steps, 0) AS steps,
       coalesce(e.walk, '') = 'open'
         OR EXISTS { (e)-[:PERFORMED]->(f:SideEffect)
           WHERE f.state = 'intended' OR NOT f.once STARTS WITH 'wish:' } AS held

// name: killed
MATCH (e:Execution)
WHERE e.namespace = $namespace AND e.started_at <= $until
  AND e.state = 'running' AND e.steps IS NULL AND e.agent IS NOT NULL
  AND e.started_at + coalesce(e.duration_ms, 0) <= $until
  AND NOT EXISTS { (e)-[:PERFORMED]->() }
RETURN e.id AS id, e.started_at AS started_at,
       toInteger(e.started_at + coalesce(e.duration_ms, 0)) AS ended, null AS reason, 0 AS steps,
       false AS held LIMIT $most

// name: unanswered
MATCH (a:Approval)
WHERE a.namespace = $namespace AND a.state = 'pending' AND a.requested_at <= $until
  AND a.expires_at <= $until
RETURN a.id AS id LIMIT $most

// name: pasts
MATCH (r:Resource)
WHERE r.namespace = $namespace AND r.uri > $after
WITH r ORDER BY r.namespace, r.uri LIMIT $most
CALL (r) {
  MATCH (v:Version)
  WHERE v.namespace = $namespace AND v.resource = r.uri AND v.n > 0
  WITH v ORDER BY v.namespace, v.resource, v.n LIMIT 1
  RETURN collect([v.n, v.at])[0] AS oldest
}
CALL (r) {
  MATCH (v:Version {namespace: $namespace, resource: r.uri, n: r.current})<-[:TO]-(c:ChangeEvent)
  WHERE c.kind IN ['expired', 'renewed']
  RETURN count(c) AS expiries, min(c.at) AS first
}
RETURN r.uri AS resource, r.current AS current, oldest[0] AS n, oldest[1] AS at, expiries, first

// name: versions
MATCH (v:Version)
WHERE v.namespace = $namespace AND v.resource = $resource AND v.n > $after
WITH v ORDER BY v.namespace, v.resource, v.n LIMIT $most
RETURN v.n AS n, v.at AS at,
       EXISTS { (v)<-[:TO]-(c:ChangeEvent) WHERE c.walk = 'open' } AS held

// name: expiries
MATCH (r:Resource {namespace: $namespace, uri: $resource})
MATCH (v:Version {namespace: $namespace, resource: r.uri, n: r.current})<-[:TO]-(c:ChangeEvent)
WHERE c.kind IN ['expired', 'renewed']
WITH c ORDER BY c.moment DESC SKIP $skip LIMIT $most
RETURN c.id AS id, c.at AS at, coalesce(c.walk, '') = 'open' AS held

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
  UNWIND $executions AS id
  MATCH (e:Execution {namespace: $namespace, id: id})
  WITH DISTINCT e.task AS key
  ORDER BY key
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
  WHERE (e.state IN ['unpublished', 'failed', 'unapproved']
      OR e.state = 'rejected' AND e.equal_to IS NOT NULL
      OR e.state = 'running' AND e.steps IS NULL)
    AND coalesce(e.walk, '') <> 'open'
    AND NOT EXISTS { (e)-[:PERFORMED]->(f:SideEffect)
      WHERE f.state = 'intended' OR NOT f.once STARTS WITH 'wish:' }
    // A listing may have seen it before it was the newest replay of a trace, and the trace after.
    AND NOT (
      EXISTS { (:Execution {namespace: $namespace, id: e.replayed, state: 'published'}) }
      AND NOT EXISTS {
        MATCH (x:Execution)
        WHERE x.namespace = $namespace AND x.replayed = e.replayed AND x.started_at >= e.started_at
          AND [x.started_at, x.id] > [e.started_at, e.id]
      }
    )
  RETURN collect(e) AS gone
}
// One that has not ended was killed.
CALL (gone) {
  UNWIND gone AS e
  WITH e, toString(date(datetime({epochMillis: e.started_at}))) AS day,
       coalesce(e.agent, '') AS agent, coalesce(e.mode, 'live') AS mode,
       CASE e.state WHEN 'running' THEN 'killed' ELSE e.state END AS state,
       coalesce(e.miss, []) AS miss, COUNT { (e)-[:PERFORMED]->() } AS effects,
       {executions: 1, {{usage: *: coalesce(e.*, 0)}}, asked: coalesce(e.asked, 0),
        served: coalesce(e.served, 0), saved_tokens: coalesce(e.saved_tokens, 0),
        cost: coalesce(e.cost, 0.0), saved_cost: coalesce(e.saved_cost, 0.0),
        unpriced: CASE WHEN e.cost IS NULL AND (e.task IS NOT NULL OR e.asked > 0)
          THEN 1 ELSE 0 END,
        saved_unpriced: CASE WHEN e.saved_cost IS NULL AND (e.served > 0 OR e.saved_tokens > 0)
          THEN 1 ELSE 0 END} AS tally
  WITH *, day + '/' + mode + '/' + state + '/' + reduce(all = '', kind IN miss | all + kind + ',')
    + '/' + agent AS key
  ORDER BY key
  MERGE (d:DailyTotals {namespace: $namespace, totals_of: key})
  ON CREATE SET d.day = day, d.agent = agent, d.mode = mode, d.state = state, d.miss = miss
  SET d.lock = true
  REMOVE d.lock
  SET {{tally: d.* = coalesce(d.*, 0) + tally.*}}, d.effects = coalesce(d.effects, 0) + effects,
    d.miss_asked = [i IN range(0, size(miss) - 1) |
      coalesce(d.miss_asked[i], 0) + coalesce(e.miss_asked[i], 0)],
    d.miss_tokens = [i IN range(0, size(miss) - 1) |
      coalesce(d.miss_tokens[i], 0) + coalesce(e.miss_tokens[i], 0)]
  RETURN sum(CASE mode WHEN 'replay' THEN 1 ELSE 0 END) AS replays, sum(effects) AS effects
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

// name: delete_approvals
UNWIND $approvals AS id
MATCH (a:Approval {namespace: $namespace, id: id})
SET a.lock = true
REMOVE a.lock
WITH a
WHERE a.state = 'pending'
DELETE a
RETURN count(*) AS deleted

// name: delete_versions
// With the events that led to them, and these of versions that stay.
MERGE (c:Collection {of: $namespace})
SET c.lock = true
REMOVE c.lock
SET c.epoch = coalesce(c.epoch, 1)
WITH c
CALL () {
  UNWIND $resources AS uri
  MATCH (r:Resource {namespace: $namespace, uri: uri})
  SET r.lock = true
  REMOVE r.lock
}
CALL () {
  UNWIND $versions AS it
  MATCH (r:Resource {namespace: $namespace, uri: it[0]})
  MATCH (v:Version {namespace: $namespace, resource: it[0], n: it[1]})
  WHERE v.n < r.current
    AND NOT EXISTS { (v)<-[:TO]-(e:ChangeEvent) WHERE e.walk = 'open' }
  RETURN collect(v) AS gone
}
CALL (gone) {
  CALL (gone) {
    UNWIND gone AS v
    MATCH (v)<-[:TO]-(e:ChangeEvent)
    RETURN e
    UNION
    UNWIND $events AS id
    MATCH (e:ChangeEvent {namespace: $namespace, id: id})
    WHERE coalesce(e.walk, '') <> 'open'
    RETURN e
  }
  RETURN collect(e) AS events  // also of none: another collection may have been faster
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
WITH held, gone, events, size(gone) AS deleted, size(events) AS told
FOREACH (e IN events | DETACH DELETE e)
FOREACH (v IN gone | DETACH DELETE v)
WITH held, deleted, told
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

// name: look_at
// One page of what names payloads: of that kind whose cursor is given, the next after it.
CALL () {
  MATCH (s:Step)
  WHERE s.namespace = $namespace AND s.id > $steps
  WITH s ORDER BY s.namespace, s.id LIMIT $page
  RETURN s.id AS at, [s.output, s.head, s.arguments] + coalesce(s.messages, []) AS named
  UNION ALL
  MATCH (e:Execution)
  WHERE e.namespace = $namespace AND e.id > $executions
  WITH e ORDER BY e.namespace, e.id LIMIT $page
  RETURN e.id AS at, [e.output, e.report] AS named
  UNION ALL
  MATCH (t:Task)
  WHERE t.namespace = $namespace AND t.key > $tasks
  WITH t ORDER BY t.namespace, t.key LIMIT $page
  RETURN t.key AS at, [t.inputs, t.context] AS named
  UNION ALL
  MATCH (r:Resource)
  WHERE r.namespace = $namespace AND r.uri > $versions
  WITH r ORDER BY r.namespace, r.uri LIMIT $page
  RETURN r.uri AS at, [(r)-[:HAS_VERSION]->(v) | v.document] AS named
}
WITH collect([at, named]) AS seen
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

// name: sizes
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

// name: foreseen
// What deleting all of this would come to. Payloads: what it names or what is suspected already,
// and no trace that its task keeps names.
CALL () {
  UNWIND $executions AS id
  MATCH (e:Execution {namespace: $namespace, id: id})
  RETURN count(CASE e.mode WHEN 'replay' THEN null ELSE e END) AS others,
         count(CASE e.mode WHEN 'replay' THEN e END) AS replays,
         sum(COUNT { (e)-[:PERFORMED]->() }) AS effects
}
CALL () {
  UNWIND $executions AS id
  MATCH (e:Execution {namespace: $namespace, id: id})
  WITH e.task AS key, count(*) AS gone
  MATCH (t:Task {namespace: $namespace, key: key})
  RETURN collect(key) AS touched,
         collect(CASE COUNT { (t)-[:HAS_EXECUTION]->() } WHEN gone THEN key END) AS tasks
}
CALL () {
  UNWIND $versions AS it
  MATCH (v:Version {namespace: $namespace, resource: it[0], n: it[1]})<-[:TO]-(c:ChangeEvent)
  RETURN count(c) + size($events) AS events
}
CALL () {
  CALL () {
    UNWIND $executions AS id
    MATCH (e:Execution {namespace: $namespace, id: id})
    MATCH (e)-[:HAS_STEP]->(:Step)<-[:GUARDS]-(p:Precondition)
    RETURN p, count(*) AS rested, 0 AS held
    UNION ALL
    UNWIND $versions AS it
    MATCH (v:Version {namespace: $namespace, resource: it[0], n: it[1]})
    MATCH (v)-[:HOLDS]->(p:Precondition)
    RETURN p, 0 AS rested, count(*) AS held
  }
  WITH p, sum(rested) AS rested, sum(held) AS held
  RETURN collect([p, rested, held]) AS losing
}
CALL (losing) {
  UNWIND losing AS it
  WITH it[0] AS p, it[1] AS rested
  WHERE rested > 0
  MATCH (f:Facet)-[:HAS_VALUE]->(p)
  WITH f, sum(rested) AS rested
  MATCH (f)-[:HAS_VALUE]->(q:Precondition)
  WITH f, rested, sum(COUNT { (q)-[:GUARDS]->() }) AS resting
  WHERE rested = resting
  RETURN collect(f) AS facets
}
CALL (losing, facets) {
  CALL (losing, facets) {
    UNWIND facets AS f
    MATCH (f)-[:HAS_VALUE]->(p:Precondition)
    RETURN p
    UNION
    UNWIND losing AS it
    WITH it[0] AS p, it[1] AS rested, it[2] AS held
    WHERE COUNT { (p)-[:GUARDS]->() } = rested AND COUNT { (p)<-[:HOLDS]-() } = held
    RETURN p
  }
  RETURN count(p) AS preconditions
}
RETURN others, replays, effects, events, preconditions, size(facets) AS facets, tasks, touched

// name: foreseen_payloads
// What is deleted names them, or they are suspected already; and no trace that its task keeps
// names them.
CALL () {
  UNWIND $touched AS key
  MATCH (e:Execution {namespace: $namespace, task: key, state: 'published'})
  WHERE NOT e.id IN $executions
  RETURN e, true AS kept
  UNION ALL
  UNWIND $executions AS id
  MATCH (e:Execution {namespace: $namespace, id: id})
  RETURN e, false AS kept
}
CALL (e) {
  MATCH (e)-[:HAS_STEP]->(s:Step)
  UNWIND [s.output, s.head, s.arguments] + coalesce(s.messages, []) AS digest
  RETURN collect(DISTINCT digest) AS named
}
WITH collect([kept, named + [e.output, e.report]]) AS of_executions
CALL (of_executions) {
  UNWIND of_executions AS it
  UNWIND it[1] AS digest
  RETURN digest, it[0] AS kept
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
