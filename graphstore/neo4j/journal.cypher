// What runs that have not ended have done so far, and what they are about. The last five fields of a
// wish and of an entry are null only of one that is deleted meanwhile.

// name: journal
UNWIND $entries AS it
MERGE (j:JournalEntry {namespace: $namespace, execution: it.execution, number: it.number})
ON CREATE SET j += it
RETURN DISTINCT true AS kept

// name: unfinished
// What has ended well is no part of it, though it may not be deleted yet.
CALL () {
  MATCH (w:Wish {namespace: $namespace, task: $exact})
  WHERE w.state <> 'done'
  WITH w ORDER BY w.at DESC, w.execution DESC LIMIT $limit
  RETURN collect([w.process, w.run_id, w.idempotency, w.result, w.key, w.task, w.execution, w.state,
    timestamp() - w.at]) AS wishes
}
CALL () {
  MATCH (j:JournalEntry {namespace: $namespace, task: $task})
  OPTIONAL MATCH (e:Execution {namespace: $namespace, id: j.execution})
  WITH j, e
  WHERE coalesce(e.state, 'running') IN ['running', 'failed']
  WITH j ORDER BY j.at DESC, j.execution DESC, j.number DESC LIMIT $limit
  RETURN collect([j.wish, j.task, j.execution, j.number, j.at, j.entry]) AS entries
}
RETURN wishes, entries

// name: attempts
CALL () {
  MATCH (f:SideEffect {namespace: $namespace, wish: $wish})
  WITH f ORDER BY f.begun_at, f.id
  RETURN collect([f.execution, {{effect: f.*}}]) AS effects
}
CALL () {
  MATCH (j:JournalEntry {namespace: $namespace, wish: $wish})
  WITH j ORDER BY j.at, j.execution, j.number
  RETURN collect([j.wish, j.task, j.execution, j.number, j.at, j.entry]) AS entries
}
RETURN effects, entries

// name: claim
// The time is that after the lock was waited for.
MERGE (w:Wish {namespace: $namespace, key: $key})
SET w.lock = true
REMOVE w.lock
WITH w, datetime.realtime().epochMillis AS now
FOREACH (_ IN CASE WHEN w.execution IS NULL THEN [1] ELSE [] END |
  SET w += $wish, w.state = 'running', w.at = now)
RETURN w.process, w.run_id, w.idempotency, w.result, w.key, w.task, w.execution, w.state, now - w.at

// name: take_over
MATCH (w:Wish {namespace: $namespace, key: $key})
SET w.lock = true
REMOVE w.lock
WITH w, datetime.realtime().epochMillis AS now
FOREACH (_ IN CASE WHEN w.execution = $over AND w.state <> 'done' THEN [1] ELSE [] END |
  SET w += $wish, w.state = 'running', w.at = now)
RETURN w.process, w.run_id, w.idempotency, w.result, w.key, w.task, w.execution, w.state, now - w.at

// name: wish
MATCH (w:Wish {namespace: $namespace, key: $key})
RETURN w.process, w.run_id, w.idempotency, w.result, w.key, w.task, w.execution, w.state,
       timestamp() - w.at

// name: end_wish
MATCH (w:Wish {namespace: $namespace, key: $key})
SET w.lock = true
REMOVE w.lock
WITH w
WHERE w.execution = $execution
SET w.state = $state, w.result = $result, w.at = timestamp()
RETURN true

// name: renew_wishes
UNWIND $executions AS id
MATCH (w:Wish {namespace: $namespace, execution: id})
WHERE w.state = 'running'
SET w.at = timestamp()

// name: forget_journal
UNWIND $executions AS id
MATCH (j:JournalEntry)
WHERE j.namespace = $namespace AND j.execution = id AND j.number >= 0
DELETE j
RETURN DISTINCT true AS deleted

// name: age_journal
MATCH (j:JournalEntry)
WHERE j.namespace = $namespace AND j.at < $before
WITH j LIMIT 1000
DELETE j
RETURN count(j) AS deleted

// name: age_wishes
MATCH (w:Wish)
WHERE w.namespace = $namespace AND w.at < $before
WITH w LIMIT 1000
DELETE w
RETURN count(w) AS deleted
