// Marks: walks that are open, and setting what steps are by the facts of now.

// name: walks
CALL () {
  MATCH (c:ChangeEvent)
  WHERE c.namespace = $namespace AND c.walk = 'open'
  RETURN c.at AS at, [c.id, c.resource, c.at, c.cursor, c.marked, c.cleared, c.visited] AS walk
  UNION ALL
  MATCH (e:Execution)
  WHERE e.namespace = $namespace AND e.walk = 'open'
  WITH e, coalesce(e.walk_at, 0) AS at
  RETURN at, [e.id, null, at, null, 0, 0, 0] AS walk
}
RETURN walk
ORDER BY at, walk[0] LIMIT $limit

// name: walk_of_event
// The executions to look at next, and where to start in each. The resource's lock is taken so
// that the whole change can be seen. A version that a collection has taken is told by the event.
MATCH (c:ChangeEvent {namespace: $namespace, id: $walk})
WHERE c.walk = 'open'
MATCH (r:Resource {namespace: $namespace, uri: c.resource})
SET r.lock = true
REMOVE r.lock
WITH c, [(c)-[:CHANGED]->(f) | f.key] AS facets
CALL (c, facets) {
  CALL (c, facets) {
    UNWIND [c.from_version, c.to_version] AS n
    MATCH (v:Version {namespace: $namespace, resource: c.resource, n: n})
    MATCH (v)-[:HOLDS]->(p:Precondition)
    WHERE p.facet IN facets
    RETURN p
    UNION
    WITH c
    WHERE NOT EXISTS {
      MATCH (:Version {namespace: $namespace, resource: c.resource, n: c.from_version})
    }
    MATCH (c)-[change:CHANGED]->(:Facet)-[:HAS_VALUE]->(p:Precondition)
    WHERE p.fingerprint = change.before
    RETURN p
  }
  WITH p, c
  MATCH (p)-[:GUARDS]->(s:Step)
  WHERE s.execution > coalesce(c.cursor, '')
  WITH s.execution AS execution, collect(DISTINCT s.position) AS positions
  ORDER BY execution LIMIT $limit
  RETURN collect([execution, positions]) AS executions
}
RETURN executions

// name: walk_of_execution
MATCH (e:Execution {namespace: $namespace, id: $walk})
WHERE e.walk = 'open'
CALL (e) {
  MATCH (e)-[:HAS_STEP]->(s:Step)
  WHERE EXISTS { (s)<-[:GUARDS]-() }
  RETURN collect(s.position) AS positions
}
RETURN [[e.id, positions]] AS executions

// name: walk
// A part of a batch. The executions are locked first, and facts are read after that: of two that
// mark the same steps, the later one has the newer facts.
CALL () {
  UNWIND $executions AS it
  MATCH (e:Execution {namespace: $namespace, id: it[0]})
  SET e.lock = true
  REMOVE e.lock
  RETURN collect([e.id, it[1]]) AS locked
}
// What is affected, by execution: a search from the first start reaches most of it, as a rule.
CALL (locked) {
  UNWIND locked AS it
  CALL (it) {
    MATCH (s:Step {namespace: $namespace, id: it[0] + '/' + toString(it[1][0])})
    MATCH (s)-[:FEEDS*0..]->(d)
    WITH DISTINCT d
    RETURN collect(d) AS reached
  }
  WITH it, reached,
       CASE size(it[1]) WHEN 1 THEN it[1] ELSE [d IN reached | d.position] END AS known
  WITH it, reached, known, [position IN it[1] WHERE NOT position IN known] AS others
  CALL (it, known, others) {
    UNWIND others AS position
    MATCH (s:Step {namespace: $namespace, id: it[0] + '/' + toString(position)})
    MATCH (s)-[:FEEDS*0..]->(d)
    WITH DISTINCT d, known
    WHERE NOT d.position IN known
    RETURN collect(d) AS also
  }
  WITH reached + also AS steps
  RETURN collect(steps) AS affected, sum(size(steps)) AS total
}
// By what events say, and not by the clock: an expiry comes as an event.
CALL (affected) {
  UNWIND affected AS steps
  UNWIND steps AS d
  MATCH (d)<-[:GUARDS]-(p)
  WITH p, collect(d) AS guarded
  OPTIONAL MATCH (r:Resource {namespace: $namespace, uri: p.resource})
  OPTIONAL MATCH (v:Version {namespace: $namespace, resource: p.resource, n: r.current})
  WITH p, guarded, coalesce(r.state = 'present' AND r.expired IS NULL, false)
    AND EXISTS { (v)-[:HOLDS]->(p) } AS holds
  RETURN sum(size(guarded)) AS guards,
         collect(CASE WHEN NOT holds THEN [p.id, guarded] END) AS broken
}
CALL (affected) {
  UNWIND affected AS steps
  UNWIND steps AS d
  MATCH (d)<-[:FEEDS]-(u)
  RETURN count(*) AS feeds,
         collect(CASE WHEN NOT u IN steps AND u.invalidated_by IS NOT NULL
                 THEN [d, u.invalidated_by] END) AS inherited
}
// Where something is broken, downstream; the least first, since it stands against all others.
CALL (broken, inherited) {
  CALL (broken, inherited) {
    UNWIND broken AS it
    UNWIND it[1] AS d
    RETURN d, it[0] AS why
    UNION ALL
    UNWIND inherited AS it
    RETURN it[0] AS d, it[1] AS why
  }
  WITH d, min(why) AS why
  ORDER BY why, d.position
  WITH d.execution AS execution, collect(d) AS sources, collect(why) AS whys
  CALL (sources) {
    UNWIND sources[..1] AS s
    MATCH (s)-[:FEEDS*0..]->(d)
    WITH DISTINCT d
    RETURN collect(d) AS reached
  }
  CALL (sources, whys, reached) {
    UNWIND reached AS d
    RETURN d, whys[0] AS why
    UNION ALL
    UNWIND range(1, size(sources) - 1) AS index
    WITH sources[index] AS s, whys[index] AS why, reached
    WHERE NOT s IN reached
    MATCH (s)-[:FEEDS*0..]->(d)
    RETURN DISTINCT d, why
  }
  RETURN collect(d) AS invalid, collect(why) AS whys
}
CALL (affected, invalid, whys) {
  CALL (affected, invalid, whys) {
    UNWIND affected AS steps
    UNWIND steps AS d
    WITH d, d.invalidated_by AS was
    WHERE was IS NOT NULL
    RETURN d, was, null AS why
    UNION ALL
    UNWIND range(0, size(invalid) - 1) AS index
    RETURN invalid[index] AS d, null AS was, whys[index] AS why
  }
  WITH d, max(was) AS was, min(why) AS why
  FOREACH (_ IN CASE WHEN was = why THEN [] ELSE [1] END |
    SET d.invalidated_by = why, d.state = CASE WHEN why IS NULL THEN 'valid' ELSE 'invalid' END)
  RETURN count(why) AS marked
}
RETURN marked, total - marked AS cleared, guards + feeds AS visited

// name: walked
// What has been looked at stays marked, whoever ended the walk meanwhile.
OPTIONAL MATCH (c:ChangeEvent {namespace: $namespace, id: $walk})
OPTIONAL MATCH (o:Execution {namespace: $namespace, id: $walk})
FOREACH (it IN [it IN [c, o] WHERE it IS NOT NULL] | SET it.lock = true REMOVE it.lock)
WITH c, o
WHERE c.walk = 'open' OR o.walk = 'open'
FOREACH (_ IN CASE WHEN c IS NULL THEN [] ELSE [1] END |
  SET c.marked = coalesce(c.marked, 0) + $marked, c.cleared = coalesce(c.cleared, 0) + $cleared,
      c.visited = coalesce(c.visited, 0) + $visited,
      c.cursor = CASE WHEN c.cursor > $cursor THEN c.cursor ELSE $cursor END)
FOREACH (_ IN CASE WHEN c IS NOT NULL AND $ended THEN [1] ELSE [] END |
  SET c.walk = 'ended', c.walk_ended_at = timestamp())
FOREACH (_ IN CASE WHEN o IS NULL THEN [] ELSE [1] END | REMOVE o.walk, o.walk_at)
RETURN CASE WHEN c IS NULL
  THEN [o.id, null, timestamp(), o.id, $marked, $cleared, $visited, timestamp()]
  ELSE [c.id, c.resource, c.at, c.cursor, c.marked, c.cleared, c.visited, c.walk_ended_at]
END AS walk

// name: marks
MATCH (:Execution {namespace: $namespace, id: $execution})-[:HAS_STEP]->(s:Step)
WHERE s.invalidated_by IS NOT NULL
RETURN s.position, s.invalidated_by
