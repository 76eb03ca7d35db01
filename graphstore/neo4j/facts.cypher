// Facts: resources, their versions, and what each version holds. `since`: when belief for a time was
// given. One that was given in the future was given before the clock was set back, and is none.

// name: still
// Only properties of the resources and the execution: what `current` held was read before.
UNWIND $accepted AS it
MATCH (r:Resource {namespace: $namespace, uri: it[0]})
WHERE r.current = it[1] AND r.state = 'present'
  AND (r.until IS NULL OR r.until > timestamp() AND coalesce(r.since, 0) <= timestamp() + 1000)
WITH count(*) AS believed
MATCH (e:Execution {namespace: $namespace, id: $execution})
WHERE e.state = 'published' AND believed = size($accepted) AND NOT EXISTS {
  MATCH (w:Wish {namespace: $namespace, task: coalesce($exact, e.task)})
  WHERE w.run_id IS NULL AND w.idempotency IS NULL
    AND NOT (w.state = 'running' AND coalesce(w.process, '') IN $alive)
}
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
    it[0], current, CASE WHEN r.since > timestamp() + 1000 THEN 0 ELSE r.until END,
    v.n, v.withdrawn,
    [(v)-[:HOLDS]->(p) WHERE p.facet IN it[1] | [p.selector, p.fingerprint]]
  ]) AS facts
}
RETURN timestamp() AS now, facts

// name: document
// As in `read_facts`, a version that is not visible yet is not taken for an absent one.
MATCH (r:Resource {namespace: $namespace, uri: $resource})
WITH coalesce($version, r.current) AS n
WHERE n > 0
OPTIONAL MATCH (v:Version {namespace: $namespace, resource: $resource, n: n})
OPTIONAL MATCH (x:Value {namespace: $namespace, digest: v.document})
RETURN v.n AS n, v.withdrawn AS withdrawn, v.document AS digest, x.text AS text, x.data AS data

// name: before_change
OPTIONAL MATCH (r:Resource {namespace: $namespace, uri: $resource})
WITH r, coalesce(r.current, 0) AS current
OPTIONAL MATCH (v:Version {namespace: $namespace, resource: $resource, n: current})
RETURN timestamp() AS now, current, r.until AS until, r.expired IS NOT NULL AS expired,
       v.n AS n, v.withdrawn AS withdrawn, v.fingerprint AS fingerprint,
       [(r)-[:HAS_FACET]->(f) | [f.key, f.selector]] AS facets,
       [(v)-[:HOLDS]->(p) | [p.facet, p.fingerprint]] AS held

// name: renew
// A property is written first: that takes the lock, and what is read after it is the newest.
// A version that an event says has expired gets an event when it may be believed again.
UNWIND $noted AS it
MATCH (r:Resource {namespace: $namespace, uri: it[0]})
SET r.lock = true
REMOVE r.lock
WITH r, it
WHERE r.current = it[1]
WITH r, it, CASE
  WHEN $lasts IS NOT NULL THEN timestamp() + $lasts
  WHEN $until < timestamp() THEN timestamp()
  ELSE $until
END AS until
FOREACH (_ IN CASE r.state WHEN 'present' THEN [1] ELSE [] END |
  SET r.until = until, r.since = CASE WHEN until IS NOT NULL THEN timestamp() END)
WITH r, it, r.expired IS NOT NULL AND r.state = 'present'
  AND (until IS NULL OR until > timestamp()) AS back
CALL (r, it, back) {
  WITH r, it, back
  WHERE back
  REMOVE r.expired
  WITH r, it, datetime.realtime() AS now
  MATCH (v:Version {namespace: $namespace, resource: r.uri, n: r.current})
  CREATE (c:ChangeEvent {namespace: $namespace, id: it[2], resource: r.uri})
  SET c.kind = 'renewed', c.from_version = v.n, c.to_version = v.n, c.source = $source,
      c.at = now.epochMillis, c.moment = now.epochSeconds * 1000000000 + now.nanosecond,
      c.walk = 'open'
  CREATE (c)-[:FROM]->(v)
  CREATE (c)-[:TO]->(v)
  WITH c, v
  CALL (c, v) {
    MATCH (v)-[:HOLDS]->(p:Precondition)
    MATCH (f:Facet {namespace: $namespace, key: p.facet})
    CREATE (c)-[:CHANGED {after: p.fingerprint}]->(f)
  }
  RETURN collect(c.at) AS at
}
RETURN r.uri AS uri, at[0] AS at

// name: due
// Resources that are no longer to be believed, and of which no event says so. Also what was given in
// the future: once the clock had caught up it would be believed again.
CALL () {
  MATCH (r:Resource)
  WHERE r.namespace = $namespace AND r.until <= timestamp()
  RETURN r
  UNION
  MATCH (r:Resource)
  WHERE r.namespace = $namespace AND r.since > timestamp() + 1000
  RETURN r
}
WITH r
WHERE r.expired IS NULL AND r.state = 'present'
RETURN r.uri AS uri
ORDER BY uri

// name: expire
UNWIND $due AS it
MATCH (r:Resource {namespace: $namespace, uri: it[0]})
SET r.lock = true
REMOVE r.lock
WITH r, it, datetime.realtime() AS now
WHERE (r.until <= now.epochMillis OR r.since > now.epochMillis + 1000)
  AND r.expired IS NULL AND r.state = 'present'
SET r.expired = true, r.until = 0
REMOVE r.since
WITH r, it, now
MATCH (v:Version {namespace: $namespace, resource: r.uri, n: r.current})
CREATE (c:ChangeEvent {namespace: $namespace, id: it[1], resource: r.uri})
SET c.kind = 'expired', c.from_version = v.n, c.to_version = v.n, c.source = $source,
    c.at = now.epochMillis, c.moment = now.epochSeconds * 1000000000 + now.nanosecond,
    c.walk = 'open'
CREATE (c)-[:FROM]->(v)
CREATE (c)-[:TO]->(v)
WITH c, v
CALL (c, v) {
  MATCH (v)-[:HOLDS]->(p:Precondition)
  MATCH (f:Facet {namespace: $namespace, key: p.facet})
  CREATE (c)-[:CHANGED {before: p.fingerprint}]->(f)
  RETURN collect([f.key, f.selector, p.fingerprint, null]) AS changed
}
RETURN [{{event: c.*}}] AS event, changed

// name: change
// Applies what was computed from `before_change`, unless the resource or its facets moved since:
// then there is no row, and nothing was written.
MERGE (g:Gate {of: $namespace, number: $gate})
SET g.lock = true
REMOVE g.lock
WITH g
MERGE (r:Resource {namespace: $namespace, uri: $resource})
ON CREATE SET r.kind = $kind, r.current = 0, r.state = 'absent'
SET r.lock = true
REMOVE r.lock
WITH r
WHERE r.current = $current AND COUNT { (r)-[:HAS_FACET]->() } = size($facets)
  AND COUNT { (r)-[:HAS_FACET]->(f) WHERE f.key IN $facets } = size($facets)
  AND (r.expired IS NOT NULL) = $expired
CREATE (v:Version {namespace: $namespace, resource: $resource, n: $current + 1})
WITH r, v, datetime.realtime() AS now
SET v += $version, v.at = now.epochMillis
CREATE (r)-[:HAS_VERSION]->(v)
CREATE (c:ChangeEvent {namespace: $namespace, id: $event, resource: $resource})
SET c.kind = $change, c.from_version = $current, c.to_version = $current + 1,
    c.source = $source, c.at = v.at, c.moment = now.epochSeconds * 1000000000 + now.nanosecond,
    c.walk = 'open'
CREATE (c)-[:TO]->(v)
SET r.current = $current + 1,
    r.state = CASE WHEN v.withdrawn THEN 'withdrawn' ELSE 'present' END,
    r.until = CASE
      WHEN $lasts IS NOT NULL THEN timestamp() + $lasts
      WHEN $until < timestamp() THEN timestamp()
      ELSE $until
    END,
    r.since = CASE WHEN $lasts IS NULL AND $until IS NULL THEN null ELSE timestamp() END
REMOVE r.expired
WITH r, v, c
CALL (c) {
  MATCH (old:Version {namespace: $namespace, resource: $resource, n: $current})
  CREATE (c)-[:FROM]->(old)
}
CALL () {
  UNWIND $values AS it
  MATCH (x:Value {namespace: $namespace, digest: it[0]})
  WHERE coalesce(x.suspect, -1) >= 0  // and not by the index of those in doubt
  SET x.lock = true
  REMOVE x.lock, x.suspect
}
CALL () {
  UNWIND $values AS it
  MERGE (x:Value {namespace: $namespace, digest: it[0]})
  WITH x, it
  WHERE NOT coalesce(CASE WHEN it[1] IS NULL THEN x.data = it[2] ELSE x.text = it[1] END, false)
  SET x.text = it[1], x.data = it[2], x.size = it[3], x.packed = it[4]
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
RETURN true

// name: unbroken
UNWIND range(0, size($spans) - 1) AS span
WITH span, $spans[span] AS it
MATCH (v:Version {namespace: $namespace, resource: it[1]})
WHERE v.n > it[2] AND v.n <= it[3]
MATCH (v)-[:HOLDS]->(p:Precondition)
WHERE p.id = it[0]
RETURN span, count(DISTINCT v.n) AS holding

// name: current_at
UNWIND $resources AS uri
MATCH (r:Resource {namespace: $namespace, uri: uri})
OPTIONAL MATCH (v:Version {namespace: $namespace, resource: uri})
WHERE v.n > 0 AND v.at > $at
WITH r, min(v.n) AS later
RETURN r.uri, coalesce(later - 1, r.current)

// name: event
MATCH (c:ChangeEvent {namespace: $namespace, id: $event})
RETURN c.at AS at

// name: changes
// `moment`: nanoseconds, under the resource's lock, which order what one millisecond does not. An
// event's own fields are read last: if it has them, it was there while the others were read.
MATCH (c:ChangeEvent)
WHERE c.namespace = $namespace AND c.moment >= $since
WITH c ORDER BY c.moment DESC LIMIT $limit
WITH c, [(c)-[change:CHANGED]->(f) |
  [f.key, f.selector, change.before, change.after, f.resource]] AS changed
RETURN [c.id, c.resource, coalesce(c.kind, 'changed'), c.from_version, c.to_version, c.source, c.at] AS event,
       changed
ORDER BY c.moment DESC

// name: changes_of_resource
MATCH (c:ChangeEvent)
WHERE c.namespace = $namespace AND c.resource = $resource AND c.moment >= $since
WITH c ORDER BY c.moment DESC LIMIT $limit
WITH c, [(c)-[change:CHANGED]->(f) |
  [f.key, f.selector, change.before, change.after, f.resource]] AS changed
RETURN [c.id, c.resource, coalesce(c.kind, 'changed'), c.from_version, c.to_version, c.source, c.at] AS event,
       changed
ORDER BY c.moment DESC

// name: resources_of_source
MATCH (r:Resource)
WHERE r.namespace = $namespace AND r.uri IS NOT NULL AND r.state = 'present'
MATCH (v:Version {namespace: $namespace, resource: r.uri, n: r.current})
WHERE v.source = $source
RETURN r.uri AS uri, r.current AS version

// name: selectors
MATCH (:Resource {namespace: $namespace, uri: $resource})-[:HAS_FACET]->(f)
RETURN f.selector AS selector, f.key AS key

// name: lease
// One that will be given in the future was given before the clock was set back. The time is that
// after the lock was waited for; a node that was deleted meanwhile has no name any more, and is
// nobody's.
MERGE (l:Lease {namespace: $namespace, name: $name})
SET l.lock = true
REMOVE l.lock
WITH l, datetime.realtime().epochMillis AS now
WHERE l.name = $name AND (
  l.owner IS NULL OR l.owner = $owner OR l.owner = $instead_of OR l.until <= now OR l.given > now
)
SET l.owner = $owner, l.given = now, l.until = now + $lasts, l.waits_for = $waits_for
RETURN true

// name: holder
MATCH (l:Lease {namespace: $namespace, name: $name})
WHERE l.owner IS NOT NULL
WITH l, datetime.realtime().epochMillis AS now
RETURN l.owner, l.given <= now AND now < l.until, coalesce(l.waits_for, [])

// name: release
MATCH (l:Lease {namespace: $namespace, name: $name})
SET l.lock = true
REMOVE l.lock
WITH l
WHERE l.owner = $owner
DELETE l
RETURN true
