// Two statements, divided by a semicolon at the end of a line. What they make is what `write` and
// `publish` of the store make, for many runs that are known to be new.

UNWIND $values AS it
MERGE (x:Value {namespace: $namespace, digest: it[0]})
ON CREATE SET x.text = it[1], x.data = it[2], x.size = it[3], x.packed = it[4];

UNWIND $runs AS run
CREATE (t:Task)
SET t = run.task
CREATE (e:Execution {namespace: $namespace, id: run.id})
SET e += run.execution, e.decided_at = timestamp()
CREATE (t)-[:HAS_EXECUTION]->(e)
WITH e, run
CALL (e, run) {
  UNWIND run.steps AS it
  CREATE (s:Step {namespace: $namespace, id: it.id, state: 'valid'})
  SET s += it
  CREATE (e)-[:HAS_STEP {position: it.position}]->(s)
  FOREACH (_ IN CASE it.kind WHEN 'decision' THEN [1] ELSE [] END | SET s:Decision)
  FOREACH (_ IN CASE it.kind WHEN 'action' THEN [1] ELSE [] END | SET s:Action)
  WITH s ORDER BY s.position
  RETURN collect(s) AS steps
}
CALL (run, steps) {
  UNWIND run.feeds AS it
  WITH steps[it[0]] AS from, steps[it[1]] AS to, it[2] AS fingerprint
  CREATE (from)-[:FEEDS {fingerprint: fingerprint}]->(to)
}
CALL (run, steps) {
  UNWIND run.guards AS it
  MATCH (p:Precondition {namespace: $namespace, id: it[0]})
  UNWIND it[1] AS index
  WITH p, steps[index] AS s
  CREATE (p)-[:GUARDS]->(s)
};
