// The schema: one statement a section, each harmless when repeated. Keys are unique within a
// namespace; the constraint's index is what every MATCH and MERGE by key seeks.

// name: version
OPTIONAL MATCH (s:ExecgraphSchema {id: 'execgraph'})
RETURN max(s.version) AS version, max(s.store) AS store

// name: made
// A constraint has an index of its name.
SHOW INDEXES YIELD name
WHERE name STARTS WITH 'execgraph_'
RETURN collect(name) AS names

// name: create
// Each line is a statement of its own, named for what it makes.
CREATE CONSTRAINT execgraph_schema IF NOT EXISTS FOR (s:ExecgraphSchema) REQUIRE s.id IS UNIQUE
CREATE CONSTRAINT execgraph_task IF NOT EXISTS FOR (t:Task) REQUIRE (t.namespace, t.key) IS UNIQUE
CREATE CONSTRAINT execgraph_execution IF NOT EXISTS FOR (e:Execution) REQUIRE (e.namespace, e.id) IS UNIQUE
CREATE CONSTRAINT execgraph_step IF NOT EXISTS FOR (s:Step) REQUIRE (s.namespace, s.id) IS UNIQUE
CREATE CONSTRAINT execgraph_value IF NOT EXISTS FOR (v:Value) REQUIRE (v.namespace, v.digest) IS UNIQUE
CREATE CONSTRAINT execgraph_side_effect IF NOT EXISTS FOR (f:SideEffect) REQUIRE (f.namespace, f.id) IS UNIQUE
CREATE CONSTRAINT execgraph_once IF NOT EXISTS FOR (f:SideEffect) REQUIRE (f.namespace, f.once) IS UNIQUE
CREATE CONSTRAINT execgraph_approval IF NOT EXISTS FOR (a:Approval) REQUIRE (a.namespace, a.id) IS UNIQUE
CREATE CONSTRAINT execgraph_resource IF NOT EXISTS FOR (r:Resource) REQUIRE (r.namespace, r.uri) IS UNIQUE
CREATE CONSTRAINT execgraph_version IF NOT EXISTS FOR (v:Version) REQUIRE (v.namespace, v.resource, v.n) IS UNIQUE
CREATE CONSTRAINT execgraph_facet IF NOT EXISTS FOR (f:Facet) REQUIRE (f.namespace, f.key) IS UNIQUE
CREATE CONSTRAINT execgraph_precondition IF NOT EXISTS FOR (p:Precondition) REQUIRE (p.namespace, p.id) IS UNIQUE
CREATE CONSTRAINT execgraph_change_event IF NOT EXISTS FOR (c:ChangeEvent) REQUIRE (c.namespace, c.id) IS UNIQUE
CREATE CONSTRAINT execgraph_lease IF NOT EXISTS FOR (l:Lease) REQUIRE (l.namespace, l.name) IS UNIQUE
CREATE CONSTRAINT execgraph_daily_totals IF NOT EXISTS FOR (d:DailyTotals) REQUIRE (d.namespace, d.totals_of) IS UNIQUE
CREATE CONSTRAINT execgraph_collection IF NOT EXISTS FOR (c:Collection) REQUIRE c.of IS UNIQUE
CREATE CONSTRAINT execgraph_journal IF NOT EXISTS FOR (j:JournalEntry) REQUIRE (j.namespace, j.execution, j.number) IS UNIQUE
CREATE CONSTRAINT execgraph_wish IF NOT EXISTS FOR (w:Wish) REQUIRE (w.namespace, w.key) IS UNIQUE
CREATE CONSTRAINT execgraph_gate IF NOT EXISTS FOR (g:Gate) REQUIRE (g.of, g.number) IS UNIQUE
// A task that was replayed 100,000 times has as many executions, and at most 8 traces.
CREATE INDEX execgraph_traces IF NOT EXISTS FOR (e:Execution) ON (e.namespace, e.task, e.state)
CREATE INDEX execgraph_changes IF NOT EXISTS FOR (c:ChangeEvent) ON (c.namespace, c.moment)
CREATE INDEX execgraph_changes_of_resource IF NOT EXISTS FOR (c:ChangeEvent) ON (c.namespace, c.resource, c.moment)
CREATE INDEX execgraph_until IF NOT EXISTS FOR (r:Resource) ON (r.namespace, r.until)
CREATE INDEX execgraph_since IF NOT EXISTS FOR (r:Resource) ON (r.namespace, r.since)
CREATE INDEX execgraph_executions IF NOT EXISTS FOR (e:Execution) ON (e.namespace, e.started_at)
CREATE INDEX execgraph_executions_of_agent IF NOT EXISTS FOR (e:Execution) ON (e.namespace, e.agent, e.started_at)
CREATE INDEX execgraph_executions_of_state IF NOT EXISTS FOR (e:Execution) ON (e.namespace, e.state, e.started_at)
CREATE INDEX execgraph_executions_of_mode IF NOT EXISTS FOR (e:Execution) ON (e.namespace, e.mode, e.started_at)
CREATE INDEX execgraph_history IF NOT EXISTS FOR (e:Execution) ON (e.namespace, e.task, e.started_at)
CREATE INDEX execgraph_replays IF NOT EXISTS FOR (e:Execution) ON (e.namespace, e.replayed, e.started_at)
CREATE INDEX execgraph_suspected_values IF NOT EXISTS FOR (v:Value) ON (v.namespace, v.suspect)
CREATE INDEX execgraph_idle_preconditions IF NOT EXISTS FOR (p:Precondition) ON (p.namespace, p.suspect)
CREATE INDEX execgraph_journal_of_task IF NOT EXISTS FOR (j:JournalEntry) ON (j.namespace, j.task)
CREATE INDEX execgraph_journal_of_wish IF NOT EXISTS FOR (j:JournalEntry) ON (j.namespace, j.wish)
CREATE INDEX execgraph_wishes_of_task IF NOT EXISTS FOR (w:Wish) ON (w.namespace, w.task)
CREATE INDEX execgraph_wishes_of_execution IF NOT EXISTS FOR (w:Wish) ON (w.namespace, w.execution)
CREATE INDEX execgraph_wishes_by_age IF NOT EXISTS FOR (w:Wish) ON (w.namespace, w.at)
CREATE INDEX execgraph_effects_of_wish IF NOT EXISTS FOR (f:SideEffect) ON (f.namespace, f.wish)
CREATE INDEX execgraph_journal_by_age IF NOT EXISTS FOR (j:JournalEntry) ON (j.namespace, j.at)
CREATE INDEX execgraph_approvals_of_digest IF NOT EXISTS FOR (a:Approval) ON (a.namespace, a.digest, a.state)
CREATE INDEX execgraph_approvals_of_call IF NOT EXISTS FOR (a:Approval) ON (a.namespace, a.task, a.tool, a.requested_at)
CREATE INDEX execgraph_approvals IF NOT EXISTS FOR (a:Approval) ON (a.namespace, a.state, a.requested_at)
CREATE INDEX execgraph_walks IF NOT EXISTS FOR (c:ChangeEvent) ON (c.namespace, c.walk)
CREATE INDEX execgraph_walks_of_executions IF NOT EXISTS FOR (e:Execution) ON (e.namespace, e.walk)

// name: drop_change_event_of_version
// Of version 1: an expired version has several events.
DROP CONSTRAINT execgraph_change_event_of_version IF EXISTS

// name: await_indexes
CALL db.awaitIndexes(300)

// name: upgrade_changes
MATCH (c:ChangeEvent)
WHERE c.kind IS NULL
CALL (c) {
  SET c.kind = CASE WHEN c.withdrawn THEN 'withdrawn' ELSE 'changed' END
  REMOVE c.withdrawn
} IN TRANSACTIONS OF 5000 ROWS

// name: upgrade_marks
// Nothing was marked before version 2.
MATCH (e:Execution)-[:HAS_STEP]->(s:Step)
WHERE s.state IS NULL
WITH e, collect(s) AS steps
CALL (e, steps) {
  SET e.lock = true
  REMOVE e.lock
  FOREACH (s IN steps | SET s.state = coalesce(s.state, 'valid'))
  FOREACH (_ IN CASE e.state WHEN 'published' THEN [1] ELSE [] END | SET e.walk = 'open')
} IN TRANSACTIONS OF 500 ROWS

// name: upgrade_misses
// Of runs before version 4 it is not told which cause made them ask: all is put down to the first.
MATCH (e:Execution|DailyTotals)
WHERE e.miss_tokens IS NULL AND size(e.miss) > 0
CALL (e) {
  SET e.miss_asked = [i IN range(0, size(e.miss) - 1) | 0],
      e.miss_tokens = [i IN range(0, size(e.miss) - 1) | CASE i WHEN 0 THEN e.input_tokens
        + e.output_tokens + e.cache_creation_input_tokens + e.cache_read_input_tokens ELSE 0 END]
} IN TRANSACTIONS OF 5000 ROWS

// name: set_version
// Written last: whoever reads this version finds the whole schema.
MERGE (s:ExecgraphSchema {id: 'execgraph'})
SET s.version = CASE WHEN s.version > $version THEN s.version ELSE $version END,
    s.store = coalesce(s.store, randomUUID())
RETURN s.version AS version, s.store AS store
