// Queries that give equal rows on both stores, each after a blank line. Parameters: see test_cookbook.py.

MATCH (n {namespace:$namespace}) WHERE NOT n:ChangeEvent RETURN labels(n)[0] IS NOT NULL AS x, count(*) AS c

MATCH (n:Step {namespace:$namespace}) RETURN count(n), count(DISTINCT n.name), round(avg(n.position), 6), min(n.id), max(n.id), sum(n.input_tokens), collect(DISTINCT n.kind)

MATCH (c:ChangeEvent {namespace:$namespace})-[r:CHANGED]->(f) WITH r.before AS b, f MATCH (f)-[:HAS_VALUE]->(p:Precondition {fingerprint: b}) RETURN p.resource

MATCH (e:Execution {namespace:$namespace})-[:HAS_STEP {position: 3}]->(s:Step) RETURN s.id ORDER BY s.id

MATCH (s:Action {namespace:$namespace}) MATCH (e)-[:HAS_STEP]->(s) MATCH (e)-[:HAS_STEP {position: s.decision}]->(d) RETURN s.id, d.id ORDER BY s.id

MATCH (s:Step {namespace:$namespace}) MATCH (p:Precondition {id: s.invalidated_by}) RETURN count(*)

MATCH (s:Step {namespace:$namespace}) OPTIONAL MATCH (p:Precondition {id: s.invalidated_by}) RETURN s.id, p.resource ORDER BY s.id

MATCH (a:Step {namespace:$namespace})-[:FEEDS*]->(b:Step) RETURN a.id, count(b) AS c ORDER BY a.id

MATCH (a:Step {namespace:$namespace})-[:FEEDS*2..3]->(b:Step) RETURN count(*)

MATCH (a:Step {namespace:$namespace})-[:FEEDS*..2]->(b:Step) RETURN count(*)

MATCH (a:Step {namespace:$namespace})-[:FEEDS*2]->(b:Step) RETURN count(*)

MATCH (a:Step {namespace:$namespace})-[:FEEDS*0..]->(b:Step) RETURN count(*)

MATCH (a:Step {namespace:$namespace})-[:FEEDS*11..]->(b:Step) RETURN count(*)

MATCH (p:Precondition {namespace:$namespace})-[:GUARDS|FEEDS*1..]->(s) RETURN p.resource, count(DISTINCT s) AS c ORDER BY p.resource, c

MATCH (p:Precondition {namespace:$namespace})-[r:GUARDS|FEEDS*1..3]->(s) RETURN p.resource, s.id, size(r) AS n, type(r[0]) AS t ORDER BY p.resource, s.id, n

MATCH (a:Step {namespace:$namespace})<-[:FEEDS*]-(b:Step) WHERE a.position=5 RETURN a.id, collect(b.position) AS c ORDER BY a.id

MATCH (a:Step {namespace:$namespace}) WHERE a.id ENDS WITH '/3' RETURN a.id, [(a)-[:FEEDS]->(b) | b.position] AS n ORDER BY a.id

MATCH (a:Step {namespace:$namespace}) WHERE (a)-[:FEEDS]->() AND NOT (a)<-[:GUARDS]-() RETURN count(a)

MATCH (a:Step {namespace:$namespace}) WHERE NOT EXISTS { (a)<-[:FEEDS]-() } RETURN a.id ORDER BY a.id

MATCH (a:Step {namespace:$namespace}) WHERE NOT EXISTS { MATCH (a)<-[:FEEDS*3..]-(x) WHERE x.position = 0 } RETURN a.id ORDER BY a.id

MATCH (a:Execution {namespace:$namespace}) RETURN a.id, COUNT { (a)-[:HAS_STEP]->() } AS c ORDER BY a.id

MATCH (a:Execution {namespace:$namespace}) RETURN a.id, a.labels, a.miss, size(a.miss) AS n, a.cost, a.missing ORDER BY a.id

MATCH (a:Execution {namespace:$namespace}) WHERE 'new task' IN a.miss RETURN a.id ORDER BY a.id

MATCH (a:Execution {namespace:$namespace}) UNWIND a.miss AS m RETURN m, count(*) ORDER BY m

MATCH (a:Execution {namespace:$namespace}) RETURN a.agent AS agent, a.mode AS mode, count(*) AS c ORDER BY c DESC, agent, mode SKIP 1 LIMIT 3

MATCH (a:Execution {namespace:$namespace}) RETURN DISTINCT a.state ORDER BY a.state DESC

MATCH (a:Execution {namespace:$namespace}) WITH a.agent AS agent, collect(a.id) AS ids WHERE size(ids) > 1 RETURN agent, size(ids)

MATCH (a:Execution {namespace:$namespace}) RETURN CASE WHEN a.saved_tokens > 100 THEN 'much' WHEN a.saved_tokens IS NULL THEN 'none' ELSE 'some' END AS k, count(*) ORDER BY k

MATCH (a:Execution {namespace:$namespace}) RETURN CASE a.mode WHEN 'live' THEN 1 ELSE 0 END AS k, count(*) ORDER BY k

MATCH (a:Execution {namespace:$namespace}) RETURN sum(a.input_tokens)/count(*) AS x, sum(a.cost) AS y, 7/2 AS z, 7%3 AS w, 7.0/2 AS v, 2^3 AS u, -7/2 AS t

MATCH (a:Execution {namespace:$namespace}) RETURN min(a.reason), max(a.cost), count(a.reason), count(*)

MATCH (t:Task {namespace:$namespace}) RETURN t.id, t.name, t.title, t.type, t.label, t.key ORDER BY t.key

MATCH (n {namespace:$namespace}) WHERE n.name IS NULL AND NOT n:Value AND NOT n:ChangeEvent RETURN count(n)

MATCH (n {namespace:$namespace}) WHERE n.id IS NOT NULL RETURN count(n)

MATCH (n {namespace:$namespace}) WHERE n.title IS NULL RETURN count(n)

MATCH (n {namespace:$namespace}) WHERE n:Step OR n:Task RETURN coalesce(n.id, n.key) AS k ORDER BY k

MATCH (n:Step|Task {namespace:$namespace}) RETURN coalesce(n.id, n.key) AS k ORDER BY k

MATCH (n:Step {namespace:$namespace}) WHERE n.position IN $l RETURN count(n)

MATCH (n:Step {namespace:$namespace}) WHERE n.position IN [1,null] RETURN count(n)

MATCH (n:Step {namespace:$namespace}) WHERE NOT n.decision IN [0,2] RETURN count(n)

MATCH (n:Step {namespace:$namespace}) WHERE n.decision <> 0 RETURN count(n)

MATCH (n:Step {namespace:$namespace, id: $s}) RETURN n.id, n[$k] AS x

MATCH (n:Step {namespace:$namespace, id: $s}) RETURN n['id'] AS x, n['position'] AS y

MATCH (n:Execution {namespace:$namespace, id: $m.id}) RETURN n.id, $m AS m, $m.id AS i, $m.x AS x

MATCH (n:Step {namespace:$namespace, id: $s}) RETURN properties(n) AS p, n {.id, .name, x: 1, type: n.kind} AS q, n {.*} AS r

MATCH (n:Step {namespace:$namespace, id: $s})-[r]-(m) WHERE NOT m:SideEffect RETURN type(r), r, startNode(r) = n AS out ORDER BY type(r), out

MATCH p = shortestPath((a:Step {namespace:$namespace, id:'deploy-1/0'})-[:FEEDS*]->(b:Step {namespace:$namespace, id:'deploy-1/13'})) RETURN length(p)

MATCH (a:Step {namespace:$namespace, id:'deploy-1/0'}), (b:Step {namespace:$namespace, id:'deploy-1/13'}) MATCH p = shortestPath((a)-[:FEEDS*]->(b)) RETURN length(p), [n IN nodes(p) | n.position] AS x

MATCH p = allShortestPaths((a:Step {namespace:$namespace, id:'deploy-1/0'})-[:FEEDS*..30]->(b:Step {namespace:$namespace, id:'deploy-1/13'})) RETURN length(p)

MATCH (a:Step {namespace:$namespace})-[:FEEDS]->(b)-[:FEEDS]->(c) RETURN count(*)

MATCH (a:Step {namespace:$namespace})-->(b)<--(c) RETURN count(*)

MATCH (a:Step {namespace:$namespace})--(b) RETURN count(*)

MATCH (a:Precondition {namespace:$namespace})-[:GUARDS]->(s)<-[:GUARDS]-(b) RETURN count(*)

MATCH (a:Precondition {namespace:$namespace})-[:GUARDS]->(s), (b:Precondition)-[:GUARDS]->(s) RETURN count(*)

MATCH (a:Precondition {namespace:$namespace})-[:GUARDS]->(s) MATCH (b:Precondition)-[:GUARDS]->(s) RETURN count(*)

MATCH (a:Precondition {namespace:$namespace})-[:GUARDS]->(s) WITH a, s MATCH (s)<-[:GUARDS]-(b) WHERE a <> b RETURN count(*)

MATCH (a:Resource {namespace:$namespace}) OPTIONAL MATCH (a)-[:HAS_FACET]->(f)-[:HAS_VALUE]->(p)-[:GUARDS]->(s) RETURN a.uri, count(s) AS c, count(DISTINCT p) AS d ORDER BY a.uri

MATCH (a:Resource {namespace:$namespace}) OPTIONAL MATCH (a)-[:HAS_FACET]->(f) WHERE f.selector IS NOT NULL RETURN a.uri, f.selector ORDER BY a.uri

MATCH (a:Resource {namespace:$namespace}) WHERE a.until < timestamp() RETURN a.uri

MATCH (a:Resource {namespace:$namespace}) RETURN a.expired, a.expired = true AS t, a.expired IS NULL AS n, count(*) AS c ORDER BY c

MATCH (a:Resource {namespace:$namespace}) WHERE NOT a.expired RETURN count(*)

MATCH (v:Version {namespace:$namespace}) WHERE v.withdrawn RETURN v.resource, v.n

MATCH (v:Version {namespace:$namespace}) WHERE v.document IS NULL RETURN v.resource, v.n

MATCH (s:Step {namespace:$namespace}) WHERE s.name =~ 'dep.*' RETURN count(*)

MATCH (s:Step {namespace:$namespace}) WHERE s.name CONTAINS 'odel' OR s.name STARTS WITH 'de' RETURN count(*)

MATCH (s:Step {namespace:$namespace}) RETURN toUpper(s.name) AS u, left(s.id, 3) AS l, split(s.id, '/')[1] AS p, substring(s.id, 2) AS ss, replace(s.id,'/','-') AS r, size(s.id) AS n, reverse(s.name) AS rv, trim(' x ') AS t ORDER BY s.id LIMIT 5

MATCH (s:Step {namespace:$namespace}) RETURN toInteger('12') AS a, toFloat('1.5') AS b, toString(1.0) AS c, toString(true) AS d, round(2.5) AS e, abs(-3) AS f, ceil(1.2) AS g, floor(1.8) AS h, sqrt(4) AS i, sign(-2) AS j LIMIT 1

RETURN [1,2,3][0] AS a, [1,2,3][-1] AS b, [1,2,3][1..] AS c, range(0,6,2) AS d, head([1]) AS e, last([1,2]) AS f, tail([1,2]) AS g, [x IN range(1,5) WHERE x % 2 = 1 | x * x] AS h, reduce(a = 0, x IN [1,2] | a + x) AS i, size([1,2]) AS j, [1] + [2] AS k, 3 IN [1,2] AS l

RETURN any(x IN [1,2] WHERE x = 2) AS a, all(x IN [1,2] WHERE x > 0) AS b, none(x IN [1] WHERE x = 2) AS c, single(x IN [1,1] WHERE x = 1) AS d, null = null AS e, null IS NULL AS f, NOT null AS g, true XOR false AS h, 1 < 2 AS i, 'a' < 'b' AS j, coalesce(null, 2) AS k

RETURN 1 = 1.0 AS a, '1' = 1 AS b, [1,2] = [1,2] AS c, {a: 1} = {a: 1} AS d, 1 <> null AS e, [1,null] = [1,null] AS f

UNWIND [3,1,null,2] AS x RETURN x ORDER BY x

UNWIND [3,1,null,2] AS x RETURN x ORDER BY x DESC

UNWIND ['b','a','C','é','z','A'] AS x RETURN x ORDER BY x

UNWIND [1,'a',true,null,[1],2.5] AS x RETURN x ORDER BY x

UNWIND [1,2,2,null] AS x RETURN count(x), count(DISTINCT x), sum(x), avg(x), collect(x), min(x), max(x)

UNWIND [] AS x RETURN x

UNWIND null AS x RETURN x

UNWIND [[1,2],[3]] AS x UNWIND x AS y RETURN y

WITH 1 AS x RETURN x UNION RETURN 2 AS x

WITH 1 AS x RETURN x UNION ALL RETURN 1 AS x

WITH 1 AS x RETURN x UNION RETURN 1 AS x

CALL { MATCH (s:Action {namespace:$namespace}) RETURN count(s) AS c } RETURN c

MATCH (e:Execution {namespace:$namespace}) CALL (e) { MATCH (e)-[:HAS_STEP]->(s) RETURN count(s) AS c } RETURN e.id, c ORDER BY e.id

MATCH (e:Execution {namespace:$namespace}) CALL (e) { MATCH (e)-[:HAS_STEP]->(s) RETURN s ORDER BY s.position DESC LIMIT 1 } RETURN e.id, s.id ORDER BY e.id

MATCH (e:Execution {namespace:$namespace}) CALL { WITH e MATCH (e)-[:HAS_STEP]->(s) RETURN max(s.position) AS c } RETURN e.id, c ORDER BY e.id

MATCH (e:Execution {namespace:$namespace}) WITH e ORDER BY e.id LIMIT 3 MATCH (e)-[:HAS_STEP]->(s) RETURN e.id, count(s) AS c ORDER BY e.id

MATCH (e:Execution {namespace:$namespace}) WITH * WHERE e.mode = 'live' RETURN e.id ORDER BY e.id

MATCH (e:Execution {namespace:$namespace}) RETURN e.id AS id, e.state AS type ORDER BY id

MATCH (e:Execution {namespace:$namespace}) WITH e.id AS id, e.state AS title ORDER BY id RETURN id, title

MATCH (e:Execution {namespace:$namespace}) WITH {id: e.id, type: e.state, title: 1} AS m RETURN m.id, m.type, m.title, m ORDER BY m.id

MATCH (e:Execution {namespace:$namespace}) WITH collect(e) AS es UNWIND es AS x RETURN x.id ORDER BY x.id

MATCH (e:Execution {namespace:$namespace}) WITH collect(e {.id, .state}) AS es RETURN size(es) AS n

MATCH (e:Execution {namespace:$namespace}) WHERE e.id = 'deploy-1' MATCH (e)-[:HAS_STEP]->(s) WITH e, s ORDER BY s.position RETURN e.id, collect(s.position) AS p

MATCH (a:Execution {namespace:$namespace}), (b:Execution {namespace:$namespace}) WHERE a.id < b.id AND a.agent = b.agent RETURN count(*)

MATCH (a:Execution {namespace:$namespace})-[:REPLAYED]->(b) RETURN a.id, b.id ORDER BY a.id

MATCH (a:Execution {namespace:$namespace})-[:REPLAYED*1..]->(b) RETURN a.id, b.id ORDER BY a.id

MATCH (v:Value {namespace:$namespace}) RETURN count(v), sum(v.size), max(size(v.text))

MATCH (v:Value {namespace:$namespace}) WHERE v.text CONTAINS 'deploy' RETURN v.text ORDER BY v.text LIMIT 3

MATCH (s:Step {namespace:$namespace}) WHERE s.messages[0] IS NOT NULL MATCH (v:Value {namespace:$namespace, digest: s.messages[0]}) RETURN s.id, v.text ORDER BY s.id LIMIT 5

MATCH (s:Step {namespace:$namespace}) UNWIND s.messages AS m MATCH (v:Value {namespace:$namespace, digest: m}) RETURN s.id, v.text ORDER BY s.id LIMIT 5

MATCH (s:Step {namespace:$namespace}) WHERE s.error RETURN s.id ORDER BY s.id

MATCH (s:Step {namespace:$namespace}) WHERE s.error = true AND s.duration_ms = 0 RETURN s.id ORDER BY s.id

MATCH (s:Step {namespace:$namespace}) WITH s.execution AS e, min(s.position) AS a, max(s.position) AS b WHERE b - a > 5 RETURN e, a, b ORDER BY e

MATCH (s:Step {namespace:$namespace}) WITH s.execution AS e, count(*) AS c ORDER BY c DESC, e LIMIT 2 RETURN collect(e) AS es

MATCH (s:Step {namespace:$namespace}) WHERE s.position > 2 AND (s.name = 'deploy' OR s.kind = 'decision') AND NOT s.error RETURN count(*)

MATCH (x:SideEffect {namespace:$namespace})<-[:CAUSED]-(a)<-[:GUARDS]-(p) RETURN x.id, p.resource ORDER BY x.id, p.resource

MATCH (x:SideEffect {namespace:$namespace}) OPTIONAL MATCH (x)<-[:CAUSED]-(a) RETURN x.id, a.id, x.state ORDER BY x.id

MATCH (x:SideEffect {namespace:$namespace})<-[:PERFORMED]-(e) RETURN x.id, e.id, e.state, e.agent, e.mode, e.task, e.duration_ms ORDER BY x.id

MATCH (n:Nope) RETURN n

MATCH (n:Step {namespace:$namespace})-[:NOPE]->() RETURN n

MATCH (n:Step {namespace:$namespace}) RETURN n.nope, count(*)

MATCH (n:Step {namespace:$namespace}) RETURN n.position % 2 AS odd, n.name, sum(n.position) AS s ORDER BY s

MATCH (n:Step {namespace:$namespace}) RETURN n.name AS name, count(*) AS c, 100.0 * sum(CASE WHEN n.error THEN 1 ELSE 0 END) / count(*) AS pct ORDER BY name

MATCH (n:Step {namespace:$namespace}) RETURN exists { (n)-[:CAUSED]->() } AS x, count(*) AS c ORDER BY c

MATCH (n:Step {namespace:$namespace}) WHERE exists((n)-[:CAUSED]->()) RETURN n.id

MATCH (n:Step {namespace:$namespace}) WHERE n.kind = "decision" AND n.`name` = 'model-1' RETURN n.`id` ORDER BY n.`id` LIMIT 2

match (n:Step {namespace:$namespace}) where n.id = $s return n.id as `the id`

MATCH (n:Step {namespace:$namespace}) WHERE n.id = $s RETURN n.id + ' ' + n.name AS x, n.position + 1 AS y, n.position + ' ' + n.name AS z

MATCH (n:Step {namespace:$namespace}) WHERE n.id = $s RETURN n:Step AS a, n:Action AS b, n:Decision AS c, labels(n) AS l

MATCH (n:Step {namespace:$namespace}) WHERE n IS :: NODE RETURN count(n)

RETURN date('2024-03-01').year AS y, datetime({epochMillis: 1700000000000}) AS d, duration({days: 1}).days AS u

MATCH (e:Execution {namespace:$namespace, id:'deploy-1'}) RETURN datetime({epochMillis: e.started_at}) AS at, date(datetime({epochMillis: e.started_at})) AS day

MATCH (e:Execution {namespace:$namespace, id:'deploy-1'}) RETURN toString(datetime({epochMillis: e.started_at})) AS at

MATCH (a:Step {namespace:$namespace}) WHERE all(p IN [(a)<-[:GUARDS]-(x) | x.resource] WHERE p = 'acl:prod/deploy') RETURN a.id ORDER BY a.id

MATCH p=(a:Step {namespace:$namespace, position: 0})-[:FEEDS*]->(b) WHERE all(n IN nodes(p) WHERE n.state = 'valid') RETURN a.id, max(length(p)) AS l ORDER BY a.id

MATCH p=(a:Step {namespace:$namespace, position: 0})-[rs:FEEDS*]->(b) WHERE none(r IN rs WHERE r.fingerprint IS NULL) RETURN count(p)

MATCH (a:Step {namespace:$namespace, position: 0})-[:FEEDS* {fingerprint: 'x'}]->(b) RETURN count(*)

MATCH (a:Step {namespace:$namespace})-[r:FEEDS]->(b) WHERE r.fingerprint = a.output_key RETURN count(*)

MATCH (a:Step {namespace:$namespace}) MATCH (b:Step {namespace:$namespace, execution: a.execution, position: a.position + 1}) RETURN count(*)

UNWIND [1, 2] AS m MATCH (b:Step {namespace:$namespace, position: m}) RETURN count(*)

UNWIND $l AS m MATCH (b:Step {namespace:$namespace, position: $l[0]}) RETURN count(*)

MATCH (b:Step {namespace:$namespace, position: size($l)}) RETURN count(*)

MATCH (b:Step {namespace:$namespace, id: 'deploy' + '-1/' + toString(3)}) RETURN b.id

MATCH (b:Step {namespace:$namespace, id: split($s, ',')[0]}) RETURN b.id

MATCH (b:Step {namespace:$namespace, position: -1 + 4}) RETURN count(b)

MATCH (a:Execution {namespace:$namespace}) WITH a ORDER BY a.id WITH collect(a.id) AS ids MATCH (s:Step {namespace:$namespace, execution: ids[1]}) RETURN count(s)

MATCH (a:Execution {namespace:$namespace}) WITH a ORDER BY a.id WITH collect(a)[1] AS e MATCH (e)-[:HAS_STEP]->(s) RETURN e.id, count(s)

MATCH (n:Step {namespace:$namespace}) WHERE n.id = 'x' OR true RETURN count(*)

OPTIONAL MATCH (n:Nope) RETURN n, n.x

OPTIONAL MATCH (n:Step {namespace:$namespace, id: 'nope'}) RETURN n.id, count(n)

MATCH (n:Step {namespace:$namespace}) RETURN id(n) = id(n) AS x, elementId(n) = elementId(n) AS y LIMIT 1

RETURN 'it\'s \n \u00e9 "q"' AS a, "d'q" AS b

RETURN 1 AS a // comment with 'quote

RETURN /* id: .id */ {a: {id: 1, b: [{type: 2}]}} AS m

RETURN 9223372036854775807 AS a, -9223372036854775808 AS b

MATCH (n:Step {namespace:$namespace}) RETURN *, 1 AS x ORDER BY n.id LIMIT 1

MATCH (n:Step {namespace:$namespace}) WITH n ORDER BY n.id LIMIT 2 RETURN n.id, n . name, count( * )

MATCH (n:Execution {namespace:$namespace}) RETURN n.id ORDER BY n.started_at DESC, n.id LIMIT 3

MATCH (n:Execution {namespace:$namespace})-[:HAS_STEP]->(s) RETURN n.id, s.position ORDER BY n.id DESC, s.position DESC LIMIT 5

MATCH (n:Execution {namespace:$namespace}) WHERE n.cost > 0.01 RETURN count(*)

MATCH (n:Execution {namespace:$namespace}) WHERE n.started_at > 1700000000000 RETURN count(*)

MATCH (n:Step {namespace:$namespace}) WITH n ORDER BY n.kind, n.position, n.id RETURN n.kind, collect(n.position)[..2] AS p ORDER BY n.kind

MATCH (n:Execution {namespace:$namespace})-[:HAS_STEP]->(s:Step) WITH n, s ORDER BY n.id, s.position WITH n, collect(s) AS ss RETURN n.id, [x IN ss WHERE x.state = 'invalid' | x.id][0] AS first, size([x IN ss WHERE x.state='invalid']) AS c ORDER BY n.id

MATCH (f:Facet {namespace:$namespace}) WHERE NOT (f)-[:HAS_VALUE]->()-[:GUARDS]->() RETURN f.resource

MATCH (t:Task {namespace:$namespace}) WHERE NOT EXISTS { MATCH (t)-[:HAS_EXECUTION]->(e {state: 'published'}) } RETURN t.key ORDER BY t.key

MATCH (t:Task {namespace:$namespace}) WHERE COUNT { (t)-[:HAS_EXECUTION]->() } > 1 RETURN t.key

MATCH (t:Task {namespace:$namespace})-[:HAS_EXECUTION]->(e) RETURN t.key, sum(e.input_tokens) AS s, max(e.id) AS m ORDER BY s DESC, t.key

MATCH (r:Resource {namespace:$namespace})-[:HAS_VERSION]->(v) WITH r, v ORDER BY v.n DESC RETURN r.uri, collect(v.n) AS ns ORDER BY r.uri

MATCH (c:ChangeEvent {namespace:$namespace})-[:FROM]->(v)-[:HOLDS]->(p) RETURN c.kind, v.resource, v.n, p.selector ORDER BY c.kind, v.resource, v.n

MATCH (c:ChangeEvent {namespace:$namespace}) OPTIONAL MATCH (c)-[:FROM]->(v) OPTIONAL MATCH (c)-[:TO]->(w) RETURN c.kind, c.resource, c.from_version, c.to_version, v.n, w.n ORDER BY c.resource, c.to_version, c.kind

MATCH (c:ChangeEvent {namespace:$namespace})-[r:CHANGED]->(f) RETURN c.kind, f.resource, r.before IS NULL AS b, r.after IS NULL AS a ORDER BY c.kind, f.resource

MATCH (v:Version {namespace:$namespace})-[:HOLDS]->(p)<-[:HAS_VALUE]-(f)<-[:HAS_FACET]-(r)-[:HAS_VERSION]->(v) RETURN count(*)


WITH 1 AS `the id` RETURN `the id`, `the id` + 1, size(keys( {id: 1, b: 2}))

MATCH (n:Step {namespace:$namespace, id: $s}) RETURN n.`id` , n /* a comment */ .name, size([k IN keys(n) WHERE k STARTS WITH 'n']) AS k

MATCH (n:Step {namespace:$namespace}) RETURN percentileCont(n.position, 0.5), percentileDisc(n.duration_ms, 0.5) AS percentile_disc, timestamp () > 0

MATCH (n:Step {namespace:$namespace, id: $s}) WITH n.id AS id, n.name AS type RETURN *

MATCH (n:Action {namespace:$namespace, call: 0}) RETURN n.call, count(*)
