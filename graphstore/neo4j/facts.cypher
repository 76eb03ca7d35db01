// Facts: resources, their versions, and what each version holds.

// name: still
// Only properties of the resources and the execution: what `current` held was read before.
UNWIND $accepted AS it
MATCH (r:Resource {namespace: $namespace, uri: it[0]})
WHERE r.current = it[1] AND r.state = 'present' AND (r.until IS NULL OR r.until > timestamp())
WITH count(*) AS believed
MATCH (e:Execution {namespace: $namespace, id: $execution})
WHERE e.state = 'published' AND believed = size($accepted)
RETURN true

// name: read_facts
// A fact pairs a version's own n with what that version holds. `current` is returned beside it
// only so that a version which is not visible yet is not taken for an absent one.
CALL () {
  UNWIND $wanted AS it
  MATCH (r:Resource {namespace: $namespace, uri: it[0]})
  WITH it, r, r.current AS current
  OPTIONAL MATCH (v:Version {namespace: $namespace, resource: it[0], n: current})
  RETURN collect([
    it[0], current, r.until, v.n, v.withdrawn,
    [(v)-[:HOLDS]->(p) WHERE p.facet IN it[1] | [p.selector, p.fingerprint]]
  ]) AS facts
}
RETURN timestamp() AS now, facts

// name: document
MATCH (r:Resource {namespace: $namespace, uri: $resource})
MATCH (v:Version {namespace: $namespace, resource: $resource, n: r.current})
WHERE NOT v.withdrawn
OPTIONAL MATCH (x:Value {namespace: $namespace, digest: v.document})
RETURN v.n AS n, v.document AS digest, x.text AS text, x.data AS data

// name: before_change
OPTIONAL MATCH (r:Resource {namespace: $namespace, uri: $resource})
WITH r, coalesce(r.current, 0) AS current
OPTIONAL MATCH (v:Version {namespace: $namespace, resource: $resource, n: current})
RETURN timestamp() AS now, current, r.until AS until,
       v.n AS n, v.withdrawn AS withdrawn, v.fingerprint AS fingerprint,
       [(r)-[:HAS_FACET]->(f) | [f.key, f.selector]] AS facets,
       [(v)-[:HOLDS]->(p) | [p.facet, p.fingerprint]] AS held

// name: renew
// A property is written first: that takes the lock, and what is read after it is the newest.
MATCH (r:Resource {namespace: $namespace, uri: $resource})
SET r.lock = true
REMOVE r.lock
WITH r
WHERE r.current = $current
SET r.until = CASE WHEN $lasts IS NULL THEN $until ELSE timestamp() + $lasts END
RETURN true

// name: change
// Applies what was computed from `before_change`, unless the resource or its facets moved since:
// then there is no row, and nothing was written.
MERGE (r:Resource {namespace: $namespace, uri: $resource})
ON CREATE SET r.kind = $kind, r.current = 0, r.state = 'absent'
SET r.lock = true
REMOVE r.lock
WITH r
WHERE r.current = $current AND COUNT { (r)-[:HAS_FACET]->() } = $facets
CREATE (v:Version {namespace: $namespace, resource: $resource, n: $current + 1})
WITH r, v, datetime.realtime() AS now
SET v += $version, v.at = now.epochMillis
CREATE (r)-[:HAS_VERSION]->(v)
CREATE (c:ChangeEvent {namespace: $namespace, id: $event, resource: $resource})
SET c.from_version = $current, c.to_version = $current + 1, c.withdrawn = v.withdrawn,
    c.source = $source, c.at = v.at, c.moment = now.epochSeconds * 1000000000 + now.nanosecond
CREATE (c)-[:TO]->(v)
SET r.current = $current + 1,
    r.state = CASE WHEN v.withdrawn THEN 'withdrawn' ELSE 'present' END,
    r.until = CASE WHEN $lasts IS NULL THEN $until ELSE timestamp() + $lasts END
WITH r, v, c
CALL (c) {
  MATCH (old:Version {namespace: $namespace, resource: $resource, n: $current})
  CREATE (c)-[:FROM]->(old)
}
CALL () {
  UNWIND $values AS it
  MERGE (x:Value {namespace: $namespace, digest: it[0]})
  WITH x, it
  WHERE NOT coalesce(CASE WHEN it[1] IS NULL THEN x.data = it[2] ELSE x.text = it[1] END, false)
  SET x.text = it[1], x.data = it[2], x.size = it[3]
}
CALL (c) {
  UNWIND $changed AS it
  MATCH (f:Facet {namespace: $namespace, key: it[0]})
  CREATE (c)-[:CHANGED {before: it[1], after: it[2]}]->(f)
}
CALL (v) {
  UNWIND $holds AS it
  MERGE (p:Precondition {namespace: $namespace, id: it[0]})
  ON CREATE SET p.facet = it[1], p.resource = $resource, p.selector = it[2],
                p.fingerprint = it[3]
  CREATE (v)-[:HOLDS]->(p)
  WITH p, it
  MATCH (f:Facet {namespace: $namespace, key: it[1]})
  WHERE NOT EXISTS { (p)<-[:HAS_VALUE]-() }
  CREATE (f)-[:HAS_VALUE]->(p)
}
RETURN c.at AS at

// name: hold
MATCH (r:Resource {namespace: $namespace, uri: $resource})
SET r.lock = true
REMOVE r.lock
WITH r
MATCH (v:Version {namespace: $namespace, resource: $resource, n: $version})
CALL (r) {
  UNWIND $holds AS it
  MERGE (f:Facet {namespace: $namespace, key: it[1]})
  ON CREATE SET f.resource = $resource, f.selector = it[2]
  WITH r, f
  WHERE NOT EXISTS { (f)<-[:HAS_FACET]-() }
  CREATE (r)-[:HAS_FACET]->(f)
}
CALL (v) {
  MATCH (v)-[:HOLDS]->(p:Precondition)
  RETURN collect(p.facet) AS held
}
CALL (v, held) {
  UNWIND $holds AS it
  MERGE (p:Precondition {namespace: $namespace, id: it[0]})
  ON CREATE SET p.facet = it[1], p.resource = $resource, p.selector = it[2],
                p.fingerprint = it[3]
  WITH v, held, p, it
  CALL (p, it) {
    MATCH (f:Facet {namespace: $namespace, key: it[1]})
    WHERE NOT EXISTS { (p)<-[:HAS_VALUE]-() }
    CREATE (f)-[:HAS_VALUE]->(p)
  }
  WITH v, held, p, it
  WHERE NOT v.withdrawn AND NOT it[1] IN held
  CREATE (v)-[:HOLDS]->(p)
}

// name: unbroken
UNWIND range(0, size($spans) - 1) AS span
WITH span, $spans[span] AS it
MATCH (v:Version {namespace: $namespace, resource: it[1]})
WHERE v.n > it[2] AND v.n <= it[3]
MATCH (v)-[:HOLDS]->(p:Precondition)
WHERE p.id = it[0]
RETURN span, count(DISTINCT v.n) AS holding

// name: changes
// `moment`: nanoseconds, under the resource's lock, which order what one millisecond does not.
MATCH (c:ChangeEvent)
WHERE c.namespace = $namespace AND c.moment IS NOT NULL
WITH c ORDER BY c.moment DESC LIMIT $limit
RETURN [c.id, c.resource, c.from_version, c.to_version, c.withdrawn, c.source, c.at] AS event,
       [(c)-[change:CHANGED]->(f) | [f.key, f.selector, change.before, change.after]] AS changed
ORDER BY c.moment DESC

// name: changes_of_resource
MATCH (c:ChangeEvent)
WHERE c.namespace = $namespace AND c.resource = $resource AND c.to_version > 0
WITH c ORDER BY c.to_version DESC LIMIT $limit
RETURN [c.id, c.resource, c.from_version, c.to_version, c.withdrawn, c.source, c.at] AS event,
       [(c)-[change:CHANGED]->(f) | [f.key, f.selector, change.before, change.after]] AS changed
ORDER BY c.to_version DESC
