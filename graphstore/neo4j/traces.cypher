// Traces: looking them up, and recording them.

// name: lookup
// Step 1 of a lookup: the task's traces, and for each of their resources what its current
// version holds, by that version's own n.
CALL () {
  MATCH (e:Execution {namespace: $namespace, task: $task, state: 'published'})
  RETURN collect(e) AS found
}
CALL (found) {
  UNWIND found AS e
  CALL (e) {
    MATCH (e)-[at:HAS_STEP]->(s:Step)
    WHERE at.position < e.published_steps
    RETURN collect([
      {{step: s.*}}, [(s)<-[:GUARDS]-(p) | p.id], [(s)<-[:FEEDS]-(u) | u.position]
    ]) AS steps
  }
  RETURN collect([properties(e), steps]) AS traces
}
CALL (found) {
  UNWIND found AS e
  MATCH (e)-[at:HAS_STEP]->(:Step)<-[:GUARDS]-(p:Precondition)
  WHERE at.position < e.published_steps
  RETURN collect(DISTINCT p) AS guards
}
CALL (guards) {
  UNWIND guards AS p
  WITH p.resource AS uri, collect(p.facet) AS facets
  MATCH (r:Resource {namespace: $namespace, uri: uri})
  WITH uri, facets, r, r.current AS current
  OPTIONAL MATCH (v:Version {namespace: $namespace, resource: uri, n: current})
  RETURN collect([
    uri, current, CASE WHEN r.since > timestamp() + 1000 THEN 0 ELSE r.until END,
    v.n, v.withdrawn,
    [(v)-[:HOLDS]->(h) WHERE h.facet IN facets | [h.selector, h.fingerprint]]
  ]) AS facts
}
RETURN timestamp() AS now, traces,
       [p IN guards | [{{precondition: p.*}}]] AS guards, facts

// name: confirm
// Step 2 of a lookup: whether anything moved since, and the payloads of the chosen trace.
// Where a version did, how often those since then hold the same of a facet.
CALL () {
  UNWIND $resources AS it
  MATCH (r:Resource {namespace: $namespace, uri: it[0]})
  WITH it, r, r.current AS current
  CALL (it, current) {
    UNWIND CASE WHEN current > it[1] THEN it[2] ELSE [] END AS wanted
    MATCH (v:Version {namespace: $namespace, resource: it[0]})
    WHERE v.n > it[1] AND v.n <= current
    MATCH (v)-[:HOLDS]->(p:Precondition)
    WHERE p.facet = wanted[0] AND p.fingerprint = wanted[1]
    RETURN count(DISTINCT [v.n, p.facet]) AS holding
  }
  RETURN collect([
    it[0], current, CASE WHEN r.since > timestamp() + 1000 THEN 0 ELSE r.until END, holding
  ]) AS facts
}
CALL () {
  UNWIND $executions AS id
  MATCH (e:Execution {namespace: $namespace, id: id})
  WHERE e.state = 'published'
  RETURN collect(e.id) AS published
}
CALL () {
  UNWIND $digests AS digest
  MATCH (x:Value {namespace: $namespace, digest: digest})
  RETURN collect([digest, x.text, x.data]) AS payloads
}
RETURN timestamp() AS now, facts, published, payloads

// name: values
UNWIND $digests AS digest
MATCH (x:Value {namespace: $namespace, digest: digest})
RETURN digest, x.text AS text, x.data AS data

// name: execution
MATCH (e:Execution {namespace: $namespace, id: $execution})
CALL (e) {
  MATCH (e)-[:HAS_STEP]->(s:Step)
  RETURN collect([
    {{step: s.*}}, [(s)<-[:GUARDS]-(p) | p.id], [(s)<-[:FEEDS]-(u) | u.position]
  ]) AS steps
}
CALL (e) {
  MATCH (e)-[:HAS_STEP]->(:Step)<-[:GUARDS]-(p:Precondition)
  WITH DISTINCT p
  RETURN collect([{{precondition: p.*}}]) AS guards
}
RETURN properties(e) AS execution, steps, guards

// name: effects
MATCH (:Execution {namespace: $namespace, id: $execution})-[:PERFORMED]->(f:SideEffect)
RETURN f.execution, {{effect: f.*}}
ORDER BY f.begun_at, f.id

// name: task
MATCH (t:Task {namespace: $namespace, key: $key})
RETURN t.agent AS agent, t.inputs AS inputs, t.context AS context

// name: intend
// The check and the intent are one statement: no row, no effect. What a later version holds is
// asked of the number that was read, never of a later read of `current`.
UNWIND $expected + [null] AS it
OPTIONAL MATCH (r:Resource {namespace: $namespace, uri: it[0]})
WITH it, r, coalesce(r.current, 0) AS current
CALL (it, current) {
  UNWIND CASE WHEN current > it[1] THEN it[3] ELSE [] END AS wanted
  MATCH (v:Version {namespace: $namespace, resource: it[0], n: current})-[:HOLDS]->(p:Precondition)
  WHERE p.id = wanted
  RETURN count(DISTINCT p.id) AS held
}
WITH count(CASE
  WHEN (current = it[1] OR held > 0 AND held = size(it[3]))
   AND (NOT it[2] OR r.state = 'present'
     AND (r.until IS NULL OR r.until > timestamp() AND coalesce(r.since, 0) <= timestamp() + 1000))
  THEN 1 END) AS matching
WHERE matching = size($expected)
MERGE (e:Execution {namespace: $namespace, id: $execution})
ON CREATE SET e.state = 'running', e.started_at = timestamp()
CREATE (f:SideEffect {namespace: $namespace, id: $id})
SET f += $effect
CREATE (e)-[:PERFORMED]->(f)
RETURN true

// name: write
// Writing a property of the execution first takes its lock; one that has its steps is left alone.
// The gate comes before all (retention.cypher). What is named is cleared of suspicion before
// payloads are written: that waits for whoever deletes one, which is then written again.
MERGE (g:Gate {of: $namespace, number: $gate})
SET g.lock = true
REMOVE g.lock
WITH g
MERGE (e:Execution {namespace: $namespace, id: $id})
SET e.lock = true
REMOVE e.lock
WITH e, CASE WHEN e.steps IS NULL THEN [e] ELSE [] END AS fresh
CALL (fresh) {
  UNWIND fresh AS e
  MERGE (t:Task {namespace: $namespace, key: $task.key})
  ON CREATE SET t += $task
  CREATE (t)-[:HAS_EXECUTION]->(e)
  SET e += $execution
  WITH e
  MATCH (source:Execution {namespace: $namespace, id: $execution.replayed})
  CREATE (e)-[:REPLAYED]->(source)
}
CALL (fresh) {
  UNWIND fresh AS e
  UNWIND $named AS digest
  MATCH (x:Value {namespace: $namespace, digest: digest})
  WHERE x.suspect IS NOT NULL
  SET x.lock = true
  REMOVE x.lock, x.suspect
}
CALL (fresh) {
  UNWIND fresh AS e
  UNWIND $values AS it
  MERGE (x:Value {namespace: $namespace, digest: it[0]})
  ON CREATE SET x.suspect = CASE WHEN it[0] IN $named THEN null ELSE 0 END
  WITH x, it
  WHERE NOT coalesce(CASE WHEN it[1] IS NULL THEN x.data = it[2] ELSE x.text = it[1] END, false)
  SET x.text = it[1], x.data = it[2], x.size = it[3], x.packed = it[4]
}
CALL (fresh) {
  UNWIND fresh AS e
  UNWIND $resources AS uri
  MERGE (r:Resource {namespace: $namespace, uri: uri})
  ON CREATE SET r.kind = split(uri, ':')[0], r.current = 0, r.state = 'absent'
}
CALL (fresh) {
  UNWIND fresh AS e
  UNWIND $facets AS it
  MERGE (f:Facet {namespace: $namespace, key: it[0]})
  ON CREATE SET f.resource = it[1], f.selector = it[2]
  WITH f, it
  WHERE NOT EXISTS { (f)<-[:HAS_FACET]-() }
  MATCH (r:Resource {namespace: $namespace, uri: it[1]})
  CREATE (r)-[:HAS_FACET]->(f)
}
CALL (fresh) {
  UNWIND fresh AS e
  UNWIND $preconditions AS it
  MERGE (p:Precondition {namespace: $namespace, id: it[0]})
  ON CREATE SET p.facet = it[1], p.resource = it[2], p.selector = it[3], p.fingerprint = it[4]
  WITH p, it
  WHERE NOT EXISTS { (p)<-[:HAS_VALUE]-() }
  MATCH (f:Facet {namespace: $namespace, key: it[1]})
  CREATE (f)-[:HAS_VALUE]->(p)
}
CALL (fresh) {
  UNWIND fresh AS e
  UNWIND $steps AS it
  CREATE (s:Step {namespace: $namespace, id: it.id, state: 'valid'})
  SET s += it
  CREATE (e)-[:HAS_STEP {position: it.position}]->(s)
  FOREACH (_ IN CASE it.kind WHEN 'decision' THEN [1] ELSE [] END | SET s:Decision)
  FOREACH (_ IN CASE it.kind WHEN 'action' THEN [1] ELSE [] END | SET s:Action)
  WITH s ORDER BY s.position
  RETURN collect(s) AS steps
}
CALL (fresh, steps) {
  UNWIND fresh AS e
  UNWIND $feeds AS it
  WITH steps[it[0]] AS from, steps[it[1]] AS to, it[2] AS fingerprint
  CREATE (from)-[:FEEDS {fingerprint: fingerprint}]->(to)
}
CALL (fresh, steps) {
  UNWIND fresh AS e
  UNWIND $guards AS it
  MATCH (p:Precondition {namespace: $namespace, id: it[0]})
  WITH p, it, steps
  UNWIND it[1] AS index
  WITH p, steps[index] AS s
  CREATE (p)-[:GUARDS]->(s)
}
CALL (fresh) {
  UNWIND fresh AS e
  UNWIND $effects AS it
  MERGE (f:SideEffect {namespace: $namespace, id: it.id})
  WITH e, f, it, f.state AS before
  SET f += it
  SET f.state = CASE before WHEN 'done' THEN before ELSE it.state END
  FOREACH (_ IN CASE WHEN EXISTS { (f)<-[:PERFORMED]-() } THEN [] ELSE [1] END |
    CREATE (e)-[:PERFORMED]->(f))
  WITH f, it
  MATCH (s:Step {namespace: $namespace, id: it.step})
  WHERE NOT EXISTS { (f)<-[:CAUSED]-() }
  CREATE (s)-[:CAUSED]->(f)
}
CALL (fresh) {
  UNWIND $resources AS uri
  MATCH (r:Resource {namespace: $namespace, uri: uri})
  RETURN collect([uri, r.current]) AS current
}
RETURN current

// name: publish
// The task's lock puts publications of one task in an order. `decided_at`: published, or
// refused, once and for all.
MATCH (e:Execution {namespace: $namespace, id: $execution})
MATCH (t:Task {namespace: $namespace, key: e.task})
SET t.lock = true
REMOVE t.lock
WITH e, e.decided_at IS NULL AND e.state <> 'failed' AS fresh
CALL (e, fresh) {
  MATCH (o:Execution {namespace: $namespace, task: e.task, state: 'published'})
  WHERE fresh
  WITH o ORDER BY o.started_at DESC, o.id DESC
  RETURN collect(o) AS others, collect(CASE WHEN o.signature = $signature THEN o.id END) AS equal
}
CALL (e) {
  MATCH (e)-[at:HAS_STEP]->(s:Step)
  WHERE at.position < $steps
  UNWIND [s.output, s.head, s.arguments] + coalesce(s.messages, []) AS digest
  WITH DISTINCT digest
  WHERE digest IS NOT NULL
  OPTIONAL MATCH (x:Value {namespace: $namespace, digest: digest})
  RETURN count(digest) > count(x) AS lost
}
WITH e, equal[0] AS equal, fresh AND size(equal) = 0 AND NOT lost AS accepted, others,
     fresh AND size(equal) = 0 AND lost AS refused
CALL (e, accepted, others) {
  UNWIND CASE WHEN accepted THEN others + [e] ELSE [] END AS o
  WITH o ORDER BY o.started_at DESC, o.id DESC SKIP $keep
  RETURN collect(o) AS beyond
}
// A guard that does not hold by now, and no event to come will tell.
CALL (e, accepted) {
  MATCH (e)-[:HAS_STEP]->(s:Step)<-[:GUARDS]-(p:Precondition)
  WHERE accepted
  WITH p, max(s.invalidated_by) AS marked
  OPTIONAL MATCH (r:Resource {namespace: $namespace, uri: p.resource})
  OPTIONAL MATCH (v:Version {namespace: $namespace, resource: p.resource, n: r.current})
  WITH p, v, marked, coalesce(r.state = 'present' AND r.expired IS NULL, false) AS believed
  WHERE marked IS NOT NULL OR NOT believed OR NOT EXISTS { (v)-[:HOLDS]->(p) }
  RETURN count(p) > 0 AS moved
}
FOREACH (_ IN CASE WHEN equal IS NULL THEN [] ELSE [1] END |
  SET e.state = 'unpublished', e.equal_to = equal, e.reason = $reason_equal + equal,
      e.decided_at = timestamp())
FOREACH (_ IN CASE WHEN refused THEN [1] ELSE [] END |
  SET e.state = 'unpublished', e.reason = $reason_lost, e.decided_at = timestamp())
FOREACH (_ IN CASE WHEN moved THEN [1] ELSE [] END |
  SET e.walk = 'open', e.walk_at = timestamp())
FOREACH (_ IN CASE WHEN accepted THEN [1] ELSE [] END |
  SET e.state = 'published', e.published_steps = $steps, e.manifest = $manifest,
      e.signature = $signature, e.decided_at = timestamp()
  REMOVE e.reason)
FOREACH (o IN beyond | SET o.state = 'unpublished', o.reason = $reason_beyond, o.decided_at = timestamp())
RETURN e.state = 'published' AS published, e.equal_to AS equal_to, [o IN beyond | o.id] AS beyond,
       moved

// name: unpublish
MATCH (e:Execution {namespace: $namespace, id: $execution})
SET e.state = CASE e.state WHEN 'failed' THEN e.state ELSE 'unpublished' END,
    e.reason = $reason, e.decided_at = timestamp()
RETURN true

// name: note_running
// One that was written meanwhile is left alone.
UNWIND $executions AS it
MERGE (e:Execution {namespace: $namespace, id: it.id})
ON CREATE SET e.state = 'running'
SET e.lock = true
REMOVE e.lock
WITH e, it
WHERE e.steps IS NULL AND e.state = 'running'
SET e += it

// name: write_replays
// The gate, and what is named, as in `write`. Of a task that is gone a replay is only counted.
MERGE (g:Gate {of: $namespace, number: $gate})
SET g.lock = true
REMOVE g.lock
WITH g
CALL () {
  UNWIND $tasks AS key
  MATCH (t:Task {namespace: $namespace, key: key})
  SET t.lock = true
  REMOVE t.lock
  RETURN collect(t.key) AS known
}
WITH known, reduce(named = [], it IN $replays |
  named + CASE WHEN it.execution.task IN known THEN it.named ELSE [] END) AS named
CALL (named) {
  UNWIND named AS digest
  WITH DISTINCT digest ORDER BY digest
  MATCH (x:Value {namespace: $namespace, digest: digest})
  WHERE x.suspect IS NOT NULL
  SET x.lock = true
  REMOVE x.lock, x.suspect
}
CALL (named) {
  UNWIND $values AS it
  MERGE (x:Value {namespace: $namespace, digest: it[0]})
  ON CREATE SET x.suspect = CASE WHEN it[0] IN named THEN null ELSE 0 END
  WITH x, it
  WHERE NOT coalesce(CASE WHEN it[1] IS NULL THEN x.data = it[2] ELSE x.text = it[1] END, false)
  SET x.text = it[1], x.data = it[2], x.size = it[3], x.packed = it[4]
}
CALL (known) {
  UNWIND $replays AS replay
  WITH replay, replay.execution AS it
  WHERE NOT it.task IN known
  WITH replay, it, toString(date(datetime({epochMillis: it.started_at}))) AS day
  MERGE (d:DailyTotals {namespace: $namespace, totals_of: day + '/' + it.mode + '/' + it.state + '/'
    + reduce(all = '', kind IN it.miss | all + kind + ',') + '/' + it.agent})
  ON CREATE SET d.day = day, d.agent = it.agent, d.mode = it.mode, d.state = it.state,
    d.miss = it.miss
  SET d.lock = true
  REMOVE d.lock
  WITH d, replay, it
  WHERE NOT it.id IN coalesce(d.late, [])
  SET {{tally: d.* = coalesce(d.*, 0) + replay.tally.*}},
    d.effects = coalesce(d.effects, 0) + size(replay.effects),
    d.miss_asked = [i IN range(0, size(it.miss) - 1) |
      coalesce(d.miss_asked[i], 0) + coalesce(it.miss_asked[i], 0)],
    d.miss_tokens = [i IN range(0, size(it.miss) - 1) |
      coalesce(d.miss_tokens[i], 0) + coalesce(it.miss_tokens[i], 0)],
    d.late = (coalesce(d.late, []) + it.id)[-1000..]
  WITH replay, it
  MATCH (e:Execution {namespace: $namespace, id: it.id})
  WHERE NOT EXISTS {
    (e)-[:PERFORMED]->(f:SideEffect)
    WHERE f.state = 'intended' AND NOT f.id IN [effect IN replay.effects | effect.id]
  }
  OPTIONAL MATCH (e)-[:PERFORMED]->(f:SideEffect)
  DETACH DELETE f, e
}
UNWIND [it IN $replays WHERE it.execution.task IN known] AS replay
MERGE (e:Execution {namespace: $namespace, id: replay.execution.id})
SET e.lock = true
REMOVE e.lock
WITH e, replay, CASE WHEN e.steps IS NULL THEN [e] ELSE [] END AS fresh
CALL (fresh, replay) {
  UNWIND fresh AS e
  SET e += replay.execution
  WITH e, replay
  MATCH (t:Task {namespace: $namespace, key: replay.execution.task})
  CREATE (t)-[:HAS_EXECUTION]->(e)
}
CALL (fresh, replay) {
  UNWIND fresh AS e
  MATCH (source:Execution {namespace: $namespace, id: replay.execution.replayed})
  CREATE (e)-[:REPLAYED]->(source)
}
CALL (fresh, replay) {
  UNWIND fresh AS e
  UNWIND replay.effects AS it
  MERGE (f:SideEffect {namespace: $namespace, id: it.id})
  WITH e, f, it, f.state AS before
  SET f += it
  SET f.state = CASE before WHEN 'done' THEN before ELSE it.state END
  FOREACH (_ IN CASE WHEN EXISTS { (f)<-[:PERFORMED]-() } THEN [] ELSE [1] END |
    CREATE (e)-[:PERFORMED]->(f))
  WITH f, it
  MATCH (s:Step {namespace: $namespace, id: it.step})
  WHERE NOT EXISTS { (f)<-[:CAUSED]-() }
  CREATE (s)-[:CAUSED]->(f)
}
RETURN true
