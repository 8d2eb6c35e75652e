// Package policy says who may do what in a mesh: a text of rules, signed by the mesh, and the decision that follows
// from it. It is pure but for the two functions that read and write a file.
//
//	peermesh-policy 1
//	mesh    aov3x...            written by Sign
//	version 4                   written by Sign; a node takes a higher one only
//	default deny                what no rule speaks of
//
//	# ID            EFFECT  WHO, VERB AND NAME: each narrows the rule, all must fit
//	rule sensors    allow   role=sensor verb=push name=telemetry.>
//	rule workers    allow   node=worker-* verb=pull,req
//	rule no-bob     deny    node=bob
//	revoke 7k3q...  reason="laptop stolen"
//	signature 3q2+...           written by Sign; the last line
//
// # Lines
//
// One statement a line, in any order but for the first and the last. Words are separated by spaces; a word that begins
// with # and all behind it is a comment. Values may be quoted as in Go, and must be where they hold a space, a comma or
// a quote. An unknown word, a doubled statement or a missing default is a *SyntaxError with its line: what is not
// understood is never skipped.
//
// A rule has an id of its own and any of these, of which every one must fit; of several values one is enough:
//
//	node=NAME        name of the node      * stands for any run of characters
//	namespace=NAME   its namespace         likewise
//	role=NAME        one of its roles      likewise
//	id=ID            its id, in full
//	verb=VERB        push, pull, pub, sub, req or rep
//	name=PATTERN     name of the queue, channel or service: a topic pattern, where * is one whole
//	                 token, > the rest, and prefix:x all that begins with x
//
// # Decision
//
// A deny that fits wins over every allow, wherever either stands; without a deny one allow is enough; without either
// the default holds. So the order of rules means nothing, and a rule that is added can only do what it says: no allow
// lifts a deny.
//
// A plain text rather than YAML, because what is signed should be what was read: it has one reading, its parser takes
// texts of strangers and is two screens long, and comments stay where they were.
package policy
