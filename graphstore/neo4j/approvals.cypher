// Approvals: asked for, answered, and read. `intend` uses them up. The time is that after a lock was
// waited for; one that will be asked in the future was asked before the clock was set back.

// name: request_approval
// The gate has those who ask for the same take turns.
MERGE (g:Gate {of: $namespace, number: $gate})
SET g.lock = true
REMOVE g.lock
WITH datetime.realtime().epochMillis AS now
CALL (now) {
  MATCH (a:Approval)
  WHERE a.namespace = $namespace AND a.digest = $digest
    AND a.state IN ['pending', 'approved', 'denied']
    AND CASE
      WHEN a.heard_by IS NOT NULL THEN a.heard_by = $hearer
      ELSE a.expires_at > now AND (a.state = 'denied' OR a.requested_at <= now + 1000)
    END
  WITH a ORDER BY a.heard_by IS NULL, a.requested_at, a.id LIMIT 1
  RETURN collect(a) AS open
}
CALL (open, now) {
  UNWIND CASE WHEN size(open) = 0 THEN [1] ELSE [] END AS _
  MERGE (a:Approval {namespace: $namespace, id: $id})
  ON CREATE SET a += $approval, a.requested_at = now, a.expires_at = now + $lasts
  RETURN a
  UNION
  UNWIND open AS a
  SET a.lock = true
  REMOVE a.lock
  SET a.heard_by = CASE a.state WHEN 'denied' THEN $hearer END
  RETURN a
}
RETURN {{approval: a.*}}, now

// name: answer_approval
MATCH (a:Approval {namespace: $namespace, id: $id})
SET a.lock = true
REMOVE a.lock
WITH a, datetime.realtime().epochMillis AS now
FOREACH (_ IN CASE
  WHEN a.state = 'pending' AND a.expires_at > now AND a.requested_at <= now + 1000 THEN [1]
  ELSE [] END |
  SET a.state = $state, a.by = $by, a.reason = $reason, a.heard_by = $heard_by,
    a.answered_at = now)
RETURN {{approval: a.*}}, now

// name: approval
MATCH (a:Approval {namespace: $namespace, id: $id})
RETURN {{approval: a.*}}, timestamp() AS now

// name: approvals
MATCH (a:Approval)
WHERE a.namespace = $namespace AND a.state = 'pending' AND a.requested_at <= timestamp() + 1000
  AND a.expires_at > timestamp()
WITH a ORDER BY a.namespace, a.state, a.requested_at, a.id LIMIT $limit
RETURN {{approval: a.*}}, timestamp() AS now

// name: precedents
MATCH (a:Approval)
WHERE a.namespace = $namespace AND a.task = $task AND a.tool = $tool AND a.requested_at >= 0
WITH a ORDER BY a.namespace DESC, a.task DESC, a.tool DESC, a.requested_at DESC, a.id DESC
LIMIT $limit
OPTIONAL MATCH (f:SideEffect {namespace: $namespace, id: a.effect})
RETURN {{approval: a.*}}, timestamp() AS now, f.state AS effect
ORDER BY a.requested_at DESC, a.id DESC
