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
RETURN t.key AS key, t.agent AS agent, t.inputs AS inputs, t.context AS context

// name: intend
// The check and the intent are one statement: no row, no effect. What a later version holds is
// asked of the number that was read, never of a later read of `current`. Who loses a race for
// `once` fails at its constraint, and finds the effect when this is tried again. A wish with a run
// id and an approval are locked before anything is read: so no other run comes to hold the wish
// meanwhile, and the approval is used up with the intent.
CALL () {
  UNWIND $fence AS key
  OPTIONAL MATCH (w:Wish {namespace: $namespace, key: key})
  SET w.lock = true
  REMOVE w.lock
  WITH w
  WHERE w IS NULL OR w.execution <> $holder
  RETURN count(*) AS lost
}
WITH lost
WHERE lost = 0
OPTIONAL MATCH (a:Approval {namespace: $namespace, id: $approval})
SET a.lock = true
REMOVE a.lock
WITH a, datetime.realtime().epochMillis AS now
OPTIONAL MATCH (known:SideEffect {namespace: $namespace, once: $once})
WHERE known.id <> $id OR known.state <> 'intended'
CALL (known, a, now) {
  WITH known
  WHERE known IS NOT NULL
  RETURN known AS f
  UNION
  WITH known, a, now
  WHERE known IS NULL AND CASE WHEN $approval IS NULL THEN true ELSE
    a.state IN ['pending', 'approved'] AND a.expires_at > now AND a.requested_at <= now + 1000 END
  UNWIND $expected + [null] AS it
  OPTIONAL MATCH (r:Resource {namespace: $namespace, uri: it[0]})
  WITH a, now, it, r, coalesce(r.current, 0) AS current
  CALL (it, current) {
    UNWIND CASE WHEN current > it[1] THEN it[3] ELSE [] END AS wanted
    MATCH (v:Version {namespace: $namespace, resource: it[0], n: current})-[:HOLDS]->
      (p:Precondition)
    WHERE p.id = wanted
    RETURN count(DISTINCT p.id) AS held
  }
  WITH a, now, count(CASE
    WHEN (current = it[1] OR held > 0 AND held = size(it[3]))
     AND (NOT it[2] OR r.state = 'present'
       AND (r.until IS NULL
         OR r.until > timestamp() AND coalesce(r.since, 0) <= timestamp() + 1000))
    THEN 1 END) AS matching
  CALL () {
    UNWIND $traces AS id
    MATCH (x:Execution {namespace: $namespace, id: id})
    WHERE x.state = 'rejected'
    RETURN count(x) AS rejected
  }
  WITH a, now, matching, rejected
  WHERE matching = size($expected) AND rejected = 0
  SET a.by = CASE a.state WHEN 'pending' THEN $approved_by ELSE a.by END,
    a.answered_at = coalesce(a.answered_at, now), a.effect = $id
  SET a.state = 'used'
  MERGE (e:Execution {namespace: $namespace, id: $execution})
  ON CREATE SET e += $begun, e.state = 'running', e.started_at = timestamp()
  MERGE (f:SideEffect {namespace: $namespace, id: $id})
  SET f += $effect, f.approved_by = a.by
  MERGE (e)-[:PERFORMED]->(f)
  FOREACH (by IN CASE WHEN a IS NULL THEN [] ELSE [a] END | MERGE (by)-[:ALLOWED]->(f))
  FOREACH (it IN $wish |
    MERGE (w:Wish {namespace: $namespace, key: it.key})
    ON CREATE SET w += it, w.state = 'running', w.at = timestamp())
  FOREACH (it IN $entries |
    MERGE (j:JournalEntry {namespace: $namespace, execution: it.execution, number: it.number})
    ON CREATE SET j += it)
  RETURN f
}
RETURN f.execution, {{effect: f.*}}

// name: end_effect
// What is done stays done, and what was not performed is not in doubt again. By what it was known
// another one may have begun since somebody said that it was not performed.
MATCH (f:SideEffect {namespace: $namespace, id: $id})
SET f.lock = true
REMOVE f.lock
WITH f
WHERE f.state = 'intended' OR f.state = 'not performed' AND $state = 'done'
OPTIONAL MATCH (other:SideEffect {namespace: $namespace, once: $once})
WHERE other.id <> $id
SET f.state = $state, f.output_text = coalesce($output_text, f.output_text),
  f.once = CASE WHEN other IS NULL THEN $once END
RETURN true

// name: effect
MATCH (f:SideEffect {namespace: $namespace, id: $id})
RETURN f.execution, {{effect: f.*}}

// name: rejected
UNWIND $executions AS id
MATCH (e:Execution {namespace: $namespace, id: id})
WHERE e.state = 'rejected'
RETURN e.id AS id, e.reason AS reason

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
  WHERE coalesce(x.suspect, -1) >= 0  // and not by the index of those in doubt
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
  ON CREATE SET f += it, f.state = 'intended', f.once = null
  SET f.lock = true, f.step = coalesce(it.step, f.step)
  REMOVE f.lock
  WITH e, f, it
  OPTIONAL MATCH (other:SideEffect {namespace: $namespace, once: it.once})
  WHERE other.id <> f.id
  // As in `end_effect`.
  FOREACH (_ IN CASE WHEN f.state = 'intended' OR f.state = 'not performed' AND it.state = 'done'
    THEN [1] ELSE [] END |
    SET f.state = it.state, f.output_text = coalesce(it.output_text, f.output_text),
      f.once = CASE WHEN other IS NULL THEN it.once END)
  FOREACH (_ IN CASE WHEN EXISTS { (f)<-[:PERFORMED]-() } THEN [] ELSE [1] END |
    CREATE (e)-[:PERFORMED]->(f))
  WITH f, it
  MATCH (s:Step {namespace: $namespace, id: it.step})
  WHERE NOT EXISTS { (f)<-[:CAUSED]-() }
  CREATE (s)-[:CAUSED]->(f)
}
CALL (fresh) {
  UNWIND fresh AS e
  MATCH (w:Wish {namespace: $namespace, execution: $id})
  SET w.lock = true
  REMOVE w.lock
  WITH w
  WHERE w.execution = $id AND w.state = 'running'
  FOREACH (_ IN CASE $execution.state WHEN 'failed' THEN [1] ELSE [] END |
    SET w.state = 'failed', w.at = timestamp())
  FOREACH (_ IN CASE WHEN $execution.state <> 'failed' AND w.run_id IS NULL
    THEN [1] ELSE [] END | DELETE w)
}
CALL (fresh) {
  UNWIND $resources AS uri
  MATCH (r:Resource {namespace: $namespace, uri: uri})
  RETURN collect([uri, r.current]) AS current
}
RETURN current

// name: publish
// The task's lock puts publications of one task in an order. `decided_at`: published, or
// refused, once and for all; but what waits is decided again when it is approved, and what was
// rejected when that is overruled. What stands in the way then is lifted first.
MATCH (e:Execution {namespace: $namespace, id: $execution})
MATCH (t:Task {namespace: $namespace, key: e.task})
SET t.lock = true
REMOVE t.lock
WITH e
SET e.lock = true
REMOVE e.lock
WITH e, coalesce($steps, e.published_steps) AS steps, coalesce($manifest, e.manifest) AS manifest,
     coalesce($signature, e.signature) AS signature,
     CASE WHEN $approves
       THEN e.state = 'unapproved'
         OR $overrule AND e.state = 'rejected' AND coalesce(e.published_steps, 0) > 0
       ELSE e.decided_at IS NULL AND e.state <> 'failed' END AS fresh
CALL (e, steps, signature, fresh) {
  MATCH (x:Execution {namespace: $namespace, task: e.task, state: 'rejected'})
  WHERE fresh AND x.equal_to IS NULL AND x.id <> e.id
  CALL (x) {
    OPTIONAL MATCH (x)-[:HAS_STEP]->(d:Decision)
    WITH d ORDER BY d.position DESC LIMIT 1
    RETURN d.key AS key, d.output_key AS output_key
  }
  WITH e, x, key, output_key, steps, signature
  WHERE x.signature = signature OR EXISTS {
    MATCH (e)-[at:HAS_STEP]->(d:Decision)
    WHERE at.position < steps AND d.key = key AND d.output_key = output_key
  }
  RETURN collect(x) AS rejections
}
CALL (e, rejections, fresh) {
  MATCH (x:Execution {namespace: $namespace, task: e.task, state: 'rejected'})
  WHERE $overrule AND fresh AND (x IN rejections OR x.equal_to = e.id
    OR x.equal_to IN [it IN rejections | it.id])
  RETURN collect(x) AS lifted
}
WITH e, steps, manifest, signature, fresh, lifted,
     CASE WHEN $overrule THEN [] ELSE rejections END AS rejections
FOREACH (x IN lifted |
  SET x.state = 'unpublished', x.reason = $reason_lifted, x.decided_at = timestamp()
  REMOVE x.equal_to)
WITH e, steps, manifest, signature, fresh, rejections[0] AS rejection
CALL (e, signature, fresh) {
  UNWIND CASE $state WHEN 'published' THEN ['published'] ELSE ['published', $state] END AS state
  MATCH (o:Execution {namespace: $namespace, task: e.task, state: state})
  WHERE fresh AND o.id <> e.id
  WITH o, signature ORDER BY o.state, o.started_at DESC, o.id DESC
  RETURN collect(CASE o.state WHEN $state THEN o END) AS others,
         collect(CASE WHEN o.signature = signature THEN o.id END) AS equal
}
CALL (e, steps) {
  MATCH (e)-[at:HAS_STEP]->(s:Step)
  WHERE at.position < steps
  UNWIND [s.output, s.head, s.arguments] + coalesce(s.messages, []) AS digest
  WITH DISTINCT digest
  WHERE digest IS NOT NULL
  OPTIONAL MATCH (x:Value {namespace: $namespace, digest: digest})
  RETURN count(digest) > count(x) AS lost
}
WITH e, steps, manifest, signature, others, CASE WHEN fresh THEN rejection END AS rejection,
     CASE WHEN fresh AND rejection IS NULL THEN equal[0] END AS equal,
     fresh AND rejection IS NULL AND size(equal) = 0 AND NOT lost AS accepted,
     fresh AND rejection IS NULL AND size(equal) = 0 AND lost AS refused
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
FOREACH (x IN CASE WHEN rejection IS NULL THEN [] ELSE [rejection] END |
  SET e.state = 'rejected', e.reason = $reason_rejected[0] + x.id + $reason_rejected[1] + x.reason,
      e.equal_to = x.id, e.published_steps = steps, e.manifest = manifest,
      e.signature = signature, e.decided_at = timestamp())
FOREACH (_ IN CASE WHEN equal IS NULL THEN [] ELSE [1] END |
  SET e.state = 'unpublished', e.equal_to = equal, e.reason = $reason_equal + equal,
      e.decided_at = timestamp())
FOREACH (_ IN CASE WHEN refused THEN [1] ELSE [] END |
  SET e.state = 'unpublished', e.reason = $reason_lost, e.decided_at = timestamp())
FOREACH (_ IN CASE WHEN moved THEN [1] ELSE [] END |
  SET e.walk = 'open', e.walk_at = timestamp())
FOREACH (_ IN CASE WHEN accepted THEN [1] ELSE [] END |
  SET e.state = $state, e.published_steps = steps, e.manifest = manifest,
      e.signature = signature, e.reason = $reason, e.decided_at = timestamp()
  REMOVE e.equal_to)
FOREACH (o IN beyond |
  SET o.state = 'unpublished', o.reason = $reason_beyond, o.decided_at = timestamp())
WITH e, [o IN beyond | o.id] AS beyond, moved
OPTIONAL MATCH (o:Execution {namespace: $namespace, id: e.equal_to})
RETURN e.state AS state, e.equal_to AS equal_to, beyond, moved,
       CASE e.state WHEN 'rejected' THEN e.reason END AS rejected,
       coalesce('unapproved' IN [e.state, o.state], false) AS waits

// name: unpublish
// Its lock first: what was rejected meanwhile stays so.
MATCH (e:Execution {namespace: $namespace, id: $execution})
SET e.lock = true
REMOVE e.lock
WITH e
WHERE e.state IN ['published', 'unapproved']
  OR e.steps IS NOT NULL AND e.decided_at IS NULL AND e.state <> 'failed'
SET e.state = 'unpublished', e.reason = $reason, e.decided_at = timestamp()
RETURN true

// name: reject
// Under the lock of its task, as publications are: what has its answer and is no trace yet finds
// it rejected.
MATCH (e:Execution {namespace: $namespace, id: $execution})
MATCH (t:Task {namespace: $namespace, key: e.task})
SET t.lock = true
REMOVE t.lock
WITH e
SET e.lock = true
REMOVE e.lock
WITH e
WHERE e.steps IS NOT NULL AND e.state <> 'failed'
SET e.state = 'rejected', e.reason = $reason, e.decided_at = timestamp(),
    e.signature = coalesce(e.signature, $signature)
REMOVE e.equal_to
WITH e
CALL (e) {
  OPTIONAL MATCH (e)-[:HAS_STEP]->(d:Decision)
  WITH d ORDER BY d.position DESC LIMIT 1
  RETURN d.key AS key, d.output_key AS output_key
}
CALL (e, key, output_key) {
  UNWIND ['published', 'unapproved'] AS state
  MATCH (o:Execution {namespace: $namespace, task: e.task, state: state})
  WHERE o.id <> e.id AND (o.signature = e.signature OR EXISTS {
    MATCH (o)-[at:HAS_STEP]->(d:Decision)
    WHERE at.position < o.published_steps AND d.key = key AND d.output_key = output_key
  })
  RETURN collect(o) AS others
}
FOREACH (o IN others |
  SET o.state = 'rejected', o.reason = $reason_of_others, o.equal_to = e.id,
      o.decided_at = timestamp())
RETURN [o IN others | o.id] AS others

// name: note_running
// One that was written meanwhile is left alone.
UNWIND $executions AS it
MERGE (e:Execution {namespace: $namespace, id: it.id})
ON CREATE SET e.state = 'running'
SET e.lock = true
REMOVE e.lock
FOREACH (_ IN CASE WHEN e.steps IS NULL AND e.state = 'running' THEN [1] ELSE [] END |
  SET e += it)
RETURN DISTINCT true AS noted

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
  WHERE coalesce(x.suspect, -1) >= 0  // and not by the index of those in doubt
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
    WHERE NOT f.once STARTS WITH 'wish:'
      OR f.state = 'intended' AND NOT f.id IN [effect IN replay.effects | effect.id]
  }
  OPTIONAL MATCH (e)-[:PERFORMED]->(f:SideEffect)
  DETACH DELETE f, e
}
CALL () {
  UNWIND $replays AS replay
  MATCH (w:Wish {namespace: $namespace, execution: replay.execution.id})
  WHERE w.run_id IS NULL
  DELETE w
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
  ON CREATE SET f += it, f.state = 'intended', f.once = null
  SET f.lock = true, f.step = coalesce(it.step, f.step)
  REMOVE f.lock
  WITH e, f, it
  OPTIONAL MATCH (other:SideEffect {namespace: $namespace, once: it.once})
  WHERE other.id <> f.id
  // As in `end_effect`.
  FOREACH (_ IN CASE WHEN f.state = 'intended' OR f.state = 'not performed' AND it.state = 'done'
    THEN [1] ELSE [] END |
    SET f.state = it.state, f.output_text = coalesce(it.output_text, f.output_text),
      f.once = CASE WHEN other IS NULL THEN it.once END)
  FOREACH (_ IN CASE WHEN EXISTS { (f)<-[:PERFORMED]-() } THEN [] ELSE [1] END |
    CREATE (e)-[:PERFORMED]->(f))
  WITH f, it
  MATCH (s:Step {namespace: $namespace, id: it.step})
  WHERE NOT EXISTS { (f)<-[:CAUSED]-() }
  CREATE (s)-[:CAUSED]->(f)
}
RETURN true
