// Queries that Neo4j answers and SQLite refuses: it must never answer them otherwise.

MATCH (e:Execution {namespace:$namespace})-[h:HAS_STEP]->(s:Step) MATCH (e)-[:HAS_STEP]->(t:Step {position: h.position}) RETURN count(*)

MATCH (s:Action {namespace:$namespace})<-[:HAS_STEP]-(e)-[:HAS_STEP {position: s.decision}]->(d) RETURN s.id, d.id ORDER BY s.id

MATCH (s:Step {namespace:$namespace}), (p:Precondition {id: s.invalidated_by}) RETURN count(*)

MATCH (a:Execution {namespace:$namespace}) RETURN a.id, COUNT { (a)-[:HAS_STEP]->(s:Action WHERE s.error) } AS c ORDER BY a.id

MATCH (n:Step&Action {namespace:$namespace}) RETURN count(n)

MATCH (n:Step&!Action {namespace:$namespace}) RETURN count(n)

MATCH (n:!Step {namespace:$namespace}) WHERE NOT n:Value AND NOT n:ChangeEvent RETURN count(n)

MATCH (a:Resource {namespace:$namespace})-[:HAS_VERSION]->(v {n: a.current}) RETURN a.uri, v.n, v.withdrawn ORDER BY a.uri

MATCH (n:Step {namespace:$namespace}) RETURN n.position AS p, count(*) AS c ORDER BY count(*) DESC, p LIMIT 3

MATCH (a:Step {namespace:$namespace})-[r:FEEDS {fingerprint: a.output_key}]->(b) RETURN count(*)

MATCH (a:Step {namespace:$namespace} WHERE a.position > 3)-[r:FEEDS WHERE r.fingerprint IS NOT NULL]->(b) RETURN count(*)

MATCH (a:Step {namespace:$namespace}), (b:Step {namespace:$namespace, position: a.position}) RETURN count(*)

RETURN 0.1 + 0.2 AS a, 1e3 AS b, 0x1F AS c, 1_000 AS d

MATCH (n:Execution {namespace:$namespace}) WHERE 0 < n.steps <= 6 RETURN count(*)

MATCH (n:Step {namespace:$namespace})-[:FEEDS]->{1,3}(m) RETURN count(*)

MATCH (n:Step {namespace:$namespace}) ((a)-[:FEEDS]->(b)){1,3} (m) RETURN count(*)

MATCH ANY SHORTEST (a:Step {namespace:$namespace, id:'deploy-1/0'})-[:FEEDS]->+(b:Step {namespace:$namespace, id:'deploy-1/13'}) RETURN b.id

MATCH (n:Step {namespace:$namespace}) RETURN COLLECT { MATCH (n)-[:FEEDS]->(m) RETURN m.position } AS x LIMIT 1

MATCH (n:$('Step') {namespace:$namespace}) RETURN count(n)
